"""The protocol of results: what the product's command says and does in a sidecar like upstream's."""

from __future__ import annotations

from typing import Any

import pytest
from _pytest.mark import ParameterSet

from kpo_multicluster.pods.xcom import (
    EMPTY_RESULT,
    MOUNT_PATH,
    RESULT_COMMAND,
    RESULT_FILE,
    SIDECAR_COMMAND,
    SIDECAR_NAME,
    read_result,
)

from .pods import Pod, container

MOUNT = [{"name": "xcom", "mountPath": MOUNT_PATH}]
SIDECAR = container(SIDECAR_COMMAND, name=SIDECAR_NAME, volumeMounts=MOUNT)
LONG = f"""(printf '"'; yes 'grüße ' | head -n 200000 | tr -d '\\n'; printf '"') > {RESULT_FILE}"""


def writes(script: str, **spec: Any) -> pytest.MarkDecorator:
    base = container(script, volumeMounts=MOUNT)
    return pytest.mark.pod(base, SIDECAR, volumes=[{"name": "xcom", "emptyDir": {}}], **spec)


def case(name: str, script: str, state: str, value: Any) -> ParameterSet:
    return pytest.param(state, value, marks=writes(script), id=name)


CASES = [
    case("number", f"echo 42 > {RESULT_FILE}", "value", 42),
    case("object", f"""echo '{{"a": [1, "ä", null]}}' > {RESULT_FILE}""", "value", {"a": [1, "ä", None]}),
    case("missing", "true", "missing", None),
    case("empty", f"touch {RESULT_FILE}", "empty", None),
    case("marked-empty", f"printf {EMPTY_RESULT} > {RESULT_FILE}", "empty", None),
    case("more-than-a-million-bytes", LONG, "value", "grüße " * 200_000),
]


@pytest.mark.parametrize(("state", "value"), CASES)
async def test_a_result_is_read_and_its_sidecar_ended(pod: Pod, state: str, value: Any) -> None:
    await pod.ended()
    await pod.running(SIDECAR_NAME)
    done = await pod.execute(*RESULT_COMMAND, name=SIDECAR_NAME)
    assert done.exit_code == 0
    reading = read_result(done.stdout)
    assert (reading.state, reading.ends_sidecar) == (state, True)
    assert reading.value == value
    assert (await pod.ended(SIDECAR_NAME))["exitCode"] == 0
    assert await pod.over() == "Succeeded"


@writes(f"echo 1 > {RESULT_FILE}", shareProcessNamespace=True)
async def test_it_finds_its_sidecar_among_the_pod_s_processes(pod: Pod) -> None:
    await pod.ended()
    await pod.running(SIDECAR_NAME)
    reading = read_result((await pod.execute(*RESULT_COMMAND, name=SIDECAR_NAME)).stdout)
    assert (reading.value, reading.ends_sidecar) == (1, True)
    assert (await pod.ended(SIDECAR_NAME))["exitCode"] == 0


@writes("exit 3")
async def test_a_sidecar_waits_until_it_is_asked_to_end(pod: Pod) -> None:
    await pod.ended()
    await pod.running(SIDECAR_NAME)
    # As upstream ends it.
    done = await pod.execute("/bin/sh", "-c", "kill -2 $(pgrep -u $(id -u) -f 'sh')", name=SIDECAR_NAME)
    assert done.stderr == b""
    assert (await pod.ended(SIDECAR_NAME))["exitCode"] == 0
    assert await pod.over() == "Failed"


@writes(f"""echo '{{"x": 1}}' > {RESULT_FILE}""")
async def test_reading_twice_is_harmless(pod: Pod) -> None:
    await pod.ended()
    await pod.running(SIDECAR_NAME)
    for _ in range(2):
        assert read_result((await pod.execute(*RESULT_COMMAND, name=SIDECAR_NAME)).stdout).value == {"x": 1}
