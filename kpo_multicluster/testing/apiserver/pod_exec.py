"""The `exec` address of pods: the WebSocket channel protocols v5 and v4 of remotecommand.

A binary frame is one byte of channel number and data. v5 adds a frame of 255 and a channel, by which the client closes
that channel. The server ends with a `Status` on the error channel.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from aiohttp import WSMsgType, web

from kpo_multicluster.testing.apiserver.body_stream import StreamCutError
from kpo_multicluster.testing.apiserver.status import StatusError, bad_request, internal_error
from kpo_multicluster.testing.faults import Cut
from kpo_multicluster.testing.interfaces import STDERR, STDOUT, ExecSession, Node

STDIN: Final = 0
ERROR: Final = 3
CLOSE: Final = 255
V5 = "v5.channel.k8s.io"
V4 = "v4.channel.k8s.io"

_SUCCESS = {"metadata": {}, "status": "Success"}


@dataclass(frozen=True)
class ExecOptions:
    """The query of an exec, as core/v1 `PodExecOptions` defines it."""

    command: tuple[str, ...]
    container: str
    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool

    def of(self, container: str) -> ExecOptions:
        """The same, in the container that is meant."""
        return replace(self, container=container)


def exec_options(query: Mapping[str, str], command: Sequence[str]) -> ExecOptions:
    """What an exec asks for.

    Args:
        query: without the repeated `command`.
        command: its values, in order.
    """
    flags = {key: query.get(key, "").lower() in ("1", "true") for key in ("stdin", "stdout", "stderr", "tty")}
    return ExecOptions(tuple(command), query.get("container", ""), **flags)


def check_upgrade(request: web.BaseRequest, options: ExecOptions) -> None:
    """Refuses what a kubelet refuses before it opens streams.

    Raises:
        StatusError: 400.
    """
    if not options.command:
        raise bad_request("you must specify at least 1 command")
    if not (options.stdin or options.stdout or options.stderr):
        raise bad_request("you must specify at least 1 of stdin, stdout, stderr")
    if request.headers.get("Upgrade", "").lower() != "websocket":
        raise bad_request("Upgrade request required")


async def serve_exec(
    request: web.BaseRequest, node: Node, pod: Mapping[str, Any], options: ExecOptions, cut: Cut | None
) -> web.StreamResponse:
    """Runs a command and carries its streams.

    Raises:
        StatusError: 500, with v4 only: the command's container is not there. With v5 it is told in the stream.
    """
    offered = [name.strip() for name in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
    if V5 not in offered and V4 not in offered:
        raise bad_request(
            f"unable to upgrade: unable to negotiate protocol: client supports {offered}, server {V5}, {V4}"
        )
    socket = web.WebSocketResponse(protocols=(V5, V4), compress=False, max_msg_size=0)
    session: ExecSession | None = None
    status: Mapping[str, Any] = _SUCCESS
    try:
        session = await node.exec(
            pod["metadata"]["uid"], options.container, options.command, stdin=options.stdin, tty=options.tty
        )
    except LookupError as error:
        text = str(error.args[0]) if error.args else str(error)
        if V5 not in offered:
            raise StatusError(500, "", text) from None
        status = _bare(internal_error(f"unable to upgrade connection: {text}"))
    except OSError as error:
        status = _not_started(options.command[0], error)
    await socket.prepare(request)
    if session is not None:
        try:
            status = await _Channel(request, socket, session, options, cut).run()
        except (StreamCutError, ConnectionError):
            return socket
        finally:
            await session.kill()
    if not socket.closed:
        await socket.send_bytes(bytes((ERROR,)) + json.dumps(status, separators=(",", ":")).encode())
        await socket.close()
    return socket


def _bare(error: StatusError) -> Mapping[str, Any]:
    """A `Status` as it is written in a stream: without its kind and version."""
    return {key: value for key, value in error.body.items() if key not in ("kind", "apiVersion")}


def _not_started(program: str, error: OSError) -> Mapping[str, Any]:
    if isinstance(error, FileNotFoundError) and "/" not in program:
        why = f'exec: "{program}": executable file not found in $PATH'
    elif isinstance(error, FileNotFoundError):
        why = f'exec: "{program}": stat {program}: no such file or directory'
    elif isinstance(error, PermissionError):
        why = f'exec: "{program}": permission denied'
    else:
        why = f'exec: "{program}": {error.strerror or error}'
    runtime = f"OCI runtime exec failed: exec failed: unable to start container process: {why}: unknown"
    return _bare(internal_error(f"error executing command in container: failed to exec in container: {runtime}"))


def _exit_status(command: Sequence[str], code: int) -> Mapping[str, Any]:
    if code == 0:
        return _SUCCESS
    shown = f"error executing command [{' '.join(command)}], exit code {code}"
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: {shown}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


class _Channel:
    def __init__(
        self,
        request: web.BaseRequest,
        socket: web.WebSocketResponse,
        session: ExecSession,
        options: ExecOptions,
        cut: Cut | None,
    ) -> None:
        self._request = request
        self._socket = socket
        self._session = session
        self._options = options
        self._bytes_left = cut.after_bytes if cut else None
        self._lines_left = cut.after_lines if cut else None

    async def run(self) -> Mapping[str, Any]:
        """Carries the streams until the command ended or the client left; gives the status to end with."""
        reader = asyncio.create_task(self._input())
        output = asyncio.create_task(self._output())
        try:
            done, _ = await asyncio.wait({reader, output}, return_when=asyncio.FIRST_COMPLETED)
            if output in done:
                output.result()
                return _exit_status(self._options.command, await self._session.wait())
            # The client is gone: as on a real node, so is the command.
            return _SUCCESS
        finally:
            for task in (reader, output):
                task.cancel()
            await asyncio.gather(reader, output, return_exceptions=True)

    async def _output(self) -> None:
        wanted = {STDOUT: self._options.stdout, STDERR: self._options.stderr}
        async for channel, data in self._session.read():
            if not data or not wanted[channel]:
                continue
            await self._socket.send_bytes(bytes((channel,)) + self._allowed(data))
            if self._bytes_left == 0 or self._lines_left == 0:
                if self._request.transport is not None:
                    self._request.transport.close()
                raise StreamCutError

    def _allowed(self, data: bytes) -> bytes:
        if self._bytes_left is not None:
            data = data[: self._bytes_left]
            self._bytes_left -= len(data)
        elif self._lines_left is not None:
            self._lines_left = max(0, self._lines_left - data.count(b"\n"))
        return data

    async def _input(self) -> None:
        async for message in self._socket:
            # The official Python client sends text frames for text; servers take either kind.
            frame = message.data.encode() if message.type is WSMsgType.TEXT else message.data
            if not isinstance(frame, bytes) or not frame:
                continue
            channel, data = frame[0], frame[1:]
            if channel == STDIN and self._options.stdin:
                await self._session.write_stdin(data)
            elif channel == CLOSE and data[:1] == bytes((STDIN,)):
                await self._session.close_stdin()
