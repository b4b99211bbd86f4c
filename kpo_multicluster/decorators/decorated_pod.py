"""What the tasks of `@task.pod` and `@task.pod_cmd` have in common: a function says what their pod runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Final

from airflow.sdk.bases.decorator import DecoratedOperator

from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.operators.pod import KubernetesPodOperator
from kpo_multicluster.pods.manifest import PodArguments

COMMAND: Final = ("cmds", "arguments")


class DecoratedPodOperator(DecoratedOperator, KubernetesPodOperator):
    """A pod task that is made of a function.

    Args:
        python_callable: the function.
        **kwargs: `op_args`, `op_kwargs` and `multiple_outputs` as for any decorated task, and those of
            `KubernetesPodOperator` but `cmds`, `arguments` and `workerless`.

    Raises:
        ConfigurationError: one of those is given all the same.
    """

    template_fields_renderers = {
        **DecoratedOperator.template_fields_renderers,
        **KubernetesPodOperator.template_fields_renderers,
    }
    shallow_copy_attrs: Sequence[str] = ("python_callable", *KubernetesPodOperator.shallow_copy_attrs)

    custom_operator_name: ClassVar[str]
    # What to do in place of giving a command.
    _rather: ClassVar[str]

    def __init__(self, *, python_callable: Callable[..., Any], **kwargs: Any) -> None:
        given = [name for name in COMMAND if kwargs.get(name) is not None]
        if given:
            raise ConfigurationError(f"{self.custom_operator_name} does not take {' and '.join(given)}: {self._rather}")
        if kwargs.get("workerless") or kwargs.get("start_from_trigger"):
            raise ConfigurationError(
                f"A task of {self.custom_operator_name} cannot be workerless: its function is in the DAG file, which "
                "triggerers do not read. Use deferrable=True, which frees the worker while the pod runs."
            )
        super().__init__(python_callable=python_callable, **kwargs)

    @property
    def is_async(self) -> bool:
        """False: the task itself waits for its pod, whatever the function is."""
        return False

    @staticmethod
    def _replacing(before: PodArguments, names: Iterable[str], /, **values: Any) -> PodArguments:
        """Arguments with other values; those of `names` replace what a template says also where they are empty."""
        return replace(before, **values, given=(before.given or frozenset()) | set(names))
