"""`@task.pod`: runs a Python function in a pod.

    @task.pod(image="python:3.12-slim", cluster=eks("gpu", region="us-east-2"))
    def multiply(number: int) -> int:
        return number * 23

The image needs Python 3.6 or newer, and nothing of Airflow or of this package.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from airflow.sdk.bases.decorator import TaskDecorator, task_decorator_factory
from airflow.sdk.definitions.context import KNOWN_CONTEXT_KEYS

from kpo_multicluster.airflow_names import Context
from kpo_multicluster.decorators.decorated_pod import COMMAND, DecoratedPodOperator
from kpo_multicluster.decorators.function_source import source_of
from kpo_multicluster.decorators.payload import BOOTSTRAP, SERIALIZERS, payload
from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.operators.checks import check_kind_of, check_one_of
from kpo_multicluster.operators.objects import PodObject
from kpo_multicluster.operators.pod import KubernetesPodOperator
from kpo_multicluster.pods.manifest import PodArguments
from kpo_multicluster.pods.xcom import RESULT_FILE
from kpo_multicluster.raised import airflow_errors

__all__ = ["PodFunctionOperator", "pod_task"]

# What is text, or made of it; other values of a context are objects of Airflow.
_SENT_CONTEXT = frozenset(
    {"ds", "ds_nodash", "params", "run_id", "task_instance_key_str", "ts", "ts_nodash", "ts_nodash_with_tz"}
)


class PodFunctionOperator(DecoratedPodOperator):
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
    template_fields: Sequence[str] = (
        "op_args",
        "op_kwargs",
        *(name for name in KubernetesPodOperator.template_fields if name not in COMMAND),
    )
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
        self._sent: list[dict[str, str]] = []
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

    def _build(self, context: Context | None) -> PodObject:
        with airflow_errors():
            # Without a context (a dry run), arguments may be what other tasks have yet to return.
            self._sent = [] if context is None else self._payload(context)
        return super()._build(context)

    def _payload(self, context: Context) -> list[dict[str, str]]:
        of_context = {name: dict(context)[name] for name in self._unbound_context_keys() & _SENT_CONTEXT}
        return payload(
            self._function,
            list(self.op_args),
            {**of_context, **self.op_kwargs},
            serializer=self.serializer,
            result_file=RESULT_FILE if self.do_xcom_push else None,
        )

    def _pod_arguments(self) -> PodArguments:
        arguments = super()._pod_arguments()
        return self._replacing(
            arguments,
            COMMAND,
            # Unbuffered: a line is to be seen when it is printed.
            cmds=[self.python, "-u", "-c", BOOTSTRAP],
            arguments=[],
            pod_runtime_info_envs=[*(arguments.pod_runtime_info_envs or ()), *self._sent],
        )


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
