"""Commands in a running container, over a WebSocket to the `exec` subresource.

Protocol: each binary message begins with a byte that names its channel: 0 stdin, 1 stdout, 2 stderr, 3 the `Status`
that ends the exec. `v5.channel.k8s.io` (Kubernetes 1.30) added the message `255 N`, which closes channel N; with
`v4.channel.k8s.io` a command never sees the end of its input.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import aiohttp

from kpo_multicluster.api.connection import Call, Connection, Try, query
from kpo_multicluster.api.faults import LIBRARY_ERRORS
from kpo_multicluster.api.retry import RetryPolicy
from kpo_multicluster.errors import ApiError, ExecError

_V5 = "v5.channel.k8s.io"
_V4 = "v4.channel.k8s.io"
_STDIN, _STDOUT, _STDERR, _STATUS, _CLOSE = 0, 1, 2, 3, 255
_STDIN_CHUNK = 32 * 1024
# After the status the server closes at once; one that does not is not waited for.
_CLOSE_SECONDS = 1.0

Socket: TypeAlias = "aiohttp.ClientWebSocketResponse[bool]"


@dataclass(frozen=True)
class ExecResult:
    """What a command left.

    Attributes:
        stdout: all of it.
        stderr: all of it.
        exit_code: of the command.
    """

    stdout: bytes
    stderr: bytes
    exit_code: int


@dataclass
class _Output:
    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    status: bytearray = field(default_factory=bytearray)

    def add(self, message: bytes) -> None:
        channel = {_STDOUT: self.stdout, _STDERR: self.stderr, _STATUS: self.status}.get(message[0] if message else -1)
        if channel is not None:
            channel += memoryview(message)[1:]

    def ended(self) -> Mapping[str, Any] | None:
        """The status, once it is there as a whole."""
        if not self.status:
            return None
        try:
            status = json.loads(self.status)
        except ValueError:
            return None
        return status if isinstance(status, dict) else None


async def run_command(
    connection: Connection,
    path: str,
    command: Sequence[str],
    *,
    container: str,
    stdin: bytes | None,
    timeout_seconds: float,
) -> ExecResult:
    """Runs a command; `ApiClient.exec` says what the arguments mean."""
    policy = RetryPolicy(
        min(connection.retry.budget_seconds, timeout_seconds),
        connection.retry.first_delay_seconds,
        connection.retry.max_delay_seconds,
    )
    # A try that was cut off may have started the command: only one that never got there is repeated.
    call = connection.call("GET", path, policy=policy, answer_seconds=timeout_seconds, repeatable=False)
    subject = f"{command[0] if command else 'the command'!r} in container {container!r}"
    try:
        return await asyncio.wait_for(
            _run(connection, call, command, container=container, stdin=stdin, subject=subject), timeout_seconds
        )
    except asyncio.TimeoutError:
        pass
    raise ExecError(
        f"{call.request}: {subject} did not end within {timeout_seconds:g} s. It may still run: look into the "
        "container, or allow more time."
    )


async def _run(
    connection: Connection, call: Call, command: Sequence[str], *, container: str, stdin: bytes | None, subject: str
) -> ExecResult:
    socket = await _open(connection, call, command, container, stdin is not None, subject)
    output = _Output()
    try:
        writer = asyncio.ensure_future(_write(socket, stdin)) if stdin is not None else None
        try:
            status = await _read(socket, output)
        finally:
            if writer is not None:
                writer.cancel()
                await asyncio.gather(writer, return_exceptions=True)
    finally:
        await _close(socket)
    if status is None:
        raise ExecError(
            f"{call.request}: the connection was lost before {subject} ended, so its output is incomplete. It may "
            "still run: try again if it can be repeated.",
            stderr=output.stderr.decode("utf-8", "replace"),
        )
    return _result(status, output, call, subject)


async def _open(
    connection: Connection, call: Call, command: Sequence[str], container: str, has_stdin: bool, subject: str
) -> Socket:
    flags: dict[str, str | int | bool] = {
        "container": container,
        "stdin": has_stdin,
        "stdout": True,
        "stderr": True,
        "tty": False,
    }
    words = [("command", word) for word in command]
    # Whoever could only take input without an end is not asked to start the command.
    offered = (_V5,) if has_stdin else (_V5, _V4)

    async def attempt(tried: Try) -> Socket:
        return await tried.session.ws_connect(
            tried.url.with_query(query(flags, *words)),
            protocols=offered,
            max_msg_size=0,
            timeout=aiohttp.ClientWSTimeout(ws_close=_CLOSE_SECONDS),
            **tried.options,
        )

    needs_v5 = (
        f"{call.request}: {subject} was not given its input: the server does not speak {_V5} (Kubernetes 1.30), "
        "without which a command never sees the end of its input. Give it in the command's arguments instead."
    )
    try:
        socket = await connection.run(call, attempt)
    except ApiError as error:
        if has_stdin and not error.body and error.status in (400, 403):
            raise ExecError(needs_v5) from error
        raise
    if socket.protocol in offered:
        return socket
    await _close(socket)
    raise ExecError(
        needs_v5 if has_stdin else f"{call.request}: the server speaks none of the exec protocols {_V5} and {_V4}."
    )


async def _write(socket: Socket, stdin: bytes) -> None:
    # A command may end without reading all of its input.
    with contextlib.suppress(*LIBRARY_ERRORS):
        for start in range(0, len(stdin), _STDIN_CHUNK):
            await socket.send_bytes(bytes([_STDIN]) + stdin[start : start + _STDIN_CHUNK])
        await socket.send_bytes(bytes([_CLOSE, _STDIN]))


async def _read(socket: Socket, output: _Output) -> Mapping[str, Any] | None:
    """Takes in the output until the server closes; the status, None when it never came."""
    status: Mapping[str, Any] | None = None
    while True:
        try:
            message = await socket.receive(_CLOSE_SECONDS if status is not None else None)
        except LIBRARY_ERRORS:
            return status
        if message.type is not aiohttp.WSMsgType.BINARY:
            return status
        output.add(message.data)
        status = output.ended()


async def _close(socket: Socket) -> None:
    with contextlib.suppress(*LIBRARY_ERRORS):
        await socket.close()


def _result(status: Mapping[str, Any], output: _Output, call: Call, subject: str) -> ExecResult:
    code = _exit_code(status)
    if code is None:
        cause = status.get("message") or status.get("reason") or "no reason given"
        raise ExecError(
            f"{call.request}: {subject} could not be run: {cause}",
            stderr=output.stderr.decode("utf-8", "replace"),
        )
    return ExecResult(bytes(output.stdout), bytes(output.stderr), code)


def _exit_code(status: Mapping[str, Any]) -> int | None:
    if status.get("status") == "Success":
        return 0
    details = status.get("details")
    causes = details.get("causes") if isinstance(details, Mapping) else None
    for cause in causes if isinstance(causes, list) else []:
        if isinstance(cause, Mapping) and cause.get("reason") == "ExitCode":
            with contextlib.suppress(ValueError):
                return int(str(cause.get("message")))
    return None
