"""`ClusterAccess`: all that is needed to talk to one API server, in one frozen value, with credentials that renew.

`TokenSource` owns the life of a credential. It is asked before every request; it renews ahead of expiry, one renewal
at a time whatever the number of threads, and once more when a server refused what it gave.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from kpo_multicluster.errors import CredentialError, KpoMulticlusterError

# Renew this long before the end, or at 80 % of the life where that is later (a token of a few seconds).
_MARGIN_SECONDS = 60.0
_MARGIN_FRACTION = 0.2
# After a failed renewal the old credential serves on while it lasts; asked again no sooner than this.
_RENEWAL_BACKOFF_SECONDS = 5.0


@dataclass(frozen=True)
class Token:
    """A credential and its end.

    Attributes:
        value: the bearer token; empty when the credential is a client certificate alone.
        expires_at: Unix time in seconds; None when it does not expire as far as anyone knows.
        client_certificate: PEM, from exec plugins that answer with one.
        client_key: PEM, belonging to it.
    """

    value: str = field(repr=False)
    expires_at: float | None = None
    client_certificate: str | None = field(default=None, repr=False)
    client_key: str | None = field(default=None, repr=False)


class TokenSource:
    """A token that is always fresh.

    Args:
        fetch: makes a new token; may block; raises `CredentialError` with the cause.
        source: where the credential comes from, for messages.
        clock: Unix time in seconds; a test gives its own.
    """

    def __init__(self, fetch: Callable[[], Token], *, source: str, clock: Callable[[], float] = time.time) -> None:
        self.source = source
        self._fetch = fetch
        self._clock = clock
        # One value, so that a reader without the lock never pairs a token with the end of another.
        self._held: tuple[Token, float | None] | None = None
        self._locks: dict[int, threading.Lock] = {}
        self._listeners: list[Callable[[Token], None]] = []

    def fresh(self) -> Token | None:
        """The token if it needs no renewal, without blocking; else None."""
        held = self._held
        if held is None:
            return None
        token, renew_at = held
        return token if renew_at is None or self._clock() < renew_at else None

    def current(self) -> Token:
        """A token that has not expired; renews it first when its end is near. May block.

        While another thread renews it, the one there is serves on until its end.

        Raises:
            CredentialError: it could not be made, and none is left that is still good.
        """
        token = self.fresh()
        if token is not None:
            return token
        guard = self._guard()
        if not guard.acquire(blocking=False):
            token = self._lasting()
            if token is not None:
                return token
            guard.acquire()
        try:
            token = self.fresh()
            return token if token is not None else self._renew()
        finally:
            guard.release()

    def replace(self, refused: Token) -> Token:
        """A token to use after the server refused `refused`; another thread's renewal counts. May block.

        Raises:
            CredentialError: it could not be made.
        """
        with self._guard():
            token = self.fresh()
            return token if token is not None and token is not refused else self._store(self._fetch())

    def announce_to(self, listener: Callable[[Token], None]) -> None:
        """Tells `listener` of the token there is, and of each that follows it.

        Args:
            listener: called on whichever thread made the token, before anyone is given it; raises nothing.
        """
        self._listeners.append(listener)
        held = self._held
        if held is not None:
            listener(held[0])

    def _guard(self) -> threading.Lock:
        # A lock held by another thread at the moment of a fork stays locked for ever in the child: one a process.
        return self._locks.setdefault(os.getpid(), threading.Lock())

    def _renew(self) -> Token:
        try:
            return self._store(self._fetch())
        except KpoMulticlusterError:
            old = self._lasting()
            if old is None:
                raise
            self._held = (old, self._clock() + _RENEWAL_BACKOFF_SECONDS)
            return old

    def _lasting(self) -> Token | None:
        """The token there is if it has not ended, whether or not it should be renewed."""
        held = self._held
        if held is None:
            return None
        token, _ = held
        return token if token.expires_at is None or self._clock() < token.expires_at else None

    def _store(self, token: Token) -> Token:
        renew_at = None
        if token.expires_at is not None:
            life = max(0.0, token.expires_at - self._clock())
            renew_at = token.expires_at - min(_MARGIN_SECONDS, life * _MARGIN_FRACTION)
        for listener in tuple(self._listeners):
            listener(token)
        self._held = (token, renew_at)
        return token


def static_token(value: str, *, source: str) -> TokenSource:
    """A source for a token that cannot be renewed.

    A server that refuses it is told by an error that names `source`, rather than by the same token again.
    """
    handed_out = False

    def fetch() -> Token:
        nonlocal handed_out
        if handed_out:
            raise CredentialError(
                f"The API server refused the token from {source}, and a fixed token cannot be renewed. "
                "It has probably expired or been revoked: replace it there.",
                final=True,
            )
        handed_out = True
        return Token(value)

    return TokenSource(fetch, source=source)


@dataclass(frozen=True)
class ClusterAccess:
    """How to reach one API server, and as whom.

    Attributes:
        server: base URL, without a trailing slash.
        source: where this came from, for messages, such as "context 'gpu' of /etc/kubeconfig".
        ca_pem: CAs to trust, PEM; None for the system's.
        tokens: credentials that renew: bearer tokens, or client certificates. None when one client certificate
            identifies the caller for good.
        client_certificate: PEM.
        client_key: PEM.
        tls_server_name: the name to ask for and to verify in place of the server's host.
        verify_tls: False accepts any certificate.
        proxy_url: http, https or socks5 proxy of this cluster; overrides the environment's.
        headers: sent with every request, such as impersonation. A name may occur more than once (one
            `Impersonate-Group` a group): the value is then a multidict, so copy it with `CIMultiDict`, not `dict`.
        namespace: the namespace to use when the task names none.
        explain: what the cloud knows of why a request was refused: findings, one sentence or more each. It may block
            and ask the cloud, and raises nothing. None where no cloud is involved.
    """

    server: str
    source: str
    ca_pem: str | None = field(default=None, repr=False)
    tokens: TokenSource | None = field(default=None, repr=False)
    client_certificate: str | None = field(default=None, repr=False)
    client_key: str | None = field(default=None, repr=False)
    tls_server_name: str | None = None
    verify_tls: bool = True
    proxy_url: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    namespace: str | None = None
    explain: Callable[[KpoMulticlusterError], list[str]] | None = field(default=None, repr=False, compare=False)

    @property
    def fingerprint(self) -> str:
        """Twelve hex digits that tell clusters apart in messages: of the server's address and CA."""
        return hashlib.sha256(f"{self.server}\n{self.ca_pem or ''}".encode()).hexdigest()[:12]
