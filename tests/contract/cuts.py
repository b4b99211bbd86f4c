"""Two ways to cut a log stream: at an exact byte in the client, and at the connection by a relay on loopback."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from kpo_multicluster.api.client import ApiClient
from kpo_multicluster.api.connection import Params
from kpo_multicluster.auth.access import ClusterAccess
from kpo_multicluster.errors import ConnectError


@dataclass(frozen=True)
class Cut:
    """Where a stream breaks off: so many bytes after a text in it was passed.

    Attributes:
        text: to wait for.
        extra: bytes let through after it, or withheld of it if negative.
        hold: keep the next stream from being opened until `open_again` is set.
    """

    text: str
    extra: int = 0
    hold: bool = False

    def position(self, so_far: bytearray, searched: int) -> int | None:
        """How many bytes of a stream are let through; None while the text has not come.

        Args:
            so_far: all of it.
            searched: how much of it was there the last time.
        """
        text = self.text.encode()
        found = so_far.find(text, max(0, searched - len(text)))
        return None if found < 0 else found + len(text) + self.extra


class CuttingClient(ApiClient):
    """Breaks off one stream after the other, as a connection does that is lost.

    Args:
        access: the cluster.
        cuts: where the first, the second, ... stream breaks off; those after the last are whole.

    Attributes:
        parameters: of each stream that was opened.
        open_again: what streams wait for, after a cut that holds.
        was_cut: set whenever a stream was cut.
    """

    def __init__(self, access: ClusterAccess, cuts: Iterable[Cut]) -> None:
        super().__init__(access)
        self._cuts = iter(cuts)
        self.parameters: list[dict[str, Any]] = []
        self.open_again = asyncio.Event()
        self.open_again.set()
        self.was_cut = asyncio.Event()

    async def __aenter__(self) -> CuttingClient:
        return self

    async def stream(
        self, path: str, *, params: Params | None = None, idle_seconds: float | None = None
    ) -> AsyncGenerator[bytes, None]:
        await self.open_again.wait()
        self.parameters.append(dict(params or {}))
        cut, so_far, given, at = next(self._cuts, None), bytearray(), 0, None
        async with contextlib.aclosing(super().stream(path, params=params, idle_seconds=idle_seconds)) as parts:
            async for part in parts:
                if cut is None:
                    yield part
                    continue
                searched = len(so_far)
                so_far += part
                at = cut.position(so_far, searched) if at is None else at
                end = len(so_far) if at is None else min(at, len(so_far))
                if end > given:
                    yield bytes(so_far[given:end])
                    given = end
                if at is not None and given >= at:
                    self.was_cut.set()
                    if cut.hold:
                        self.open_again.clear()
                    raise ConnectError("cut by the test")


class Relay:
    """Carries connections to a cluster's API server, until they are cut; an async context manager."""

    def __init__(self, access: ClusterAccess) -> None:
        self._access = access
        address = urlsplit(access.server)
        self._host, self._port = str(address.hostname), address.port or 443
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Relay:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def access(self) -> ClusterAccess:
        """The cluster, by way of the relay."""
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        return replace(self._access, server=f"https://127.0.0.1:{port}", tls_server_name=self._host)

    def cut(self) -> int:
        """Cuts all connections; gives back how many there were."""
        writers, self._writers = self._writers, set()
        for writer in writers:
            writer.transport.abort()
        return len(writers) // 2

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward_reader, onward = await asyncio.open_connection(self._host, self._port)
        self._writers |= {writer, onward}
        for source, sink in ((reader, onward), (onward_reader, writer)):
            task = asyncio.create_task(self._carry(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
        sink.close()
