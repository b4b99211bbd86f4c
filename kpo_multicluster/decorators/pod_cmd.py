"""`@task.pod_cmd`: runs in a pod the command that a Python function returns.

    @task.pod_cmd(image="alpine:3")
    def count(path: str) -> list[str]:
        return ["wc", "-l", path]

The function runs where the task does, with the DAG file and all of the task's context at hand.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from airflow.sdk.bases.decorator import TaskDecorator, task_decorator_factory

from kpo_multicluster.airflow_names import Context
from kpo_multicluster.decorators.decorated_pod import DecoratedPodOperator
from kpo_multicluster.decorators.function_in_pod import COMMAND
from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.operators.checks import check_kind_of
from kpo_multicluster.operators.pod import KubernetesPodOperator
from kpo_multicluster.pods.manifest import PodArguments
from kpo_multicluster.raised import as_airflow

__all__ = ["PodCommandOperator", "pod_cmd_task"]


class PodCommandOperator(DecoratedPodOperator):
    """What a function decorated with `@task.pod_cmd` becomes.

    Args:
        python_callable: the function; returns a list of texts, which may hold templates. What a template in its
            arguments was rendered to, it gets as it is.
        args_only: the function returns arguments of the image's own entrypoint, rather than a command.
        **kwargs: `op_args` and `op_kwargs` as for any decorated task, and those of `KubernetesPodOperator`.

    Raises:
        ConfigurationError: an argument cannot work.
    """

    custom_operator_name = "@task.pod_cmd"
    # What was run is to be seen among the task's rendered fields.
    overwrite_rtif_after_execution = True
    template_fields: Sequence[str] = ("op_args", "op_kwargs", *KubernetesPodOperator.template_fields)
    _rather = "return the command from the function, or with args_only=True the arguments of the image's entrypoint."

    def __init__(self, *, python_callable: Callable[..., Any], args_only: bool = False, **kwargs: Any) -> None:
        if kwargs.get("workerless") or kwargs.get("start_from_trigger"):
            raise ConfigurationError(
                "A task of @task.pod_cmd cannot be workerless: its function runs where the task does, and triggerers "
                "do not read its DAG file. Use deferrable=True, which frees the worker while the pod runs."
            )
        if inspect.iscoroutinefunction(python_callable):
            raise ConfigurationError(
                f"The @task.pod_cmd function {python_callable.__name__!r} is async: write it with def, as it has "
                "nothing to await. What takes long is the command that it returns."
            )
        check_kind_of("args_only", args_only, bool, "True or False")
        self.args_only = args_only
        super().__init__(python_callable=python_callable, **kwargs)

    def execute(self, context: Context) -> Any:
        """Asks the function for the command, and runs it; returns the pod's XCom result if `do_xcom_push` is set."""
        returned = self._returned(context)
        jinja = self.get_template_env(self.get_dag())
        rendered = self.render_template(returned, context, jinja)
        # Rendering gives Python objects where the DAG asks for them: a command consists of texts.
        command = [part if isinstance(part, str) else str(part) for part in rendered]
        self.cmds, self.arguments = ([], command) if self.args_only else (command, [])
        return super().execute(context)

    def _returned(self, context: Context) -> list[str]:
        command = self.python_callable(*self.op_args, **self._keywords({**context, **self.op_kwargs}))
        valid = isinstance(command, (list, tuple)) and all(isinstance(part, str) for part in command)
        if not valid or not command:
            raise as_airflow(
                ConfigurationError(
                    f"The @task.pod_cmd function {self.python_callable.__name__!r} must return a list of texts, such "
                    f"as ['echo', 'hello'], not {_told(command)}."
                )
            )
        return list(command)

    def _keywords(self, everything: Mapping[str, Any]) -> dict[str, Any]:
        """What the function takes of a context and its own arguments, besides those it gets by their place."""
        parameters = inspect.signature(self.python_callable).parameters
        by_place = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        placed = [name for name in parameters if parameters[name].kind in by_place][: len(self.op_args)]
        if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
            everything = {name: everything[name] for name in parameters if name in everything}
        return {name: value for name, value in everything.items() if name not in placed}

    def _pod_arguments(self) -> PodArguments:
        arguments = super()._pod_arguments()
        # They replace what a template says also where they are empty.
        return replace(
            arguments, given=(arguments.given or frozenset()) | set(COMMAND[1:] if self.args_only else COMMAND)
        )


def _told(command: Any) -> str:
    if not isinstance(command, (list, tuple)):
        return f"a {type(command).__name__}"
    if not command:
        return "an empty one"
    return f"one that holds a {next(type(part).__name__ for part in command if not isinstance(part, str))}"


def pod_cmd_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """Makes a task of a function: the command that it returns runs in a pod.

    Args:
        python_callable: the function.
        **kwargs: of `PodCommandOperator` and of `KubernetesPodOperator`.
    """
    return task_decorator_factory(
        python_callable=python_callable, decorated_operator_class=PodCommandOperator, **kwargs
    )
