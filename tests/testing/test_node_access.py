"""Logs and commands through the node: what a client of the API server gets, and in which words it is refused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from kpo_multicluster.testing.interfaces import ExecSession, LogOptions

from .node_cases import NodeUnderTest, Output, running_node


@pytest.fixture
async def node() -> AsyncIterator[NodeUnderTest]:
    async with running_node() as under_test:
        yield under_test


async def test_the_xcom_sidecar_is_read_and_ended_as_upstream_does(node: NodeUnderTest) -> None:
    mount = [{"name": "xcom", "mountPath": "/airflow/xcom"}]
    write = "mkdir -p /airflow/xcom && echo '{\"rows\": 23}' > /airflow/xcom/return.json"
    pod = await node.run_spec(
        {
            "volumes": [{"name": "xcom", "emptyDir": {}}],
            "containers": [
                {"name": "base", "image": "python:3.12", "command": ["sh", "-c", write], "volumeMounts": mount},
                {
                    "name": "airflow-xcom-sidecar",
                    "image": "alpine",
                    "command": ["sh", "-c", 'trap "exit 0" INT; while true; do sleep 1; done;'],
                    "volumeMounts": mount,
                    "resources": {"requests": {"cpu": "1m", "memory": "10Mi"}},
                },
            ],
        }
    )
    await pod.running("airflow-xcom-sidecar")
    await node.store.until(lambda: "terminated" in pod.state())
    read = "if [ -s /airflow/xcom/return.json ]; then cat /airflow/xcom/return.json; else echo __empty__; fi"
    output = await pod.exec("/bin/sh", "-c", read, name="airflow-xcom-sidecar")
    assert (output.stdout, output.code) == (b'{"rows": 23}\n', 0)
    kill = b"kill -2 $(pgrep -u $(id -u) -f 'sh')\n"
    output = await pod.exec("/bin/sh", name="airflow-xcom-sidecar", stdin=kill)
    assert output.stderr == b""
    assert await pod.over() == "Succeeded"
    assert pod.state("airflow-xcom-sidecar")["terminated"]["exitCode"] == 0


async def test_commands_see_the_container_s_environment(node: NodeUnderTest) -> None:
    base = {"env": [{"name": "GREETING", "value": "hi"}], "workingDir": "/srv/work"}
    pod = await node.run("sleep", "100", base={**base, "securityContext": {"runAsUser": 77}})
    await pod.running()
    output = await pod.exec("sh", "-c", "echo $GREETING; pwd; id -u; hostname")
    assert output.stdout.decode().split() == ["hi", "/srv/work", "77", pod.manifest["metadata"]["name"]]
    session: ExecSession = await node.node.exec(pod.uid, "base", ["sh", "-c", "echo $TERM"], stdin=False, tty=True)
    assert (await Output.of(session)).stdout == b"xterm\r\n"


async def test_commands_where_there_is_no_container(node: NodeUnderTest) -> None:
    pod = await node.run("true")
    await pod.over()
    for name in ("base", "other"):
        with pytest.raises(LookupError, match=rf'container not found \("{name}"\)'):
            await pod.exec("true", name=name)
    with pytest.raises(LookupError, match='uid "none" cannot be found'):
        await node.node.exec("none", "base", ["true"], stdin=False, tty=False)


@pytest.mark.parametrize(
    ("program", "kind", "reason"),
    [
        ("nosuch", FileNotFoundError, "executable file not found in $PATH"),
        ("/no/such", FileNotFoundError, "stat /no/such: no such file or directory"),
        ("/etc/passwd", PermissionError, "permission denied"),
        ("/etc", PermissionError, "permission denied"),
    ],
)
async def test_a_command_that_cannot_be_started(
    node: NodeUnderTest, program: str, kind: type[OSError], reason: str
) -> None:
    pod = await node.run("sleep", "100")
    await pod.running()
    with pytest.raises(kind) as caught:
        await pod.exec(program)
    assert (caught.value.strerror, caught.value.filename) == (reason, program)


async def test_logs_where_there_are_none(node: NodeUnderTest) -> None:
    pod = await node.run("true", base={"image": "Not A Name"})
    await pod.waiting("InvalidImageName")
    name = pod.manifest["metadata"]["name"]
    with pytest.raises(LookupError, match=f'container "base" in pod "{name}" is waiting to start: InvalidImageName'):
        await pod.log()
    with pytest.raises(LookupError, match=f'container "other" in pod "{name}" is not available'):
        await pod.log("other")
    with pytest.raises(ValueError, match="sinceTime 'noon' is not an RFC 3339 time"):
        await pod.log(since_time="noon")
    with pytest.raises(LookupError, match='uid "none" cannot be found'):
        node.node.read_log("none", "base", LogOptions())


async def test_a_follower_has_a_line_within_milliseconds(node: NodeUnderTest) -> None:
    pod = await node.run("sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do date +%s.%N; sleep 0.03; done")
    await pod.running()
    latencies = []
    async for batch in node.node.read_log(pod.uid, "base", LogOptions(follow=True)):
        latencies.append(time.time() - float(batch.decode().split()[-1]))
    # The best of them: what other programs take of a busy machine is not looked at.
    assert min(latencies) < 0.1, latencies


async def test_everything_is_in_the_log_once_the_end_is_told(node: NodeUnderTest) -> None:
    pods = [await node.run("sh", "-c", "seq 2000; echo last >&2") for _ in range(5)]
    for pod in pods:
        await node.store.until(lambda pod=pod: "terminated" in pod.state())  # type: ignore[misc]
        lines = (await pod.log()).splitlines()
        assert sorted(lines) == sorted([*map(str, range(1, 2001)), "last"])


async def test_both_streams_with_timestamps(node: NodeUnderTest) -> None:
    wait = "until [ -e /tmp/{} ]; do sleep 0.01; done"
    # What is in both pipes at once may be read in either order.
    pod = await node.run("sh", "-c", f"echo ünïcode; {wait.format(1)}; echo err >&2; {wait.format(2)}; printf '日本'")
    for number, said in enumerate(("ünïcode", "err"), 1):
        await pod.said(said)
        await pod.exec("touch", f"/tmp/{number}")
    await pod.over()
    lines = (await pod.log(timestamps=True)).splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == ["ünïcode", "err", "日本"]
    times = [line.split(" ", 1)[0] for line in lines]
    assert all(len(text) == 30 and text.endswith("Z") for text in times)
    assert times == sorted(times)
    assert await pod.log(since_time=times[0]) == "ünïcode\nerr\n日本"


async def test_a_fast_writer_and_a_follower(node: NodeUnderTest) -> None:
    pod = await node.run("seq", "20000")
    await node.store.until(lambda: "waiting" not in pod.state() and bool(pod.state()))
    text = await asyncio.wait_for(pod.log(follow=True), 60)
    assert text.splitlines() == [str(number) for number in range(1, 20001)]
