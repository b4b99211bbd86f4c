"""What the tasks of `@task.pod` and `@task.pod_cmd` have in common: a function says what their pod runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from airflow.sdk.bases.decorator import DecoratedOperator

from kpo_multicluster.decorators.function_in_pod import COMMAND
from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.operators.pod import KubernetesPodOperator


class DecoratedPodOperator(DecoratedOperator, KubernetesPodOperator):
    """A pod task that is made of a function.

    Args:
        python_callable: the function.
        **kwargs: `op_args`, `op_kwargs` and `multiple_outputs` as for any decorated task, and those of
            `KubernetesPodOperator` but `cmds` and `arguments`.

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
        super().__init__(python_callable=python_callable, **kwargs)

    @property
    def is_async(self) -> bool:
        """False: the task itself waits for its pod, whatever the function is."""
        return False
