"""Commands in running containers."""

from __future__ import annotations

import asyncio

import pytest

from kpo_multicluster.errors import ApiError, BadRequestError, ExecError

from .conftest import Start
from .pods import PYTHON_IMAGE, WAIT, Pod, container

# One for all: whatever a case does to it, another finds it as it was.
pytestmark = pytest.mark.pod(
    container(WAIT, env=[{"name": "GREETING", "value": "hello there"}], workingDir="/usr"),
    container(WAIT, name="side", image=PYTHON_IMAGE),
    container(name="short"),
)


@pytest.fixture
async def pod(pod: Pod) -> Pod:
    for name in ("base", "side"):
        await pod.running(name)
    return pod


async def test_what_a_command_leaves(pod: Pod) -> None:
    done = await pod.execute("sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.stdout, done.stderr, done.exit_code) == (b"out\n", b"err\n", 7)
    assert (await pod.execute("true")).exit_code == 0
    assert (await pod.execute("sh", "-c", "exit 255")).exit_code == 255


async def test_a_command_runs_where_the_container_does(pod: Pod) -> None:
    done = await pod.execute(
        "sh", "-c", "echo $GREETING; pwd; hostname; ls /proc/1/exe >/dev/null && echo sees process 1"
    )
    assert done.stdout.decode().splitlines() == ["hello there", "/usr", pod.name, "sees process 1"]


async def test_arguments_arrive_as_they_are(pod: Pod) -> None:
    words = ["plain", "two words", "", "'quoted'", '"double"', "$HOME", "a&b", "grüße", "new\nline", "--flag=x", "%s"]
    done = await pod.execute("sh", "-c", 'for word in "$@"; do printf "%s|" "$word"; done', "sh", *words)
    assert done.stdout.decode() == "".join(f"{word}|" for word in words)


async def test_a_million_bytes_out(pod: Pod) -> None:
    done = await pod.execute("sh", "-c", "head -c 1000000 /dev/zero | tr '\\0' x; head -c 100000 /dev/zero >&2; exit 3")
    assert done.stdout == b"x" * 1_000_000
    assert done.stderr == b"\0" * 100_000
    assert done.exit_code == 3


async def test_bytes_of_any_kind(pod: Pod) -> None:
    every = bytes(range(256)) * 40
    done = await pod.execute("cat", stdin=every)
    assert done.stdout == every


async def test_input_ends(pod: Pod) -> None:
    assert (await pod.execute("wc", "-c", stdin=b"")).stdout.strip() == b"0"
    million = b"0123456789" * 100_000
    assert (await pod.execute("wc", "-c", stdin=million)).stdout.strip() == b"1000000"


async def test_a_command_that_is_killed(pod: Pod) -> None:
    done = await pod.execute("sh", "-c", "kill -9 $$")
    assert done.exit_code == 137


async def test_a_command_that_is_not_there(pod: Pod) -> None:
    with pytest.raises(ExecError) as raised:
        await pod.execute("no-such-program")
    assert 'exec: "no-such-program": executable file not found in $PATH' in str(raised.value)
    with pytest.raises(ExecError) as raised:
        await pod.execute("/no/such/program")
    assert 'exec: "/no/such/program": stat /no/such/program: no such file or directory' in str(raised.value)


async def test_a_file_that_is_no_program(pod: Pod) -> None:
    await pod.execute("sh", "-c", "echo text > /tmp/file")
    with pytest.raises(ExecError) as raised:
        await pod.execute("/tmp/file")
    assert 'exec: "/tmp/file": permission denied' in str(raised.value)


async def test_a_container_that_is_not_there(pod: Pod) -> None:
    with pytest.raises(BadRequestError, match=f"container nobody is not valid for pod {pod.name}"):
        await pod.execute("true", name="nobody")


async def test_a_container_that_has_ended(pod: Pod) -> None:
    await pod.ended("short")
    with pytest.raises((ExecError, ApiError)) as raised:
        await pod.execute("true", name="short")
    assert 'container not found ("short")' in str(raised.value)


async def test_a_pod_that_has_ended(start: Start) -> None:
    pod = await start("true")
    await pod.over()
    with pytest.raises((ExecError, ApiError)) as raised:
        await pod.execute("true")
    assert 'container not found ("base")' in str(raised.value)


async def test_many_commands_at_once(pod: Pod) -> None:
    results = await asyncio.gather(*(pod.execute("sh", "-c", f"echo {n}; exit {n}") for n in range(8)))
    assert [(done.stdout, done.exit_code) for done in results] == [(f"{n}\n".encode(), n) for n in range(8)]


async def test_output_is_told_apart_from_the_log(pod: Pod) -> None:
    await pod.execute("echo", "to the caller")
    assert await pod.log() == ""


async def test_a_command_in_another_container(pod: Pod) -> None:
    done = await pod.execute("python", "-c", "import json, sys; print(json.dumps(sys.argv[1:]))", "ä", name="side")
    assert done.stdout == b'["\\u00e4"]\n'
