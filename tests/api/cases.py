"""What the tests of the transport make their cases from: certificates, credentials, a clock, a client."""

from __future__ import annotations

import functools
import itertools
import ssl
from collections.abc import Callable
from typing import Any

import trustme

from kpo_multicluster.api.client import ApiClient
from kpo_multicluster.api.retry import Clock, RetryPolicy
from kpo_multicluster.auth.access import ClusterAccess, Token, TokenSource

SOURCE = "context 'test' of /etc/kubeconfig"
PODS = "/api/v1/namespaces/default/pods"
EXEC = f"{PODS}/x/exec"
LOG = f"{PODS}/x/log"
QUICK = RetryPolicy(budget_seconds=5.0, first_delay_seconds=0.001, max_delay_seconds=0.01)


class Certificates:
    """A CA, and what it signed."""

    def __init__(self) -> None:
        self.ca = trustme.CA()
        self.other_ca = trustme.CA()

    @property
    def ca_pem(self) -> str:
        return self.ca.cert_pem.bytes().decode()

    def server_context(self, name: str = "127.0.0.1", *, ask_client: bool = False) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(name).configure_cert(context)
        if ask_client:
            context.verify_mode = ssl.CERT_REQUIRED
            self.ca.configure_trust(context)
        return context

    def client(self, name: str = "client.test") -> tuple[str, str]:
        """A client certificate and its key, PEM."""
        leaf = self.ca.issue_cert(name, common_name=name)
        chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
        return chain.decode(), leaf.private_key_pem.bytes().decode()


class Tokens:
    """Makes `token-1`, `token-2`, ...; counts how many."""

    def __init__(self) -> None:
        self.made = 0
        self.source = TokenSource(self._fetch, source="a test")

    def _fetch(self) -> Token:
        self.made += 1
        return Token(f"token-{self.made}")


class FakeClock:
    """Time that passes only by sleeping; delays are always the upper bound."""

    def __init__(self, before_sleep: Callable[[], None] | None = None) -> None:
        self.time = 0.0
        self.slept: list[float] = []
        self._before_sleep = before_sleep

    def clock(self) -> Clock:
        return Clock(now=lambda: self.time, sleep=self._sleep, draw=lambda upper: upper)

    async def _sleep(self, seconds: float) -> None:
        if self._before_sleep is not None:
            self._before_sleep()
        self.slept.append(round(seconds, 3))
        self.time += seconds


def access(url: str, **more: Any) -> ClusterAccess:
    return ClusterAccess(url, SOURCE, **more)


def client(url: str, *, retry: RetryPolicy = QUICK, clock: Clock | None = None, **more: Any) -> ApiClient:
    """A client of a server; what `ApiClient` does not take goes to `ClusterAccess`."""
    own = {name: more.pop(name) for name in ("connect_timeout_seconds", "request_timeout_seconds") if name in more}
    return ApiClient(access(url, **more), retry=retry, clock=clock or Clock(), **own)


def error_chain(error: BaseException) -> list[BaseException]:
    """An error with all that hangs on it."""
    found: list[BaseException] = []
    queue: list[BaseException | None] = [error]
    while queue:
        item = queue.pop()
        if item is not None and item not in found:
            found.append(item)
            queue += [item.__cause__, item.__context__]
    return found


@functools.cache
def payload(size: int) -> bytes:
    """Bytes in which a lost or doubled part shows."""
    return b"".join(b"%d," % number for number in itertools.islice(itertools.count(), size // 4))[:size]
