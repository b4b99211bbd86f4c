"""Commands over WebSockets: both protocols, exit codes, much output, and every way to lose the end."""

from __future__ import annotations

import json
import time

import pytest
from aiohttp import web

from kpo_multicluster.api.retry import RetryPolicy
from kpo_multicluster.errors import (
    ConnectError,
    ExecError,
    ForbiddenError,
    NotFoundError,
    ServerError,
    ThrottledError,
)

from .cases import EXEC, PODS, SOURCE, FakeClock, client, payload
from .servers import SUCCESS, Exec, FakeApi, exit_status, ok, reset, silent, status, status_object

V4 = ("v4.channel.k8s.io",)
V5 = ("v5.channel.k8s.io",)
# Real servers open each channel with an empty message.
OPENING = [b"\x01", b"\x02", b"\x03"]


@pytest.mark.parametrize("protocols", [V4, V5, (*V5, *V4)])
async def test_output_and_exit_code(api: FakeApi, protocols: tuple[str, ...]) -> None:
    frames = [*OPENING, b"\x01out", b"\x02err", b"\x01put\n", b"\x03", SUCCESS]
    served = Exec(frames, protocols)
    api.answer(served)
    async with client(api.url) as tested:
        result = await tested.exec(EXEC, ["sh", "-c", "echo a b; echo 'é&c=d'"], container="base")
    assert (result.stdout, result.stderr, result.exit_code) == (b"output\n", b"err", 0)
    assert served.commands == [["sh", "-c", "echo a b; echo 'é&c=d'"]]
    query = {name: value for name, value in api.seen[0].query.items() if name != "command"}
    assert query == {"container": "base", "stdin": "false", "stdout": "true", "stderr": "true", "tty": "false"}
    assert api.seen[0].headers["Sec-WebSocket-Protocol"].replace(" ", "") == ",".join(V5 + V4)


async def test_the_newest_protocol_is_preferred(api: FakeApi) -> None:
    chosen = []

    async def handler(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=V5 + V4)
        await socket.prepare(request)
        chosen.append(socket.ws_protocol)
        await socket.send_bytes(SUCCESS)
        await socket.close()
        return socket

    api.answer(handler)
    async with client(api.url) as tested:
        await tested.exec(EXEC, ["true"], container="base")
    assert chosen == list(V5)


@pytest.mark.parametrize("code", [1, 2, 126, 127, 137])
async def test_an_exit_code_is_a_result(api: FakeApi, code: int) -> None:
    api.answer(Exec([b"\x02no\n", exit_status(code)]))
    async with client(api.url) as tested:
        result = await tested.exec(EXEC, ["false"], container="base")
    assert (result.exit_code, result.stderr) == (code, b"no\n")


async def test_a_command_that_cannot_start(api: FakeApi) -> None:
    refusal = status_object(500, "InternalError", 'exec: "nope": executable file not found in $PATH')

    api.answer(Exec([b"\x02trace", b"\x03" + json.dumps(refusal).encode()]))
    async with client(api.url) as tested:
        with pytest.raises(ExecError, match=r"'nope' in container 'base' could not be run: exec:.*not found") as caught:
            await tested.exec(EXEC, ["nope", "--password=secret"], container="base")
    assert caught.value.exit_code is None
    assert caught.value.stderr == "trace"
    assert "secret" not in str(caught.value)
    assert str(caught.value).startswith(f"GET {api.url}{EXEC} ({SOURCE}): ")


async def test_five_megabytes_arrive_whole(api: FakeApi) -> None:
    text = payload(5 * 2**20)
    frames = [b"\x01" + text[start : start + 40_000] for start in range(0, len(text), 40_000)]
    api.answer(Exec([*frames, SUCCESS]), Exec([b"\x01" + text, b"\x02" + text, SUCCESS]))
    async with client(api.url) as tested:
        assert (await tested.exec(EXEC, ["cat", "x"], container="base")).stdout == text
        whole = await tested.exec(EXEC, ["cat", "x"], container="base")
    assert (whole.stdout, whole.stderr) == (text, text)


async def test_a_status_split_over_messages(api: FakeApi) -> None:
    api.answer(Exec([SUCCESS[:10], b"\x03" + SUCCESS[10:]]))
    async with client(api.url) as tested:
        assert (await tested.exec(EXEC, ["true"], container="base")).exit_code == 0


async def test_output_after_the_status_counts(api: FakeApi) -> None:
    api.answer(Exec([b"\x01a", SUCCESS, b"\x01b"]))
    async with client(api.url) as tested:
        assert (await tested.exec(EXEC, ["true"], container="base")).stdout == b"ab"


async def test_a_server_that_never_closes_is_not_waited_for(api: FakeApi) -> None:
    api.answer(Exec([b"\x01a", SUCCESS], hang=True))
    began = time.monotonic()
    async with client(api.url) as tested:
        assert (await tested.exec(EXEC, ["true"], container="base")).stdout == b"a"
    assert time.monotonic() - began < 25


@pytest.mark.parametrize("cut", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("frames", [[], [b"\x01part"], [b"\x01part", SUCCESS[:9]]], ids=["none", "output", "half"])
async def test_without_a_status_the_output_is_incomplete(api: FakeApi, cut: bool, frames: list[bytes]) -> None:
    api.answer(Exec([*OPENING, *frames, b"\x02trace"], cut=cut))
    async with client(api.url) as tested:
        with pytest.raises(ExecError, match="connection was lost before 'cat' in container 'base' ended") as caught:
            await tested.exec(EXEC, ["cat", "x"], container="base")
    assert "output is incomplete" in str(caught.value)
    assert len(api.seen) == 1


async def test_a_cut_after_the_status_is_harmless(api: FakeApi) -> None:
    api.answer(Exec([b"\x01all", SUCCESS], cut=True))
    async with client(api.url) as tested:
        result = await tested.exec(EXEC, ["true"], container="base")
    assert result.stdout == b"all"


async def test_stdin_is_sent_and_ended(api: FakeApi) -> None:
    text = payload(300_000)
    served = Exec([b"\x01done", SUCCESS], await_stdin=True)
    api.answer(served)
    async with client(api.url) as tested:
        result = await tested.exec(EXEC, ["cat"], container="base", stdin=text)
    assert result.stdout == b"done"
    assert bytes(served.stdin) == text
    assert served.stdin_closed
    assert api.seen[0].query["stdin"] == "true"
    assert api.seen[0].headers["Sec-WebSocket-Protocol"] == V5[0]


async def test_empty_stdin_is_ended_at_once(api: FakeApi) -> None:
    served = Exec([SUCCESS], await_stdin=True)
    api.answer(served)
    async with client(api.url) as tested:
        await tested.exec(EXEC, ["cat"], container="base", stdin=b"")
    assert served.stdin == b""
    assert served.stdin_closed


async def test_a_command_may_leave_its_stdin_unread(api: FakeApi) -> None:
    api.answer(Exec([exit_status(3)], cut=False))
    async with client(api.url) as tested:
        result = await tested.exec(EXEC, ["false"], container="base", stdin=b"x" * 2**24)
    assert result.exit_code == 3


async def test_stdin_is_refused_by_name_where_it_cannot_end(api: FakeApi) -> None:
    async def old(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=403)

    for handler in (old, Exec([SUCCESS], V4)):
        api.answer(handler)
        async with client(api.url) as tested:
            with pytest.raises(ExecError, match="was not given its input: the server does not speak v5"):
                await tested.exec(EXEC, ["cat"], container="base", stdin=b"x")


async def test_a_server_without_a_known_protocol(api: FakeApi) -> None:
    api.answer(Exec([SUCCESS], ("channel.k8s.io",)))
    async with client(api.url) as tested:
        with pytest.raises(
            ExecError, match=r"none of the exec protocols v5\.channel\.k8s\.io and v4\.channel\.k8s\.io"
        ):
            await tested.exec(EXEC, ["true"], container="base")


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [(403, "Forbidden", ForbiddenError), (404, "NotFound", NotFoundError), (500, "InternalError", ServerError)],
)
@pytest.mark.parametrize("stdin", [None, b"x"])
async def test_a_refused_upgrade_is_typed(
    api: FakeApi, code: int, reason: str, kind: type[Exception], stdin: bytes | None
) -> None:
    api.answer(status(code, reason, "why it is refused"))
    async with client(api.url) as tested:
        with pytest.raises(kind, match=f"{code} {reason}: why it is refused"):
            await tested.exec(EXEC, ["true"], container="base", stdin=stdin)
    assert len(api.seen) == 1


async def test_an_answer_that_is_no_upgrade(api: FakeApi) -> None:
    api.answer(ok())
    async with client(api.url) as tested:
        with pytest.raises(ConnectError, match=r"does not speak HTTP as it should \(Invalid response status"):
            await tested.exec(EXEC, ["true"], container="base")
    assert len(api.seen) == 1


async def test_only_a_command_that_was_not_started_is_tried_again(api: FakeApi) -> None:
    time = FakeClock()
    async with client(api.url, clock=time.clock(), retry=RetryPolicy()) as tested:
        api.answer(status(429), Exec([SUCCESS]))
        assert (await tested.exec(EXEC, ["true"], container="base")).exit_code == 0
        api.answer(status(503), Exec([SUCCESS]))
        with pytest.raises(ServerError):
            await tested.exec(EXEC, ["true"], container="base")
        api.answer(status(429))
        with pytest.raises(ThrottledError):
            await tested.exec(EXEC, ["true"], container="base", timeout_seconds=5.0)
    assert sum(time.slept) < 6.0


async def test_a_lost_handshake_is_not_repeated(api: FakeApi) -> None:
    api.answer(reset)
    async with client(api.url) as tested:
        with pytest.raises(ConnectError, match="cut before it was upgraded"):
            await tested.exec(EXEC, ["true"], container="base")
        assert len(api.seen) == 1
        api.answer(ok(), reset)
        await tested.request("GET", PODS)
        with pytest.raises(ConnectError, match="cut before it was upgraded"):
            await tested.exec(EXEC, ["true"], container="base")
    assert len(api.seen) == 3


@pytest.mark.parametrize("handler", [Exec([b"\x01a"], hang=True), silent], ids=["running", "handshake"])
async def test_a_command_that_takes_too_long(api: FakeApi, handler: Exec) -> None:
    api.answer(handler)
    began = time.monotonic()
    async with client(api.url) as tested:
        with pytest.raises(
            ExecError, match=r"'sleep' in container 'base' did not end within 0\.3 s\. It may still run"
        ):
            await tested.exec(EXEC, ["sleep", "9"], container="base", timeout_seconds=0.3)
    assert time.monotonic() - began < 20
