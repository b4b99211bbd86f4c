"""`@task.pod_cmd`: commands that functions return, run in pods of an embedded cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk import DAG

from kpo_multicluster.decorators.pod_cmd import pod_cmd_task
from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.testing import EmbeddedCluster

Where = dict[str, Any]
Run = Callable[..., Any]
SUFFIX = "of this file"


def made(function: Callable[..., Any], where: Where, *args: Any, **kwargs: Any) -> Any:
    decorated: Any = pod_cmd_task(function, **where)
    with DAG("dag", schedule=None):
        return decorated(*args, **kwargs)


def containers(pods: EmbeddedCluster) -> list[dict[str, Any]]:
    return [container for pod in pods.pods() for container in pod["spec"]["containers"]]


def test_the_command_that_is_returned(where: Where, run: Run, lines: Callable[[], list[str]]) -> None:
    def f(word: str, *, more: str) -> list[str]:
        # It runs here, where everything is.
        return ["echo", word, more, SUFFIX]

    run(made(f, where, "hello", more="world"))
    assert any(line.endswith("hello world of this file") for line in lines())


def test_what_it_returns_is_a_template(where: Where, run: Run, lines: Callable[[], list[str]]) -> None:
    def f() -> list[str]:
        return ["echo", "{{ who }} at {{ ti.try_number }}"]

    task = made(f, where)
    run(task, who="me")
    assert any(line.endswith("me at 1") for line in lines())
    # This is what Airflow shows of it.
    assert task.operator.cmds == ["echo", "me at 1"]
    assert task.operator.overwrite_rtif_after_execution


def test_values_of_the_context(where: Where, run: Run, lines: Callable[[], list[str]]) -> None:
    def f(word: str, ti: Any = None, **context: Any) -> list[str]:
        return ["echo", word, ti.dag_id, context["who"]]

    run(made(f, where, "a"), who="b")
    assert any(line.endswith("a dag b") for line in lines())


def test_values_of_the_context_behind_any_number_of_arguments(
    where: Where, run: Run, lines: Callable[[], list[str]]
) -> None:
    def f(*words: str, ds: Any = None) -> list[str]:
        return ["echo", *words, ds]

    run(made(f, where, "a", "b", "c"), ds="2026-01-01")
    assert any(line.endswith("a b c 2026-01-01") for line in lines())


def test_an_async_function_is_refused(where: Where) -> None:
    async def f() -> list[str]:
        return ["true"]

    with pytest.raises(ConfigurationError, match="function 'f' is async: write it with def"):
        made(f, where)


def test_arguments_of_the_image_s_own_entrypoint(where: Where, run: Run, pods: EmbeddedCluster) -> None:
    def f() -> list[str]:
        return ["-c", "exit 0"]

    template = {"spec": {"containers": [{"name": "base", "image": "x", "command": ["sh"], "args": ["-c", "exit 1"]}]}}
    run(made(f, {**where, "args_only": True, "pod_template_dict": template, "on_finish_action": "keep_pod"}))
    assert [(c["command"], c["args"]) for c in containers(pods)] == [(["sh"], ["-c", "exit 0"])]


def test_a_command_leaves_nothing_of_a_template_s(where: Where, run: Run, pods: EmbeddedCluster) -> None:
    def f() -> list[str]:
        return ["true"]

    template = {"spec": {"containers": [{"name": "base", "image": "x", "command": ["false"], "args": ["x"]}]}}
    run(made(f, {**where, "pod_template_dict": template, "on_finish_action": "keep_pod"}))
    assert [(c["command"], c.get("args") or []) for c in containers(pods)] == [(["true"], [])]


def test_a_result(where: Where, run: Run) -> None:
    def f(number: int) -> list[str]:
        return ["sh", "-c", f"echo {number * 23} > /airflow/xcom/return.json"]

    assert run(made(f, {**where, "do_xcom_push": True}, 2)) == 46


@pytest.mark.parametrize(
    ("returned", "told"),
    [("echo", "a str"), (None, "a NoneType"), ([], "an empty one"), (["a", 1], "one that holds a int")],
)
def test_what_is_no_command(where: Where, run: Run, pods: EmbeddedCluster, returned: Any, told: str) -> None:
    def f() -> Any:
        return returned

    with pytest.raises(ConfigurationError, match=f"'f' must return a list of texts, .* not {told}"):
        run(made(f, where))
    assert "create" not in pods.requests.counts()


def test_one_without_a_worker_is_refused(where: Where) -> None:
    decorated: Any = pod_cmd_task(lambda: ["true"], workerless=True, **where)
    with DAG("dag", schedule=None), pytest.raises(ConfigurationError, match="cannot be workerless: its function runs"):
        decorated()


def test_a_command_beside_the_function_is_refused(where: Where) -> None:
    def f() -> list[str]:
        return ["true"]

    with pytest.raises(ConfigurationError, match="pod_cmd does not take cmds: return the command"):
        made(f, {**where, "cmds": ["a"]})
    with pytest.raises(ConfigurationError, match="args_only must be True or False, not str"):
        made(f, {**where, "args_only": "yes"})
