"""Which functions can be sent to a pod, and what is said of those that cannot."""

from __future__ import annotations

import functools
import json as js
import math
import runpy
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG

from kpo_multicluster.decorators.function_source import source_of
from kpo_multicluster.decorators.pod import pod_task
from kpo_multicluster.errors import ConfigurationError

LIMIT = 3


def helper() -> int:
    return 1


def refusal(function: Callable[..., Any]) -> str:
    with pytest.raises(ConfigurationError) as error:
        source_of(function, "@task.pod")
    return str(error.value)


def test_a_module_of_the_file() -> None:
    def f() -> Any:
        return math.pi, js.dumps(1)

    assert "js, a module that the file imports: write `import json as js` inside of it; math, " in refusal(f)


def test_other_names_of_the_file() -> None:
    def f(value: Any = LIMIT) -> Any:
        return helper(), OrderedDict(), datetime.now(), not_there  # type: ignore[name-defined]  # noqa: F821

    message = refusal(f)
    assert f"function 'f' ({__file__}, line " in message
    for part in (
        "LIMIT, which the file defines: pass it as an argument, or define it inside of it",
        "helper, which the file defines: define it inside of it",
        "OrderedDict, which the file imports: write `from collections import OrderedDict` inside of it",
        "datetime, which the file imports: write `from datetime import datetime` inside of it",
        "not_there, which the file does not define at its top",
    ):
        assert part in message


def test_a_closure() -> None:
    factor = 23

    def f(number: int) -> int:
        return number * factor

    assert "factor, a variable of the function around it: pass it as an argument" in refusal(f)


def test_in_a_nested_function_or_a_class() -> None:
    def f() -> Any:
        class Box:
            size = LIMIT

        return Box, lambda: helper()

    message = refusal(f)
    assert "LIMIT, " in message
    assert "helper, " in message


def test_what_is_its_own_is_none_of_these() -> None:
    def f(a: NotThere, *b: int, c: int = len("x"), **d: Any) -> list[Elsewhere]:  # type: ignore[name-defined]  # noqa: F821
        import os.path as path
        from math import pi

        g: Missing = 1  # type: ignore[name-defined]  # noqa: F821

        class Local(Exception):
            field: int = 1
            other = field

        try:
            found = [pi * x for x in b if x > c]
        except (Local, ValueError) as error:
            print(error, __name__, __file__)
            raise
        return [path, found, d, f, g, {k: v for k, v in d.items()}, (y := a), y]  # noqa: C416

    source = source_of(f, "@task.pod")
    assert source.returns
    assert source.name == "f"


def test_decorators_are_left_out() -> None:
    def registering(function: Any) -> Any:
        return function

    # fmt: off
    @registering
    # with a comment
    @registering
    def f() -> None:
        """Says
nothing."""
        return
    # fmt: on

    source = source_of(f, "@task.pod")
    assert "registering" not in source.text
    assert source.text.startswith("if True:\n    def f()")
    assert not source.returns
    lines = Path(__file__).read_text().splitlines()
    assert lines[source.line] == "    def f() -> None:"


def test_one_that_wraps_is_refused() -> None:
    def doubling(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper() -> Any:
            return function() * 2

        return wrapper

    @doubling
    def f() -> int:
        return 1

    assert "'f' is wrapped by another decorator below" in refusal(f)


def test_what_is_no_plain_function() -> None:
    class Callable_:
        def __call__(self) -> None:
            pass

    def generator() -> Any:
        yield 1

    assert "is a lambda" in refusal(lambda: None)
    assert "of type builtin_function_or_method" in refusal(len)
    assert "of type partial" in refusal(functools.partial(helper))
    assert "of type Callable_" in refusal(Callable_())
    assert "is a generator" in refusal(generator)


def test_one_without_a_file() -> None:
    names: dict[str, Any] = {}
    exec("def f(): pass", names)
    assert "cannot be read" in refusal(names["f"])


def test_a_file_that_has_changed_since(tmp_path: Path) -> None:
    file = tmp_path / "dag.py"
    file.write_text("def other():\n    return 2\n\n\ndef f():\n    return 1\n")
    names = runpy.run_path(str(file))
    # As whoever deploys DAGs may do between a worker's import of the file and the run of a mapped task.
    file.write_text("import json\n\n\ndef other():\n    return 2\n\n\ndef f():\n    return 1\n")
    assert "its file has changed since: run the task again" in refusal(names["f"])


def test_a_function_of_another_name() -> None:
    def f(number: int) -> int:
        return 1 if number < 2 else number * f(number - 1)

    f.__name__ = "factorial"
    # In the pod it has the name that it is written with.
    assert source_of(f, "@task.pod").name == "f"


def test_the_dag_file_is_refused_with_it() -> None:
    def f() -> float:
        return math.pi

    with DAG("dag", schedule=None), pytest.raises(ConfigurationError, match="math, a module that the file imports"):
        pod_task(f, image="python:3")()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"serializer": "yaml"}, "serializer must be one of 'json', 'pickle', 'dill', 'cloudpickle'"),
        ({"python": 3}, "python must be the name or path of an interpreter"),
        ({"get_logs": "yes"}, "get_logs must be True or False"),
    ],
)
def test_arguments(arguments: dict[str, Any], message: str) -> None:
    def f() -> None:
        pass

    with DAG("dag", schedule=None), pytest.raises(ConfigurationError, match=message):
        pod_task(f, **arguments)()


def test_context_values_that_cannot_be_sent() -> None:
    def f(ti: Any = None, ds: Any = None, logical_date: Any = None) -> None:
        pass

    decorated: Any = pod_task(f)
    with DAG("dag", schedule=None):
        with pytest.raises(ConfigurationError, match=r"'f' asks for logical_date, ti, .* can have ds, .* '\{\{ ti\."):
            decorated()
        decorated(ti="{{ ti.try_number }}", logical_date="{{ logical_date }}")
