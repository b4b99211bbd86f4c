"""A pod task that runs the source of a function: that of `@task.pod`, and what a triggerer makes of one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Final

from kpo_multicluster.airflow_names import Context
from kpo_multicluster.decorators.function_source import FunctionSource
from kpo_multicluster.decorators.payload import BOOTSTRAP, payload
from kpo_multicluster.operators.objects import PodObject
from kpo_multicluster.operators.pod import KubernetesPodOperator
from kpo_multicluster.pods.manifest import PodArguments
from kpo_multicluster.pods.xcom import RESULT_FILE
from kpo_multicluster.raised import airflow_errors

COMMAND: Final = ("cmds", "arguments")


class FunctionInPod(KubernetesPodOperator):
    """Sends a function with its arguments, which may be templates, to a pod that runs it.

    Attributes:
        op_args: positional arguments.
        op_kwargs: keyword arguments.
        python: the interpreter in the image.
        serializer: of the arguments.
    """

    template_fields: Sequence[str] = (
        "op_args",
        "op_kwargs",
        *(name for name in KubernetesPodOperator.template_fields if name not in COMMAND),
    )

    op_args: Collection[Any]
    op_kwargs: Mapping[str, Any]
    python: str
    serializer: str
    _function: FunctionSource
    # The class attribute is for what looks at a task before it has run.
    _sent: Sequence[dict[str, str]] = ()

    def _of_context(self) -> Collection[str]:
        """Names of what the function gets of the task's context."""
        return ()

    def _build(self, context: Context | None) -> PodObject:
        with airflow_errors():
            # Without a context (a dry run), arguments may be what other tasks have yet to return.
            self._sent = [] if context is None else self._payload(context)
        return super()._build(context)

    def _payload(self, context: Context) -> list[dict[str, str]]:
        of_context = {name: dict(context)[name] for name in self._of_context()}
        return payload(
            self._function,
            list(self.op_args),
            {**of_context, **self.op_kwargs},
            serializer=self.serializer,
            result_file=RESULT_FILE if self.do_xcom_push else None,
        )

    def _pod_arguments(self) -> PodArguments:
        arguments = super()._pod_arguments()
        return replace(
            arguments,
            # Unbuffered: a line is to be seen when it is printed.
            cmds=[self.python, "-u", "-c", BOOTSTRAP],
            arguments=[],
            pod_runtime_info_envs=[*(arguments.pod_runtime_info_envs or ()), *self._sent],
            # They replace what a template says also where they are empty.
            given=(arguments.given or frozenset()) | set(COMMAND),
        )


class SentFunctionOperator(FunctionInPod):
    """A task of `@task.pod` where its DAG file is not: made of the function's source.

    Args:
        function: the fields of a `FunctionSource`.
        of_context: names of what the function gets of the task's context.
        op_args: positional arguments.
        op_kwargs: keyword arguments.
        python: the interpreter in the image.
        serializer: of the arguments.
        **kwargs: of `KubernetesPodOperator`.
    """

    custom_operator_name: ClassVar[str] = "@task.pod"

    def __init__(
        self,
        *,
        function: Mapping[str, Any],
        of_context: Collection[str],
        op_args: Sequence[Any],
        op_kwargs: Mapping[str, Any],
        python: str,
        serializer: str,
        **kwargs: Any,
    ) -> None:
        self._function = FunctionSource(**function)
        self._names = tuple(of_context)
        self.python = python
        self.serializer = serializer
        self.op_args = op_args
        self.op_kwargs = op_kwargs
        super().__init__(**kwargs)

    def _of_context(self) -> Collection[str]:
        return self._names
