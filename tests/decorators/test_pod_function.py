"""`@task.pod`: functions that run in pods of an embedded cluster."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG

from kpo_multicluster.airflow_names import AirflowSkipException
from kpo_multicluster.callbacks import KubernetesPodOperatorCallback
from kpo_multicluster.decorators.pod import pod_task
from kpo_multicluster.errors import ConfigurationError, PodFailedError, PodLostError
from kpo_multicluster.testing import EmbeddedCluster
from tests.operators.deferring import execute_deferred, quiet

from .conftest import FakeTaskInstance

Where = dict[str, Any]
Run = Callable[..., Any]


def made(function: Callable[..., Any], where: Where, *args: Any, **kwargs: Any) -> Any:
    decorated: Any = pod_task(function, **where)
    with DAG("dag", schedule=None):
        return decorated(*args, **kwargs)


def text_of(error: pytest.ExceptionInfo[BaseException]) -> str:
    return str(error.value)


def test_arguments_in_and_the_result_out(where: Where, run: Run) -> None:
    def f(first: Any, *more: Any, last: Any = "default", **named: Any) -> Any:
        import os

        return {"all": [first, *more, last, named], "left": [n for n in os.environ if n.startswith("KPO_MULTI")]}

    result = run(made(f, where, 1, 2.5, None, last={"ä": ["\n'\"$(PATH)"]}, extra=(True, "☃")))
    assert result == {"all": [1, 2.5, None, {"ä": ["\n'\"$(PATH)"]}, {"extra": [True, "☃"]}], "left": []}


def test_nothing_is_returned_by_a_function_that_returns_nothing(
    where: Where, run: Run, pods: EmbeddedCluster, lines: Callable[[], list[str]]
) -> None:
    def f() -> None:
        print("done it")
        return

    task = made(f, where)
    assert task.operator.do_xcom_push is False
    assert run(task) is None
    assert any(line.endswith("done it") for line in lines())
    # No sidecar, no reading of a result.
    assert "exec" not in pods.requests.counts()


def test_deferred(where: Where) -> None:
    def f(number: int) -> int:
        return number * 23

    operator = quiet(made(f, {**where, "deferrable": True}, 2).operator)
    assert execute_deferred(operator, {"ti": FakeTaskInstance("f")}) == 46


def test_a_result_that_is_asked_for_and_turns_out_to_be_none(where: Where, run: Run) -> None:
    def f(flag: bool) -> Any:
        if flag:
            return {"a": 1}
        return None

    assert run(made(f, where, False)) is None
    assert run(made(f, {**where, "xcom_transport": "termination-message"}, True)) == {"a": 1}
    assert run(made(f, {**where, "do_xcom_push": False}, True)) is None


def test_an_async_function(where: Where, run: Run) -> None:
    async def f(number: int) -> int:
        import asyncio

        await asyncio.sleep(0)
        return number * 23

    task = made(f, where, 2)
    assert task.operator.is_async is False
    assert run(task) == 46


def test_a_large_argument(where: Where, run: Run) -> None:
    import random

    text = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=700_000))

    def f(text: str) -> Any:
        import hashlib
        import subprocess

        # A child process can be started all the same.
        subprocess.run(["true"], check=True)
        return [len(text), hashlib.sha256(text.encode()).hexdigest()]

    import hashlib

    assert run(made(f, where, text)) == [700_000, hashlib.sha256(text.encode()).hexdigest()]


def test_an_argument_that_is_too_large_creates_no_pod(where: Where, run: Run, pods: EmbeddedCluster) -> None:
    import random

    def f(data: str) -> int:
        return len(data)

    with pytest.raises(ConfigurationError, match="characters long when packed, and a pod takes 1,048,576 of them"):
        run(made(f, where, random.Random(1).randbytes(900_000).hex()))
    assert "create" not in pods.requests.counts()


def test_an_exception_is_shown_with_the_lines_of_the_dag_file(
    where: Where, run: Run, lines: Callable[[], list[str]]
) -> None:
    def f(number: int) -> int:
        def inner() -> int:
            return 1 // number  # the culprit

        return inner()

    with pytest.raises(PodFailedError) as error:
        run(made(f, where, 0))
    printed = "\n".join(lines())
    assert "ZeroDivisionError: integer division or modulo by zero" in text_of(error)
    source = Path(__file__).read_text().splitlines()
    culprit = next(n for n, line in enumerate(source, 1) if line.endswith("# the" + " culprit"))
    assert f'File "{__file__}", line {culprit}, in inner' in printed
    assert "return 1 // number  # the culprit" in printed
    # The program that runs the function is not the user's concern.
    assert "<string>" not in printed


def test_an_exception_with_a_cause(where: Where, run: Run, lines: Callable[[], list[str]]) -> None:
    def f() -> None:
        try:
            raise KeyError("first")
        except KeyError as error:
            raise ValueError("second") from error

    with pytest.raises(PodFailedError):
        run(made(f, where))
    printed = "\n".join(lines())
    assert printed.index("KeyError: 'first'") < printed.index("direct cause") < printed.index("ValueError: second")


def test_an_exit_code_of_one_s_own(where: Where, run: Run) -> None:
    def f() -> None:
        import sys

        sys.exit(99)

    with pytest.raises(AirflowSkipException):
        run(made(f, {**where, "skip_on_exit_code": 99}))


@pytest.mark.parametrize(("written", "kind"), [("{1, 2}", "set"), ("{'loss': float('nan')}", "dict")])
def test_a_result_that_is_not_json(
    where: Where, run: Run, lines: Callable[[], list[str]], written: str, kind: str
) -> None:
    def f(written: str) -> Any:
        return eval(written)

    with pytest.raises(PodFailedError):
        run(made(f, where, written))
    assert any(f"The result of f is a {kind} that JSON does not carry" in line for line in lines())


# Airflow does, before 3.2.
@pytest.mark.filterwarnings("ignore:Cannot infer multiple_outputs:UserWarning")
def test_annotations_and_names_of_its_own(where: Where, run: Run) -> None:
    def f(when: datetime, depth: int = 3) -> NotThere:  # type: ignore[name-defined]  # noqa: F821
        import math as m

        class Box:
            size = m.floor(2.5)
            twice = size * 2

        def fall(n: int) -> int:
            return 0 if n == 0 else 1 + fall(n - 1)

        global counter
        counter = [x * 2 for x in range(depth)]  # type: ignore[name-defined]
        text = """a
b"""
        return [Box.twice, fall(depth), len(counter), text, when]  # type: ignore[name-defined]

    assert run(made(f, where, "2026")) == [4, 3, 3, "a\nb", "2026"]


def a_function_of_the_module(number: int) -> int:
    return number if number < 2 else a_function_of_the_module(number - 1) + 1


def test_a_function_that_stands_in_the_first_column(where: Where, run: Run) -> None:
    assert run(made(a_function_of_the_module, where, 5)) == 5


@pytest.mark.parametrize("serializer", ["pickle", "dill", "cloudpickle"])
def test_other_serializers(where: Where, run: Run, serializer: str) -> None:
    if serializer != "pickle":
        pytest.importorskip(serializer)

    def f(when: Any, some: Any, key: Any) -> Any:
        return [when.isoformat(), sorted(some), key[1, 2]]

    when = datetime(2026, 1, 1, tzinfo=timezone.utc)
    where = {**where, "serializer": serializer, "python": __import__("sys").executable}
    assert run(made(f, where, when, {2, 1}, key={(1, 2): "x"})) == ["2026-01-01T00:00:00+00:00", [1, 2], "x"]


def test_what_a_serializer_cannot_send(where: Where, run: Run) -> None:
    def f(value: Any) -> None:
        pass

    with pytest.raises(ConfigurationError, match="cannot be sent by serializer='pickle'"):
        run(made(f, {**where, "serializer": "pickle"}, lambda: None))


def test_a_serializer_that_the_image_lacks(where: Where, run: Run, lines: Callable[[], list[str]]) -> None:
    pytest.importorskip("dill")

    def f(value: Any) -> None:
        pass

    # Without site-packages, Python has nothing but its standard library.
    isolated = {**where, "serializer": "dill", "env_vars": {"PYTHONPATH": ""}, "python": "/usr/bin/python3"}
    with pytest.raises(PodFailedError):
        run(made(f, isolated, 1))
    assert any("sent by serializer='dill', which this image does not have" in line for line in lines())


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (datetime(2026, 1, 1), r"Argument 0 of f is of type datetime, which JSON does not carry: .* isoformat\(\)"),
        ({"a": [b"x"]}, r"Argument 0 of f\['a'\]\[0\] is of type bytes"),
        ({1: 2}, "has the key 1 of type int"),
    ],
)
def test_what_json_does_not_carry_creates_no_pod(
    where: Where, run: Run, pods: EmbeddedCluster, value: Any, message: str
) -> None:
    def f(value: Any) -> None:
        pass

    with pytest.raises(ConfigurationError, match=message):
        run(made(f, where, value))
    assert "create" not in pods.requests.counts()


def test_a_line_is_seen_when_it_is_printed_and_a_deletion_ends_it(
    where: Where, run: Run, lines: Callable[[], list[str]]
) -> None:
    def f() -> None:
        import time

        try:
            print("it has begun")
            time.sleep(300)
        finally:
            print("cleaned up")

    deleted: list[str] = []

    class Delete(KubernetesPodOperatorCallback):
        @staticmethod
        def progress_callback(*, line: str, client: Any, pod: Any, **_: Any) -> None:
            if "it has begun" in line:
                deleted.append(line)
                client.delete_namespaced_pod(pod.metadata.name, pod.metadata.namespace)

    # It obeyed: the grace period did not have to pass.
    with pytest.raises(PodLostError):
        run(made(f, {**where, "callbacks": Delete, "termination_grace_period": 300}))
    assert deleted
    assert any("cleaned up" in line for line in lines())


def test_context_values_that_can_be_sent(where: Where, run: Run) -> None:
    def f(ds: Any = None, params: Any = None, run_id: Any = None) -> Any:
        return [ds, params, run_id]

    task = made(f, where, run_id="mine")
    assert run(task, ds="2026-01-01", params={"a": 1}, run_id="theirs") == ["2026-01-01", {"a": 1}, "mine"]


def test_a_dry_run_needs_no_arguments(where: Where, capsys: pytest.CaptureFixture[str]) -> None:
    def f(value: int) -> int:
        return value

    made(f, where, 1).operator.dry_run()
    assert "python3" in capsys.readouterr().out


def test_arguments_are_not_written_to_the_log_of_a_failed_pod(
    where: Where, run: Run, lines: Callable[[], list[str]]
) -> None:
    def f(value: str) -> None:
        raise SystemExit(3)

    with pytest.raises(PodFailedError):
        run(made(f, where, "geheim"))
    printed = "\n".join(lines())
    assert "KPO_MULTICLUSTER_FUNCTION_0" in printed
    assert re.search(r"name: KPO_MULTICLUSTER_FUNCTION_0\s+value: '\*\*\*'", printed)


def test_a_command_of_one_s_own_replaces_nothing(where: Where) -> None:
    def f() -> None:
        pass

    for name in ("cmds", "arguments"):
        with pytest.raises(ConfigurationError, match=f"@task.pod does not take {name}: .*@task.pod_cmd"):
            made(f, {**where, name: ["a"]})


def test_the_container_s_own_settings_stay(where: Where, run: Run) -> None:
    def f() -> Any:
        import os

        return os.environ["MINE"]

    template = {"spec": {"containers": [{"name": "base", "image": "x", "command": ["no"], "args": ["such"]}]}}
    assert run(made(f, {**where, "pod_template_dict": template, "env_vars": {"MINE": "here"}})) == "here"
