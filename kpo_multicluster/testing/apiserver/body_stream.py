"""Answers that are written piece by piece, and may be cut off on purpose."""

from __future__ import annotations

from aiohttp import web

from kpo_multicluster.testing.faults import Cut


class StreamCutError(Exception):
    """The answer was broken off, and the connection closed under it."""


class BodyStream:
    """The body of one answer.

    Args:
        request: that is being answered.
        response: to write; its status and headers are set.
        cut: where to break off; None for nowhere.
    """

    def __init__(self, request: web.BaseRequest, response: web.StreamResponse, cut: Cut | None) -> None:
        self._request = request
        self.response = response
        self._bytes_left = cut.after_bytes if cut else None
        self._lines_left = cut.after_lines if cut else None

    async def start(self) -> None:
        """Sends the headers."""
        await self.response.prepare(self._request)
        await self._break_if_due()

    async def write(self, data: bytes) -> None:
        """Sends a piece.

        Raises:
            StreamCutError: the answer ends here, by a fault.
            ConnectionError: the client went away.
        """
        if not data:
            return
        await self.response.write(self._allowed(data))
        await self._break_if_due()

    def _allowed(self, data: bytes) -> bytes:
        if self._bytes_left is not None:
            data = data[: self._bytes_left]
            self._bytes_left -= len(data)
        elif self._lines_left is not None:
            pieces = data.split(b"\n")
            complete = len(pieces) - 1
            if complete >= self._lines_left:
                data = b"".join(piece + b"\n" for piece in pieces[: self._lines_left])
            self._lines_left = max(0, self._lines_left - complete)
        return data

    async def _break_if_due(self) -> None:
        if self._bytes_left == 0 or self._lines_left == 0:
            # Closed in order, so that all that was written arrives; the missing end of the body tells of the cut.
            if self._request.transport is not None:
                self._request.transport.close()
            raise StreamCutError
