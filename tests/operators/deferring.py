"""Runs a task as Airflow does: where it defers, its trigger runs on an event loop, and another process resumes it.

What is stored goes through Airflow's own serialisation, as it would into the database's rows.
"""

from __future__ import annotations

import asyncio
import copy
import json
import logging
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar

from airflow.models.trigger import Trigger
from airflow.triggers.base import BaseTrigger

from kpo_multicluster.airflow_names import TaskDeferred
from kpo_multicluster.operators.pod import KubernetesPodOperator
from kpo_multicluster.triggers.pod import KubernetesPodTrigger

__all__ = [
    "Execute",
    "execute_deferred",
    "first_event",
    "kwargs_of",
    "passed_on",
    "quiet",
    "restored",
    "row_of",
    "smart_decode_trigger_kwargs",
    "stored",
]

try:
    from airflow.sdk.serde import deserialize, serialize
    from airflow.serialization.decoders import smart_decode_trigger_kwargs
except ImportError:  # before 3.2
    _names: Any = import_module("airflow.serialization.serialized_objects")
    serialize, deserialize = _names.BaseSerialization.serialize, _names.BaseSerialization.deserialize
    smart_decode_trigger_kwargs = _names.smart_decode_trigger_kwargs

Operator = TypeVar("Operator", bound=KubernetesPodOperator)
Execute = Callable[[KubernetesPodOperator, Any], Any]


def quiet(operator: Operator) -> Operator:
    """The operator, with a logger that pytest captures: Airflow's own writes past it."""
    operator._cached_logger = logging.getLogger("task")  # type: ignore[assignment]
    return operator


def stored(deferred: TaskDeferred) -> tuple[str, str]:
    """The class of a trigger and its row's text, which Airflow encrypts for no task."""
    path, kwargs = deferred.trigger.serialize()
    return path, row_of(kwargs)


def row_of(kwargs: dict[str, Any]) -> str:
    """The text of a row with these arguments."""
    return json.dumps(serialize(kwargs))


def kwargs_of(row: str) -> dict[str, Any]:
    """The arguments in a row."""
    kwargs: Any = deserialize(json.loads(row))
    return dict(kwargs)


def restored(path: str, row: str) -> KubernetesPodTrigger:
    """The trigger as a triggerer makes it of its row."""
    kwargs = Trigger._decrypt_kwargs(row)
    module, _, name = path.rpartition(".")
    kind: type[KubernetesPodTrigger] = getattr(import_module(module), name)
    decode: Callable[[Any], Any] = smart_decode_trigger_kwargs
    trigger = kind(**{key: decode(value) for key, value in kwargs.items()})
    trigger._log = logging.getLogger("task")  # type: ignore[assignment]
    return trigger


def passed_on(event: Any) -> dict[str, Any]:
    """An event's payload as the resuming worker gets it."""
    kwargs: Any = deserialize(json.loads(json.dumps(serialize({"event": event.payload}))))
    payload: dict[str, Any] = kwargs["event"]
    return payload


async def first_event(trigger: BaseTrigger) -> Any:
    """What the trigger fires."""
    events = trigger.run()
    try:
        return await anext(events)
    finally:
        await events.aclose()  # type: ignore[attr-defined]


def execute_deferred(operator: KubernetesPodOperator, context: Any) -> Any:
    """Executes a task to its end, whatever it defers to."""
    made = copy.deepcopy(operator)
    try:
        return operator.execute(context)
    except TaskDeferred as first:
        deferred = first
    while True:
        event = asyncio.run(first_event(restored(*stored(deferred))))
        resumed = quiet(copy.deepcopy(made))
        try:
            return resumed.resume_execution(deferred.method_name, {"event": passed_on(event)}, context)
        except TaskDeferred as again:
            deferred = again
