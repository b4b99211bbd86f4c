"""Lets what comes in very many small pieces gather into fewer, larger ones.

An API server sends a log that is followed line by line. A line that wakes this process for itself costs more than it is
worth, takes the interpreter from the thread that logs the lines before it, and the processor from who writes them.
"""

from __future__ import annotations

import asyncio

import aiohttp

# From 640 kB a second on.
_BURST_BYTES = 64 * 1024
_BURST_SECONDS = 0.1
_REST_SECONDS = 0.02


class Pace:
    """That at which one answer is read.

    Args:
        response: whose body is being read.
    """

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self._since = 0.0
        self._size = 0

    async def read(self, size: int) -> None:
        """Counts bytes that were read; rests after many in a short time.

        While it rests, they gather in the kernel, which holds the sender back only when its buffer is full.
        """
        now = asyncio.get_running_loop().time()
        if now - self._since >= _BURST_SECONDS:
            self._since, self._size = now, 0
        self._size += size
        if self._size < _BURST_BYTES:
            return
        self._size = 0
        if (transport := self._transport) is not None:
            transport.pause_reading()
            try:
                await asyncio.sleep(_REST_SECONDS)
            finally:
                if (transport := self._transport) is not None:
                    transport.resume_reading()

    @property
    def _transport(self) -> asyncio.Transport | None:
        # None once all has come, or the connection is lost.
        connection = self._response.connection
        return None if connection is None else connection.transport
