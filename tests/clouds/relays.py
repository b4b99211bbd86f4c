"""A relay in front of an API server that is cut now and then, in threads of its own, for runs that block."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
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


class Cutter:
    """Cuts all connections of a relay at certain moments, in a thread of its own, while in the `with` block.

    Args:
        relay: whose connections.
        moments: each tells whether it is time for one more cut.
        before: done before each.
        after: done after the last.

    Attributes:
        cuts: how often there was something to cut.
    """

    def __init__(
        self,
        relay: BlockingRelay,
        moments: Sequence[Callable[[], bool]],
        *,
        before: Callable[[], object] = lambda: None,
        after: Callable[[], object] = lambda: None,
    ) -> None:
        self.cuts = 0
        self._relay, self._moments, self._before, self._after = relay, moments, before, after
        self._over = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="cutter")

    def __enter__(self) -> Cutter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _work(self) -> None:
        try:
            for come in self._moments:
                while not come():
                    if self._over.wait(0.02):
                        return
                self._before()
                self.cuts += self._relay.cut() > 0
            self._after()
        except Exception as failure:
            self._failure = failure
