"""`@task.pod`: runs a Python function in a pod.

    @task.pod(image="python:3.12-slim", cluster=eks("gpu", region="us-east-2"))
    def multiply(number: int) -> int:
        return number * 23

The image needs Python 3.6 or newer, and nothing of Airflow or of this package.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from dataclasses import asdict
from typing import Any

from airflow.sdk.bases.decorator import TaskDecorator, task_decorator_factory
from airflow.sdk.definitions.context import KNOWN_CONTEXT_KEYS

from kpo_multicluster.decorators.decorated_pod import DecoratedPodOperator
from kpo_multicluster.decorators.function_in_pod import FunctionInPod, SentFunctionOperator
from kpo_multicluster.decorators.function_source import source_of
from kpo_multicluster.decorators.payload import SERIALIZERS
from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.operators.checks import check_kind_of, check_one_of

__all__ = ["PodFunctionOperator", "pod_task"]

# What is text, or made of it; other values of a context are objects of Airflow.
_SENT_CONTEXT = frozenset(
    {"ds", "ds_nodash", "params", "run_id", "task_instance_key_str", "ts", "ts_nodash", "ts_nodash_with_tz"}
)


class PodFunctionOperator(DecoratedPodOperator, FunctionInPod):
    """What a function decorated with `@task.pod` becomes.

    Args:
        python_callable: the function.
        python: the interpreter in the image.
        serializer: of the arguments: `json`, `pickle`, `dill` or `cloudpickle`. The latter ones need about the same
            Python in the image as where the task runs, and `dill` or `cloudpickle` in both.
        do_xcom_push: whether the function's result becomes the task's; default whether it returns anything.
        **kwargs: `op_args`, `op_kwargs` and `multiple_outputs` as for any decorated task, and those of
            `KubernetesPodOperator`.

    Raises:
        ConfigurationError: an argument cannot work, or the function uses what is outside of it.
    """

    custom_operator_name = "@task.pod"
    template_fields = FunctionInPod.template_fields
    _rather = "the function is what runs. Use @task.pod_cmd for a command."

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        python: str = "python3",
        serializer: str = "json",
        do_xcom_push: bool | None = None,
        **kwargs: Any,
    ) -> None:
        check_kind_of("python", python, str, "the name or path of an interpreter in the image")
        check_one_of("serializer", serializer, SERIALIZERS)
        source = source_of(python_callable, self.custom_operator_name)
        self._function = source
        self.python = python
        self.serializer = serializer
        super().__init__(
            python_callable=python_callable,
            do_xcom_push=source.returns if do_xcom_push is None else do_xcom_push,
            **kwargs,
        )
        if not kwargs.get("_airflow_mapped_validation_only"):
            self._check_context_keys()

    def _unbound_context_keys(self) -> set[str]:
        """Parameters of the function that name something of the task's context, and are not given."""
        signature = inspect.signature(self.python_callable)
        bound = signature.bind_partial(*self.op_args, **self.op_kwargs).arguments
        return {name for name in signature.parameters if name in KNOWN_CONTEXT_KEYS and name not in bound}

    def _check_context_keys(self) -> None:
        objects = sorted(self._unbound_context_keys() - _SENT_CONTEXT)
        if objects:
            raise ConfigurationError(
                f"The @task.pod function {self._function.name!r} asks for {', '.join(objects)}, which lives where "
                f"Airflow does and cannot be sent to a pod. It can have {', '.join(sorted(_SENT_CONTEXT))}; pass "
                "anything else as an argument, such as a template '{{ ti.try_number }}'."
            )

    def _of_context(self) -> Collection[str]:
        return self._unbound_context_keys() & _SENT_CONTEXT

    @classmethod
    def _made_anew_as(cls) -> type:
        """One that needs no DAG file to read the function from."""
        return SentFunctionOperator

    def _made_anew_with(self) -> dict[str, Any]:
        return {
            **super()._made_anew_with(),
            "function": asdict(self._function),
            "of_context": sorted(self._of_context()),
            "op_args": self.op_args,
            "op_kwargs": self.op_kwargs,
            "python": self.python,
            "serializer": self.serializer,
        }


def pod_task(
    python_callable: Callable[..., Any] | None = None, multiple_outputs: bool | None = None, **kwargs: Any
) -> TaskDecorator:
    """Makes a task of a function: it runs in a pod.

    Args:
        python_callable: the function.
        multiple_outputs: whether a dictionary that the function returns becomes an XCom for each of its keys; default
            whether its annotation says that it returns a dictionary.
        **kwargs: of `PodFunctionOperator` and of `KubernetesPodOperator`.
    """
    return task_decorator_factory(
        python_callable=python_callable,
        multiple_outputs=multiple_outputs,
        decorated_operator_class=PodFunctionOperator,
        **kwargs,
    )
