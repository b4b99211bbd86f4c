"""Logs: what the server gives of what a container wrote."""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import time
from datetime import datetime, timedelta
from typing import Any

import pytest
from _pytest.mark import ParameterSet

from kpo_multicluster.api.client import ApiClient
from kpo_multicluster.errors import BadRequestError, InvalidError

from .pods import IDLE, NOBODY, PYTHON_IMAGE, UNTIL_TOLD, WAIT, Object, Pod, container

STAMPED = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.(\d{1,9})Z (.*)")
PIECE = 16 * 1024
# What a container has printed when it ends may be lost on a real node if it is much: containerd 1.6 reads its pipe to
# the last whole buffer only.
DRAIN = "time.sleep(2)"


def stamps(text: str) -> list[tuple[datetime, str, str]]:
    """Each line of a log with timestamps: whole second, its fraction, text."""
    found = [STAMPED.fullmatch(line) for line in text.splitlines()]
    assert None not in found, text[:500]
    return [(datetime.strptime(each[1], "%Y-%m-%dT%H:%M:%S"), each[2], each[3]) for each in found if each]


def python(program: str) -> Object:
    return {**container(), "image": PYTHON_IMAGE, "command": ["python", "-u", "-c", f"import sys, time\n{program}"]}


@pytest.mark.pod(container(f"{UNTIL_TOLD}; for i in 1 2 3 4 5; do echo out $i; echo err $i >&2; sleep 0.2; done"))
async def test_a_log_is_followed_to_its_end(pod: Pod) -> None:
    await pod.running()
    log = asyncio.create_task(pod.log(follow="true"))
    await pod.go()
    lines = (await log).splitlines()
    assert [line for line in lines if line.startswith("out")] == [f"out {n}" for n in range(1, 6)]
    assert [line for line in lines if line.startswith("err")] == [f"err {n}" for n in range(1, 6)]
    assert (await pod.ended())["exitCode"] == 0


@pytest.mark.pod(container("for n in 1 2 3 4 5; do echo $n; until [ -e /tmp/$n ]; do sleep 0.1; done; done"))
async def test_a_line_arrives_while_its_container_is_silent(api: ApiClient, pod: Pod) -> None:
    await pod.running()
    seen = b""
    parts = api.stream(f"{pod.path}/log", params={"follow": "true"})
    async with contextlib.aclosing(parts):
        async for part in parts:
            seen += part
            # The next is not written before this one was read.
            await pod.execute("touch", f"/tmp/{len(seen.split())}")
    assert seen == b"1\n2\n3\n4\n5\n"


@pytest.mark.pod(container("echo one; echo two; echo three"))
async def test_a_log_of_what_has_ended(pod: Pod) -> None:
    await pod.ended()
    assert await pod.log() == "one\ntwo\nthree\n"
    assert await pod.log(follow="true") == "one\ntwo\nthree\n"
    assert await pod.log(tailLines=2) == "two\nthree\n"
    assert await pod.log(tailLines=0) == ""
    assert await pod.log(limitBytes=7) == "one\ntwo"
    assert await pod.log(tailLines=2, limitBytes=5) == "two\nt"


@pytest.mark.pod(container("echo one; sleep 0.1; echo; echo three"))
async def test_timestamps_come_before_each_line(pod: Pod) -> None:
    ended = await pod.ended()
    lines = stamps(await pod.log(timestamps="true"))
    assert [text for _, _, text in lines] == ["one", "", "three"]
    assert [(second, fraction) for second, fraction, _ in lines] == sorted(line[:2] for line in lines)
    # Not compared with startedAt: runtimes take it once the program runs, which may have written by then.
    assert lines[0][0].strftime("%Y-%m-%dT%H:%M:%SZ") <= ended["finishedAt"]


@pytest.mark.pod(container("for i in $(seq 12); do echo $i; sleep 0.2; done"))
async def test_since_time_is_cut_to_a_second_and_included(pod: Pod) -> None:
    await pod.ended()
    lines = stamps(await pod.log(timestamps="true"))
    middle = lines[6][0]
    expected = [text for second, _, text in lines if second >= middle]
    assert 0 < len(expected) < 12
    for fraction in ("", ".000000001", ".5", ".999999999"):
        since = middle.strftime("%Y-%m-%dT%H:%M:%S") + fraction + "Z"
        assert (await pod.log(sinceTime=since)).split() == expected, since
    later = (lines[-1][0] + timedelta(seconds=2)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert await pod.log(sinceTime=later) == ""


@pytest.mark.pod(container("echo one"))
async def test_since_time_may_have_a_zone(pod: Pod) -> None:
    await pod.ended()
    ((second, _, _),) = stamps(await pod.log(timestamps="true"))
    local = (second + timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M:%S")
    assert await pod.log(sinceTime=f"{local}+02:00") == "one\n"
    assert await pod.log(sinceTime=f"{local}Z") == ""


@pytest.mark.pod(container(f"echo old; {IDLE}"))
async def test_since_seconds(pod: Pod) -> None:
    await pod.said("old")
    since, written, took = 2.0, "", math.inf
    # What was asked for while it was still new is told by the clock, which a busy machine may be slower than.
    for attempt in range(30):
        await asyncio.sleep(since + 0.5)
        began = time.monotonic()
        await pod.execute("sh", "-c", f"echo new {attempt} > /proc/1/fd/1")
        written = await pod.log(sinceSeconds=int(since))
        took = time.monotonic() - began
        if took < since:
            break
    assert took < since
    assert written == f"new {attempt}\n"
    assert (await pod.log(sinceSeconds=3600)).startswith("old\nnew 0\n")


TEXT = "grüße, 世界, Ελλάδα, \U0001f680"
SAY = f"""
echo '{TEXT}'; printf 'not \\377\\376 text\\n'; printf 'tab\\there\\n'; printf 'return\\r\\n'; echo ' spaces '
"""


@pytest.mark.pod(container(SAY))
async def test_text_of_any_language_and_no_text_at_all(pod: Pod) -> None:
    await pod.ended()
    assert await pod.raw_log() == TEXT.encode() + b"\nnot \xff\xfe text\ntab\there\nreturn\n spaces \n"


@pytest.mark.pod(container("echo first; printf 'no newline'"))
async def test_a_line_without_end(pod: Pod) -> None:
    await pod.ended()
    assert await pod.log() == "first\nno newline"
    assert await pod.log(follow="true") == "first\nno newline"


@pytest.mark.pod(container())
async def test_a_container_that_says_nothing(pod: Pod) -> None:
    await pod.ended()
    assert await pod.log() == ""
    assert await pod.log(follow="true", timestamps="true") == ""


def long_line(length: int) -> ParameterSet:
    return pytest.param(length, marks=pytest.mark.pod(python(f"print('x' * {length}); print('after'); {DRAIN}")))


@pytest.mark.parametrize("length", [long_line(length) for length in (PIECE - 1, PIECE, PIECE + 1, 40_000, 300_000)])
async def test_a_long_line_is_joined(pod: Pod, length: int) -> None:
    await pod.ended()
    assert await pod.log() == "x" * length + "\nafter\n"
    # It is stored in pieces with a time each, of which the first is shown.
    assert [text for _, _, text in stamps(await pod.log(timestamps="true"))] == ["x" * length, "after"]


@pytest.mark.pod(python(f"print('a' * 40000, end=''); time.sleep(2.1); print('b' * 40000); {DRAIN}"))
async def test_the_rest_of_a_long_line_has_no_time(pod: Pod) -> None:
    """Where `sinceTime` falls between its pieces, which is what a cursor must live with."""
    await pod.ended()
    ((second, _, text),) = stamps(await pod.log(timestamps="true"))
    assert text == "a" * 40000 + "b" * 40000
    since = (second + timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    # Two pieces were stored when they were full, the rest two seconds later.
    assert await pod.log(timestamps="true", sinceTime=since) == "a" * (40000 - 2 * PIECE) + "b" * 40000 + "\n"


@pytest.mark.pod(python(f"print('first'); print('x' * {PIECE * 2 + 5}); print('last'); {DRAIN}"))
async def test_tail_lines_counts_pieces(pod: Pod) -> None:
    await pod.ended()
    assert await pod.log(tailLines=1) == "last\n"
    assert await pod.log(tailLines=2) == "x" * 5 + "\nlast\n"
    assert await pod.log(tailLines=5) == "first\n" + "x" * (PIECE * 2 + 5) + "\nlast\n"


@pytest.mark.pod(container("seq 20000; sleep 2"))
async def test_20000_lines(pod: Pod) -> None:
    await pod.ended()
    expected = "".join(f"{n}\n" for n in range(1, 20001))
    assert await pod.log() == expected
    assert [text for _, _, text in stamps(await pod.log(timestamps="true"))] == expected.split()
    assert await pod.log(tailLines=3) == "19998\n19999\n20000\n"


MIXED = f"""
for n in range(20000):
    print(n, "out" if n % 3 else "err", file=sys.stdout if n % 3 else sys.stderr, flush=n % 1000 == 0)
    if n % 2000 == 0:
        time.sleep(0.1)
sys.stdout.flush()
{DRAIN}
"""


@pytest.mark.pod(python(MIXED))
async def test_20000_lines_followed_as_they_are_written(pod: Pod) -> None:
    await pod.began()
    lines = (await pod.log(follow="true")).splitlines()
    assert len(lines) == 20000
    assert [line for line in lines if line.endswith("err")] == [f"{n} err" for n in range(0, 20000, 3)]
    assert [line for line in lines if line.endswith("out")] == [f"{n} out" for n in range(20000) if n % 3]


@pytest.mark.pod(
    container("echo from base"),
    container("echo from side", name="side"),
    initContainers=[container("echo from first", name="first")],
)
async def test_a_log_per_container(pod: Pod) -> None:
    await pod.over()
    assert [await pod.log(name) for name in ("first", "base", "side")] == ["from first\n", "from base\n", "from side\n"]
    with pytest.raises(BadRequestError) as refused:
        await anext(pod.api.stream(f"{pod.path}/log"))
    expected = f"a container name must be specified for pod {pod.name}, choose one of: [first base side]"
    assert refused.value.detail == expected
    with pytest.raises(BadRequestError, match=f"container nobody is not valid for pod {pod.name}"):
        await pod.log("nobody")


@pytest.mark.pod(
    container(volumeMounts=[{"name": "v", "mountPath": "/v"}]),
    volumes=[{"name": "v", "secret": {"secretName": "no-such-secret"}}],
)
async def test_a_log_of_what_has_not_begun(pod: Pod) -> None:
    await pod.waiting("ContainerCreating")
    with pytest.raises(BadRequestError) as refused:
        await pod.log(follow="true")
    assert refused.value.detail == f'container "base" in pod "{pod.name}" is waiting to start: ContainerCreating'


@pytest.mark.pod(container(), initContainers=[container(WAIT, name="first")])
async def test_a_log_of_what_waits_for_its_init_containers(pod: Pod) -> None:
    await pod.running("first")
    with pytest.raises(BadRequestError) as refused:
        await pod.log()
    assert refused.value.detail == f'container "base" in pod "{pod.name}" is waiting to start: PodInitializing'


@pytest.mark.pod(container(), **NOBODY)
async def test_a_log_of_a_pod_that_no_node_took(pod: Pod) -> None:
    assert await pod.log() == ""


UPTIME = f"cat /proc/uptime > /dev/termination-log; cat /dev/termination-log; {UNTIL_TOLD}; exit 1"


@pytest.mark.pod(container(UPTIME), restartPolicy="OnFailure")
async def test_the_log_before_a_restart(pod: Pod) -> None:
    await pod.running()
    with pytest.raises(BadRequestError) as refused:
        await pod.log(previous="true")
    assert refused.value.detail == f'previous terminated container "base" in pod "{pod.name}" not found'
    await pod.go()
    await pod.until(lambda _: pod.container()["restartCount"] == 1 and "running" in pod.container()["state"])
    before = pod.container()["lastState"]["terminated"]["message"]
    assert await pod.log(previous="true") == before
    await pod.said(".")
    now = await pod.log()
    assert now != before
    assert now


@pytest.mark.parametrize(
    ("params", "error", "text"),
    [
        ({"tailLines": -1}, InvalidError, "tailLines: Invalid value: -1: must be greater than or equal to 0"),
        ({"limitBytes": 0}, InvalidError, "limitBytes: Invalid value: 0: must be greater than 0"),
        ({"sinceTime": "yesterday"}, BadRequestError, 'parsing time "yesterday" as "2006-01-02T15:04:05Z07:00"'),
    ],
    ids=["tail", "limit", "time"],
)
@pytest.mark.pod(container(), **NOBODY)
async def test_options_that_are_none(pod: Pod, params: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=re.escape(text)):
        await pod.log(**params)


@pytest.mark.pod(container("for i in $(seq 300); do echo $i; done; sleep 1; echo end"))
async def test_several_follow_at_once(pod: Pod) -> None:
    await pod.began()
    logs = await asyncio.gather(*(pod.log(follow="true") for _ in range(5)))
    assert set(logs) == {"".join(f"{n}\n" for n in range(1, 301)) + "end\n"}
