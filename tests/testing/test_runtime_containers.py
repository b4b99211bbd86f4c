"""Containers as local processes: what they see, what they may write, how they start."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kpo_multicluster.testing.interfaces import LogOptions
from kpo_multicluster.testing.runtime.local import Container, check
from kpo_multicluster.testing.runtime.log_reader import read_log
from kpo_multicluster.testing.runtime.processes import StartError
from kpo_multicluster.testing.runtime.spec import Mount, User, VolumeContent

from .runtime_cases import PATH, Machine, log_has, processes_with, started, text_of


@pytest.fixture
async def machine() -> AsyncIterator[Machine]:
    async with started() as machine:
        yield machine


@pytest.fixture(params=["overlay", "bind"])
async def any_machine(request: pytest.FixtureRequest) -> AsyncIterator[Machine]:
    async with started(overlay=request.param == "overlay") as machine:
        yield machine


async def test_check_passes_here() -> None:
    await check()


async def test_output_and_exit_code(machine: Machine) -> None:
    assert await machine.run("echo", "hello") == (0, "hello\n")
    assert await machine.run("sh", "-c", "echo oops >&2; exit 7") == (7, "oops\n")


async def test_a_container_sees_its_own_processes_only(machine: Machine) -> None:
    text = await machine.sh("sleep 60 & pgrep -l . ; echo pid $$; ls /proc | grep -c '^[0-9]'")
    assert "pid 1\n" in text
    assert set(text.splitlines()[:-2]) >= {"1 sh"}
    assert all(int(line.split()[0]) < 20 for line in text.splitlines()[:-2])
    assert int(text.splitlines()[-1]) < 8


async def test_nothing_of_a_container_outlives_its_first_process(machine: Machine) -> None:
    marker = f"marker-{secrets.token_hex(8)}"
    script = f"for i in 1 2 3; do setsid sh -c 'sleep 500; : {marker}' & done; nohup sleep 501 & exit 0"
    await machine.sh(script)
    assert processes_with(marker) == []


async def test_signals_reach_the_first_process(machine: Machine) -> None:
    container = machine.start("sh", "-c", "trap 'echo stopping; exit 143' TERM; echo up; while :; do sleep 0.01; done")
    await log_has(container, "up")
    container.process.signal(signal.SIGTERM)
    assert await container.ended == 143
    assert await text_of(container) == "up\nstopping\n"


async def test_a_first_process_without_handler_ignores_sigterm_and_dies_of_sigkill(machine: Machine) -> None:
    container = machine.start("sleep", "100")
    await container.process.started
    container.process.signal(signal.SIGTERM)
    await asyncio.wait((container.ended,), timeout=0.1)
    assert not container.ended.done()
    container.process.kill()
    assert await container.ended == 137


async def test_dispositions_and_limits_are_a_fresh_program_s() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN), signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        async with started() as machine:
            text = await machine.sh("grep -E '^Sig(Blk|Ign):' /proc/self/status; umask; ls /proc/self/fd | wc -l")
    finally:
        signal.signal(signal.SIGHUP, before[0])
        signal.signal(signal.SIGINT, before[1])
    _, blocked, _, ignored, umask, files = text.split()
    # Signals 32 and 33 are the C library's own: whoever started the tests may have left them ignored, and no call of
    # that library changes it.
    assert (int(blocked, 16), int(ignored, 16) & ~(0b11 << 31)) == (0, 0)
    assert (umask, files) == ("0022", "4")


async def test_the_environment_is_what_was_given(machine: Machine) -> None:
    os.environ["KPO_TEST_LEAK"] = "leaked"
    try:
        code, text = await machine.run("env", env={"GREETING": "grüße", "EMPTY": ""})
    finally:
        del os.environ["KPO_TEST_LEAK"]
    assert code == 0
    assert sorted(text.splitlines()) == ["EMPTY=", "GREETING=grüße", f"PATH={PATH}"]


async def test_host_name_and_working_directory(any_machine: Machine) -> None:
    text = await any_machine.sh("hostname; cat /etc/hostname; pwd; touch file && ls", cwd="/srv/app/made")
    assert text == "a-pod\na-pod\n/srv/app/made\nfile\n"
    assert not Path("/srv/app").exists()


async def test_volumes_appear_at_absolute_paths_and_are_shared(any_machine: Machine) -> None:
    shared = any_machine.volume()
    targets = ("/airflow/xcom", "/opt/x/data", "/etc/some/deep/place", "/tmp/here", "/run/there", "/usr/share/doc")
    for target in targets:
        mounts = (Mount(target, str(shared)),)
        text = await any_machine.sh(f"echo {target} >> {target}/file; cat {target}/file", mounts=mounts)
        assert text.splitlines()[-1] == target
    assert (shared / "file").read_text().splitlines() == list(targets)
    for made in ("/airflow", "/opt/x", "/etc/some", "/tmp/here", "/run/there"):
        assert not Path(made).exists()


async def test_the_directory_around_a_mount_point_keeps_its_content(any_machine: Machine) -> None:
    mounts = (Mount("/etc/some/config", str(any_machine.volume())),)
    text = await any_machine.sh("head -1 /etc/passwd; ls -d /etc/some/config; ls -A /etc | wc -l", mounts=mounts)
    first, place, count = text.splitlines()
    assert (first, place) == (Path("/etc/passwd").read_text().splitlines()[0], "/etc/some/config")
    assert int(count) >= len(os.listdir("/etc"))


async def test_files_of_a_secret_look_as_a_kubelet_makes_them(any_machine: Machine) -> None:
    content = VolumeContent({"token": (b"t\xffken", 0o400), "sub/ca.crt": (b"ca", 0o644)}, version="2026")
    mounts = (Mount("/var/run/secrets/kubernetes.io/serviceaccount", content=content, read_only=True),)
    script = (
        "cd /run/secrets/kubernetes.io/serviceaccount; od -An -c token; cat sub/ca.crt; echo; readlink token ..data;"
        "stat -L -c %a token sub/ca.crt; echo x > token || echo refused; rm token || echo refused"
    )
    text = await any_machine.sh(script, mounts=mounts)
    assert [line.strip() for line in text.splitlines() if "ead-only" not in line] == [
        *("t 377   k   e   n", "ca", "..data/token", "..2026", "400", "644", "refused", "refused")
    ]
    for path in any_machine.runtime.directory.rglob("*"):
        assert not path.is_file() or path.suffix == ".log", "secrets must not be written to disk"


async def test_sub_paths_files_and_nested_mounts(any_machine: Machine) -> None:
    content = VolumeContent({"app.ini": (b"[app]", 0o644), "other": (b"", 0o644)})
    shared = any_machine.volume()
    mounts = (
        Mount("/etc/app/app.ini", content=content, sub_path="app.ini", read_only=True),
        Mount("/etc/passwd", content=content, sub_path="app.ini", read_only=True),
        Mount("/data/inner", str(any_machine.volume())),
        Mount("/data", str(shared)),
        Mount("/logs", str(shared), sub_path="logs/today"),
        Mount("/frozen", str(shared), read_only=True),
    )
    script = (
        "ls /etc/app; cat /etc/app/app.ini /etc/passwd; echo; ls /data; echo a > /data/inner/a; echo b > /logs/b;"
        "cat /data/logs/today/b /frozen/logs/today/b; touch /frozen/x || echo refused"
    )
    text = await any_machine.sh(script, mounts=mounts)
    lines = [line for line in text.splitlines() if "ead-only" not in line]
    assert lines == ["app.ini", "[app][app]", "inner", "logs", "b", "b", "refused"]
    assert (shared / "logs/today/b").read_text() == "b\n"


async def test_what_a_container_writes_stays_in_it(machine: Machine) -> None:
    name = f"kpo-{secrets.token_hex(8)}"
    places = ["/etc", "/usr", "/opt", "/var", "/tmp", "/run", "/home", ""]
    script = "; ".join(f"echo x > {place}/{name} && echo ok" for place in places)
    assert (
        await machine.sh(f"{script}; rm -rf /etc/passwd; ls /etc/passwd 2>&1 | grep -c 'No such'") == "ok\n" * 8 + "1\n"
    )
    assert await machine.sh("; ".join(f"test -e {place}/{name} && echo leaked" for place in places) + "; true") == ""
    assert Path("/etc/passwd").exists()
    assert [place for place in places if Path(f"{place}/{name}").exists()] == []


async def test_temporary_directories_are_the_container_s_own(machine: Machine) -> None:
    # The way to the interpreter is there even where that lies in /tmp; nothing else of the machine's is.
    with tempfile.NamedTemporaryFile(dir="/tmp") as theirs, tempfile.NamedTemporaryFile(dir="/dev/shm") as shared:
        names = (await machine.sh("ls -A /tmp /dev/shm")).split()
        assert os.path.basename(theirs.name) not in names
        assert os.path.basename(shared.name) not in names
    assert await machine.sh("stat -c %a /tmp; touch /tmp/own && ls /tmp/own") == "1777\n/tmp/own\n"
    assert not os.path.exists("/tmp/own")


async def test_names_resolve_as_on_the_machine(machine: Machine) -> None:
    assert await machine.sh("cat /etc/resolv.conf") == Path("/etc/resolv.conf").read_text()


async def test_the_machine_s_switches_are_out_of_reach(machine: Machine) -> None:
    script = "for f in /proc/sys/kernel/hostname /proc/sysrq-trigger /sys/power/state; do echo 0 > $f || echo no; done"
    text = await machine.sh(script)
    assert text.count("no\n") == 3
    assert "refused" in await machine.sh("mount -t tmpfs none /mnt || echo refused; umount /etc || echo refused")


async def test_devices_and_terminals(machine: Machine) -> None:
    text = await machine.sh(
        "echo x > /dev/null; head -c 3 /dev/zero | od -An -tx1; ls /dev/fd/0; echo err > /dev/stderr"
    )
    assert text == " 00 00 00\n/dev/fd/0\nerr\n"
    code, text = await machine.run("sh", "-c", "test -t 0 && test -t 1 && stty size", tty=True)
    assert code == 0, text
    assert text.startswith("0 0\n")


async def test_runs_as_the_user_asked_for(machine: Machine) -> None:
    script = "id -u; id -g; echo x > /data/f; grep CapEff /proc/self/status"
    mounts = (Mount("/data", str(machine.volume())),)
    text = await machine.sh(script, user=User(1000, 2000), mounts=mounts)
    assert text.split() == ["1000", "2000", "CapEff:", "0000000000000000"]
    assert (await machine.sh("id -u; id -g")).split() == ["0", "0"]


async def test_image_files_are_copied_in(any_machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "main.py").write_text("print('hi')")
    (tmp_path / "run.sh").write_text("#!/bin/sh\ncat /srv/app/main.py\n")
    (tmp_path / "run.sh").chmod(0o755)
    copies = ((str(tmp_path / "app"), "/srv/app"), (str(tmp_path / "run.sh"), "/usr/local/bin/run-it"))
    assert await any_machine.run("run-it", copies=copies) == (0, "print('hi')")
    assert not Path("/usr/local/bin/run-it").exists()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("nosuch", 'exec: "nosuch": executable file not found in $PATH'),
        ("/no/such", 'exec: "/no/such": stat /no/such: no such file or directory'),
        ("./nosuch", 'exec: "./nosuch": stat ./nosuch: no such file or directory'),
        ("/etc/passwd", 'exec: "/etc/passwd": permission denied'),
        ("/etc", 'exec: "/etc": permission denied'),
        ('a"b', 'exec: "a\\"b": executable file not found in $PATH'),
        ("", 'exec: "": executable file not found in $PATH'),
    ],
)
async def test_a_command_that_cannot_be_started(machine: Machine, command: str, message: str) -> None:
    container = machine.start(command)
    with pytest.raises(StartError) as caught:
        await container.process.started
    assert str(caught.value) == message
    assert await container.ended == 128


async def test_a_working_directory_that_cannot_be_entered(machine: Machine) -> None:
    container = machine.start("true", cwd="/etc/passwd")
    with pytest.raises(StartError, match="error during container init: mkdir /etc/passwd: not a directory"):
        await container.process.started
    await container.ended


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"#!/no/interpreter\n", "no such file or directory"), (b"\x7fELF nonsense", "exec format error")],
    ids=["interpreter", "format"],
)
async def test_a_program_that_the_kernel_refuses(
    machine: Machine, tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "program").write_bytes(content)
    (tmp_path / "program").chmod(0o755)
    code, text = await machine.run("/program", copies=((str(tmp_path / "program"), "/program"),))
    assert (code, text) == (1, f"exec /program: {message}\n")


async def test_20000_lines_with_both_streams(machine: Machine) -> None:
    script = "i=0; while [ $i -lt 10000 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done"
    lines = (await machine.sh(script)).splitlines()
    assert [line for line in lines if line.startswith("out")] == [f"out {number}" for number in range(10000)]
    assert [line for line in lines if line.startswith("err")] == [f"err {number}" for number in range(10000)]


async def test_200000_lines_do_not_choke(machine: Machine) -> None:
    container = machine.start("sh", "-c", f"yes {'x' * 99} | head -n 200000")
    longest = await longest_stall(container)
    assert await container.ended == 0
    count = 0
    async for batch in read_log(container.log, LogOptions()):
        count += batch.count(b"\n")
    assert count == 200_000
    assert longest < 2, f"the loop stood still for {longest:.3f} s"


async def longest_stall(container: Container) -> float:
    # By this thread's own time: what other programs take of a busy machine is not a stall.
    longest, before = 0.0, time.thread_time()
    while not container.ended.done():
        await asyncio.sleep(0.001)
        longest, before = max(longest, time.thread_time() - before), time.thread_time()
    return longest
