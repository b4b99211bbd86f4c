"""Runs workerless tasks as a triggerer does: from what a DAG stores of them, through Airflow's own serialisation."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from airflow.models.trigger import Trigger
from airflow.sdk import DAG
from airflow.serialization import serialized_objects

from kpo_multicluster.operators.pod import KubernetesPodOperator
from kpo_multicluster.operators.workerless.trigger import WorkerlessPodTrigger

from .conftest import FakeTaskInstance
from .deferring import smart_decode_trigger_kwargs


@dataclass
class TriggererSide(FakeTaskInstance):
    """What a triggerer knows of a task instance; another triggerer's, of the same try, shares `pushed`."""

    task: Any = None
    others: dict[tuple[Any, str], Any] = field(default_factory=dict)

    def xcom_pull(self, task_ids: Any = None, key: str = "return_value", **_of: Any) -> Any:
        return self.pushed.get(key) if task_ids is None else self.others.get((task_ids, key))


def stored_dag(dag: DAG) -> Any:
    """The DAG as schedulers and triggerers have it."""
    module: Any = serialized_objects
    # Before 3.2 it had another name.
    serialization = module.DagSerialization if hasattr(module, "DagSerialization") else module.SerializedDAG
    return serialization.from_dict(json.loads(json.dumps(serialization.to_dict(dag))))


def row_of(task: Any) -> str:
    """What a scheduler writes of a task's trigger, before Airflow encrypts it."""
    assert task.start_from_trigger
    return json.dumps(task.start_trigger_args.trigger_kwargs)


def started(
    operator: KubernetesPodOperator, ti: TriggererSide, dag: Any = None, **context: Any
) -> WorkerlessPodTrigger:
    """The trigger of a task, as a triggerer makes it."""
    if dag is None:
        dag = stored_dag(operator.dag)
    task = dag.get_task(operator.task_id)
    kwargs = Trigger._decrypt_kwargs(Trigger.encrypt_kwargs(json.loads(row_of(task))))
    decode: Callable[[Any], Any] = smart_decode_trigger_kwargs
    trigger = WorkerlessPodTrigger(**{key: decode(value) for key, value in kwargs.items()})
    trigger._log = logging.getLogger("task")  # type: ignore[assignment]
    ti.task = task
    trigger.task_instance = ti  # type: ignore[assignment]
    trigger.render_template_fields({"ti": ti, "dag": dag, "task": task, **context})
    return trigger
