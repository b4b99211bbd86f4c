"""A relay in front of an API server, run by a thread of its own, for runs that block."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from urllib.parse import urlsplit

from kpo_multicluster.auth.access import ClusterAccess
from kpo_multicluster.testing.loop_thread import LoopThread

from ..contract.cuts import Relay


class _Beside(Relay):
    """Listens at the server's own host, which is the one its certificate names."""

    async def __aenter__(self) -> Relay:
        self._server = await asyncio.start_server(self._serve, self._host, 0)
        return self


class BlockingRelay:
    """Carries connections until they are cut."""

    def __init__(self, thread: LoopThread[Relay]) -> None:
        self._thread = thread

    @property
    def url(self) -> str:
        """Where it listens."""
        server = self._thread.running()._server
        assert server is not None
        host, port = server.sockets[0].getsockname()[:2]
        return f"https://{host}:{port}"

    def cut(self) -> int:
        """Cuts all connections; gives back how many there were."""

        async def cut() -> int:
            return self._thread.running().cut()

        return self._thread.call(cut())


@contextlib.contextmanager
def relay_to(url: str) -> Iterator[BlockingRelay]:
    """A relay to an API server, while in the `with` block."""
    parts = urlsplit(url)
    access = ClusterAccess(server=f"https://{parts.hostname}:{parts.port}", source="the relay")
    thread: LoopThread[Relay] = LoopThread("relay", lambda: _Beside(access))
    thread.start()
    try:
        yield BlockingRelay(thread)
    finally:
        thread.stop()
