"""A TLS connection as a plain socket, so that another TLS connection can run inside it.

asyncio can put TLS on TLS only from Python 3.11 on, and reports a failed inner handshake properly only from 3.11.8 and
3.12.2 on. With a pair of sockets in between neither connection knows of the other.
"""

from __future__ import annotations

import asyncio
import socket
from typing import cast


async def relay_socket(outer: asyncio.Transport, open_relays: set[asyncio.Future[None]]) -> socket.socket:
    """A socket whose traffic `outer` carries; the end of one ends the other.

    Args:
        outer: what carries; nothing that it received may be left unread, and it may be paused.
        open_relays: holds a future for the outer connection for as long as that is open.
    """
    near, far = socket.socketpair()
    try:
        inward, outward = _End(), _End(flush_peer=True)
        inward.peer, outward.peer = outward, inward
        near.setblocking(False)
        await asyncio.get_running_loop().connect_accepted_socket(lambda: inward, far)
    except BaseException:
        near.close()
        far.close()
        outer.abort()
        raise
    open_relays.add(outward.closed)
    outward.closed.add_done_callback(open_relays.discard)
    outer.set_protocol(outward)
    outward.connection_made(outer)
    outer.resume_reading()
    return near


class _End(asyncio.Protocol):
    """Hands what it receives to its peer, no faster than that takes it.

    Args:
        flush_peer: once this end is lost, whether the peer still sends what it was handed. Towards the proxy nobody
            waits for it any more, and TLS would wait for a farewell.
    """

    peer: _End

    def __init__(self, *, flush_peer: bool = False) -> None:
        self._flush_peer = flush_peer
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self.peer._transport is not None:
            self.peer._transport.write(data)

    def pause_writing(self) -> None:
        if self.peer._transport is not None:
            self.peer._transport.pause_reading()

    def resume_writing(self) -> None:
        if self.peer._transport is not None:
            self.peer._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            # Python 3.10 takes a TLS transport that its peer closed for one that was forgotten.
            self._transport.close()
            self._transport = None
        if not self.closed.done():
            self.closed.set_result(None)
        other = self.peer._transport
        if other is not None and self._flush_peer:
            other.close()
        elif other is not None:
            other.abort()
