"""A task's context in a triggerer, where Airflow answers less than in a worker; some questions it leaves open."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Any, Final

from kpo_multicluster.errors import ConfigurationError

# What Airflow's triggerer never answers a question about: who asked would wait for ever.
_UNANSWERED: Final = (
    "asset_state_store",
    "inlet_events",
    "prev_data_interval_end_success",
    "prev_data_interval_start_success",
    "prev_end_date_success",
    "prev_start_date_success",
    "task_state_store",
)
_UNSET: Final = object()


class TriggererTaskInstance:
    """The task instance that the steps of a run and its templates see; what it is not asked here, Airflow's own says.

    Args:
        ti: Airflow's.
        dag: Airflow's, for as long as templates are rendered.
        retries: of the task.
        started: Unix time in seconds at which the try began.
    """

    def __init__(self, ti: Any, dag: Any, *, retries: int, started: float | None) -> None:
        self._ti = ti
        self._dag = dag
        # Airflow does not tell a triggerer how often a cleared task may yet be tried: rather too few than too many.
        self.max_tries = retries
        self.start_date = datetime.fromtimestamp(time.time() if started is None else started, timezone.utc)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_ti":
            raise AttributeError(name)
        value = getattr(self._ti, name)
        if callable(value):
            raise AttributeError(f"ti.{name}() is not to be had in a triggerer")
        return value

    def forget_dag(self) -> None:
        """Lets go of the DAG: each of a DAG's triggers has a copy of all of it."""
        self._dag = None

    def xcom_push(self, key: str, value: Any) -> None:
        """Leaves a value for other tasks."""
        self._ti.xcom_push(key=key, value=value)

    def xcom_pull(
        self,
        task_ids: str | Iterable[str] | None = None,
        dag_id: str | None = None,
        key: str = "return_value",
        include_prior_dates: bool = False,
        *,
        map_indexes: Any = _UNSET,
        default: Any = None,
        run_id: str | None = None,
    ) -> Any:
        """What other tasks have left. All results of a mapped task are had by the `map_indexes` of each only.

        Raises:
            ConfigurationError: all results of a mapped task are asked for.
        """
        if map_indexes is _UNSET:
            map_indexes = None
            if task_ids is None:
                map_indexes = self._ti.map_index if self._ti.map_index >= 0 else None
            elif dag_id in (None, self._ti.dag_id):
                self._refuse_mapped([task_ids] if isinstance(task_ids, str) else task_ids)
        return self._ti.xcom_pull(
            task_ids=task_ids,
            dag_id=dag_id,
            key=key,
            include_prior_dates=include_prior_dates,
            map_indexes=map_indexes,
            default=default,
            run_id=run_id,
        )

    def _refuse_mapped(self, task_ids: Iterable[str]) -> None:
        for task_id in task_ids:
            found = self._dag.task_dict.get(task_id) if self._dag is not None else None
            if found is not None and (found.is_mapped or found.get_closest_mapped_task_group() is not None):
                raise ConfigurationError(
                    f"A template of task {self._ti.task_id!r} asks for the results of the mapped task {task_id!r}, "
                    "which Airflow gives to workers only: name one by map_indexes, put them together in a task "
                    "between, or use deferrable=True."
                )

    def forget(self, keys: Iterable[str]) -> None:
        """Removes what an earlier try of the task has left."""
        from airflow.sdk.execution_time.xcom import XCom

        for key in keys:
            XCom.delete(
                key=key,
                task_id=self._ti.task_id,
                dag_id=self._ti.dag_id,
                run_id=self._ti.run_id,
                map_index=self._ti.map_index,
            )


def context_in_triggerer(given: dict[str, Any], ti: TriggererTaskInstance, task: Any) -> dict[str, Any]:
    """The context of a run.

    Args:
        given: Airflow's.
        ti: of the task.
        task: the task.
    """
    known = {name: value for name, value in given.items() if name not in _UNANSWERED}
    return {**known, "ti": ti, "task_instance": ti, "task": task}
