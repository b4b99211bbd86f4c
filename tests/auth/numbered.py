"""Access to a server of the tests, by tokens that it is told of."""

from __future__ import annotations

from typing import Any

from kpo_multicluster.auth.access import ClusterAccess, Token, TokenSource


class NumberedTokens:
    """Numbered tokens, each accepted by the server that it is told of."""

    def __init__(self, server: Any, clock: Any, life: float | None = None) -> None:
        self.server, self.clock, self.life, self.count = server, clock, life, 0
        self.source = TokenSource(self, source="test", clock=clock)

    def __call__(self) -> Token:
        self.count += 1
        self.server.accepted = {f"t{self.count}"}
        return Token(f"t{self.count}", None if self.life is None else self.clock() + self.life)


def access(server: Any, source: TokenSource | None, **fields: Any) -> ClusterAccess:
    return ClusterAccess(
        **{"server": server.url, "source": "context 'gpu' of /k", "ca_pem": server.ca_pem, "tokens": source, **fields}
    )
