from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from .cases import Certificates
from .servers import FakeApi

_PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def _no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture(scope="session")
def certificates() -> Certificates:
    return Certificates()


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    """An API server without TLS; handlers are up to the test."""
    server = FakeApi()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def tls_api(certificates: Certificates) -> AsyncIterator[FakeApi]:
    """An API server with TLS, at 127.0.0.1."""
    server = FakeApi()
    await server.start(certificates.server_context())
    yield server
    await server.stop()
