"""Commands in running containers, and the end of containers, runtimes and forked children."""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kpo_multicluster.testing.runtime import descriptors
from kpo_multicluster.testing.runtime.logs import ContainerLog
from kpo_multicluster.testing.runtime.processes import StartError
from kpo_multicluster.testing.runtime.spec import Command, ContainerSpec, Mount, User

from .node_cases import Output
from .runtime_cases import PATH, Machine, keeper_of, log_has, processes_with, started, text_of


@pytest.fixture
async def machine() -> AsyncIterator[Machine]:
    async with started() as machine:
        yield machine


async def test_exec_joins_the_container(machine: Machine) -> None:
    mounts = (Mount("/airflow/xcom", str(machine.volume())),)
    container = machine.start("sh", "-c", "echo 1 > /tmp/mine; echo up; sleep 100", mounts=mounts)
    await log_has(container, "up")
    output = await machine.exec(
        container, "sh", "-c", "cat /tmp/mine; hostname; pwd; pgrep -c sleep", cwd="/airflow/xcom"
    )
    assert (output.stdout, output.stderr, output.code) == (b"1\na-pod\n/airflow/xcom\n1\n", b"", 0)
    output = await machine.exec(container, "sh", "-c", "echo out; echo err >&2; exit 9")
    assert (output.stdout, output.stderr, output.code) == (b"out\n", b"err\n", 9)
    assert await text_of(container) == "up\n"


async def test_exec_as_the_container_s_user(machine: Machine) -> None:
    container = machine.start("sleep", "100", user=User(1000, 2000))
    await container.process.started
    command = Command(
        ("sh", "-c", "id -u; id -g; touch /tmp/x; stat -c %u /tmp/x"), {"PATH": PATH}, user=User(1000, 2000)
    )
    output = await Output.of(await machine.runtime.exec(container, command, stdin=False))
    assert output.stdout.split() == [b"1000", b"2000", b"1000"]


async def test_exec_moves_a_megabyte_both_ways(machine: Machine) -> None:
    container = machine.start("sleep", "100")
    await container.process.started
    data = os.urandom(1 << 20)
    output = await machine.exec(container, "sh", "-c", "tee /dev/stderr", stdin=data)
    assert output.code == 0
    assert output.stdout == data
    assert output.stderr == data


async def test_exec_with_closed_stdin_takes_input_silently(machine: Machine) -> None:
    container = machine.start("sleep", "100")
    await container.process.started
    output = await asyncio.wait_for(
        machine.exec(container, "sh", "-c", "exec <&-; echo ok", stdin=b"x" * (1 << 20)), 10
    )
    assert (output.stdout, output.code) == (b"ok\n", 0)


async def test_exec_on_a_terminal(machine: Machine) -> None:
    container = machine.start("sleep", "100")
    await container.process.started
    output = await machine.exec(container, "sh", "-c", "test -t 0 && test -t 2 && echo err >&2", tty=True)
    assert (output.stdout, output.stderr, output.code) == (b"err\r\n", b"", 0)


async def test_exec_can_be_killed(machine: Machine) -> None:
    container = machine.start("sleep", "100")
    await container.process.started
    session = await machine.runtime.exec(container, Command(("sleep", "100"), {"PATH": PATH}), stdin=False)
    await session.kill()
    output = await asyncio.wait_for(Output.of(session), 60)
    assert output.code == 137
    await session.kill()
    assert container.running


async def test_exec_of_a_command_that_does_not_exist(machine: Machine) -> None:
    container = machine.start("sleep", "100")
    await container.process.started
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(StartError) as caught:
        await machine.exec(container, "nosuch")
    assert str(caught.value) == 'exec: "nosuch": executable file not found in $PATH'
    assert caught.value.number == errno.ENOENT
    assert len(os.listdir("/proc/self/fd")) <= before


async def test_exec_in_a_container_that_has_ended(machine: Machine) -> None:
    container = machine.start("true")
    await container.ended
    with pytest.raises(StartError, match="container is not running"):
        await machine.exec(container, "true")


async def test_exec_ends_with_its_container(machine: Machine) -> None:
    container = machine.start("sleep", "100")
    await container.process.started
    waiting = asyncio.create_task(machine.exec(container, "sleep", "100"))
    await asyncio.wait((waiting,), timeout=0.05)
    container.process.kill()
    assert (await asyncio.wait_for(waiting, 60)).code == 137


async def test_removes_whatever_containers_leave(machine: Machine) -> None:
    volume = machine.volume()
    script = "mkdir -p /d/a/b; touch /d/a/b/c; ln -s /etc /d/link; chmod 0 /d/a/b /d/a; mkfifo /d/pipe"
    await machine.sh(script, mounts=(Mount("/d", str(volume)),), user=User(12345, 12345))
    await machine.runtime.remove_tree(volume)
    assert not volume.exists()
    await machine.runtime.remove_tree(volume)


async def test_many_containers_at_once(machine: Machine) -> None:
    results = await asyncio.gather(*(machine.run("sh", "-c", f"echo {number}") for number in range(40)))
    assert results == [(0, f"{number}\n") for number in range(40)]


async def test_close_ends_everything() -> None:
    marker = f"marker-{secrets.token_hex(8)}"
    before = len(os.listdir("/proc/self/fd"))
    async with started() as machine:
        directory = machine.runtime.directory
        containers = [machine.start("sh", "-c", f"trap '' TERM; sleep 500; : {marker}") for _ in range(3)]
        await asyncio.gather(*(container.process.started for container in containers))
        session = await machine.runtime.exec(containers[0], Command(("sleep", "500"), {"PATH": PATH}), stdin=True)
        assert len(processes_with(marker)) >= 3
    assert processes_with(marker) == []
    assert not directory.exists()
    assert [await container.ended for container in containers] == [137] * 3
    assert await session.wait() == 137
    session.discard()
    assert len(os.listdir("/proc/self/fd")) <= before


async def test_what_is_asked_after_the_warden_died_fails_at_once(machine: Machine, tmp_path: Path) -> None:
    container = machine.start("sleep", "500")
    await container.process.started
    for pid in (
        Path(f"/proc/{keeper_of(machine.runtime)}/task/{keeper_of(machine.runtime)}/children").read_text().split()
    ):
        os.kill(int(pid), signal.SIGKILL)
    assert await asyncio.wait_for(container.ended, 60) == 137
    log = ContainerLog(tmp_path, "other")
    with pytest.raises(ConnectionError, match="the process that holds the containers has ended"):
        machine.runtime.run(ContainerSpec(Command(("true",)), "a-pod"), log)
    assert log.closed
    with pytest.raises(StartError, match="runtime has ended"):
        await machine.exec(container, "true")


async def test_nothing_is_left_when_the_keeper_is_killed(machine: Machine) -> None:
    directory = machine.runtime.directory
    container = machine.start("sleep", "500")
    await container.process.started
    os.kill(keeper_of(machine.runtime), signal.SIGKILL)
    assert await asyncio.wait_for(container.ended, 60) == 137
    await machine.runtime.close()
    assert not directory.exists()


async def test_a_forked_child_keeps_nothing_open(machine: Machine) -> None:
    container = machine.start("sleep", "500")
    await container.process.started
    session = await machine.runtime.exec(container, Command(("cat",), {"PATH": PATH}), stdin=True)
    kept = set(descriptors._fds)
    assert kept
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        still = [fd for fd in kept if os.path.exists(f"/proc/self/fd/{fd}")]
        os.write(writer, repr(still).encode())
        os._exit(0)
    os.close(writer)
    heard = os.read(reader, 1000)
    os.close(reader)
    os.waitpid(child, 0)
    assert heard == b"[]"
    await session.write_stdin(b"still here")
    await session.close_stdin()
    assert (await Output.of(session)).stdout == b"still here"
