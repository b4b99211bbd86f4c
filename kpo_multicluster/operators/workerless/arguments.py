"""A task's arguments as text in Airflow's database, from which a triggerer makes the task anew."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Set
from datetime import timedelta
from enum import Enum
from importlib import import_module
from typing import Any

from kpo_multicluster.airflow_names import Context, redact
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.pods.convert import is_model, to_json
from kpo_multicluster.secret import Secret

# Each is the one key of an object that stands for what JSON does not carry.
_XCOM = "kpo_multicluster:xcom"
_CLUSTER = "kpo_multicluster:cluster"
_SECRET = "kpo_multicluster:secret"
_SECONDS = "kpo_multicluster:seconds"
_NAMED = "kpo_multicluster:named"
_SECRET_SHAPE = ("deploy_type", "deploy_target", "secret", "key", "items")
# Airflow imports DAG files under such names, which mean nothing in another process.
_OF_DAG_FILES = ("unusual_prefix_", "__main__", "<")


class Result:
    """What another task returns, once it has.

    Args:
        task_id: of that task.
        key: of its XCom.
    """

    def __init__(self, task_id: str, key: str) -> None:
        self.task_id = task_id
        self.key = key

    def resolve(self, context: Context) -> Any:
        """The value; Airflow calls this when it renders templates.

        Raises:
            ConfigurationError: the task left nothing under a key that was asked for.
        """
        value = context["ti"].xcom_pull(task_ids=self.task_id, key=self.key, map_indexes=None)
        if value is None and self.key != "return_value":
            raise ConfigurationError(f"Task {self.task_id!r} has left no XCom {self.key!r}.")
        return value


def written(value: Any, where: str) -> Any:
    """A value as JSON.

    Args:
        value: of an argument.
        where: the argument, for messages.

    Raises:
        ConfigurationError: it is nothing that another process could have, or that should be stored.
    """
    value = value.value if isinstance(value, Enum) else value
    if isinstance(value, str):
        return _harmless(value, where)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return {_key(key, where): written(entry, f"{where}[{key!r}]") for key, entry in value.items()}
    if isinstance(value, Set):
        return written(sorted(value, key=str), where)
    if isinstance(value, (list, tuple, range)):
        return [written(entry, f"{where}[{number}]") for number, entry in enumerate(value)]
    return _of_object(value, where)


def _of_object(value: Any, where: str) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, timedelta):
        return {_SECONDS: value.total_seconds()}
    if isinstance(value, ClusterRef):
        return {_CLUSTER: value.to_json()}
    if is_model(value):
        return written(to_json(value, type(value).__name__, where), where)
    if all(hasattr(value, name) for name in _SECRET_SHAPE[:3]):
        return {_SECRET: {name: written(getattr(value, name, None), f"{where}.{name}") for name in _SECRET_SHAPE}}
    if callable(getattr(value, "resolve", None)):
        return {_XCOM: _result(value, where)}
    path = path_of(value)
    if path is None and not callable(value):
        raise ConfigurationError(
            f"{where} holds {_described(value)}, which cannot be stored with the DAG: give texts, numbers, lists and "
            "dictionaries of them."
        )
    if path is None:
        raise ConfigurationError(
            f"{where} holds {_described(value)}, which is not to be had outside of the DAG file: a triggerer does not "
            "read that. Define it in a module that is installed where triggerers run."
        )
    return {_NAMED: path}


def _key(key: Any, where: str) -> str:
    if not isinstance(key, str):
        raise ConfigurationError(f"{where} has a key of type {type(key).__name__}: use texts.")
    return _harmless(key, where)


def _harmless(text: str, where: str) -> str:
    if redact(text) != text:
        raise ConfigurationError(
            f"{where} holds what Airflow has been told is secret, and would be stored: name where it is kept instead, "
            "by a template such as '{{ conn.warehouse.password }}', or by secrets=."
        )
    return text


def _result(value: Any, where: str) -> dict[str, str]:
    operator, key = getattr(value, "operator", None), getattr(value, "key", None)
    if operator is None or not isinstance(key, str):
        raise ConfigurationError(
            f"{where} holds {_described(value)}: only the result of a task, as it is, can be had in a triggerer."
        )
    if operator.is_mapped or operator.get_closest_mapped_task_group() is not None:
        raise ConfigurationError(
            f"{where} holds the results of the mapped task {operator.task_id!r}, which Airflow gives to workers only. "
            "Put them together in a task between."
        )
    return {"task_id": operator.task_id, "key": key}


def _described(value: Any) -> str:
    name = getattr(value, "__qualname__", None)
    return f"{name} of {value.__module__}" if name else f"a {type(value).__name__}"


def path_of(value: Any) -> str | None:
    """How a class or a function is found in another process; None if only its DAG file defines it."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or module.startswith(_OF_DAG_FILES):
        return None
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return f"{module}:{name}" if found is value else None


def named(path: str) -> Any:
    """What `path_of` has named.

    Raises:
        ConfigurationError: it is not to be had in this process.
    """
    module, _, name = path.partition(":")
    try:
        found: Any = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(
            f"{name} of {module} is not to be had in the triggerer ({error}): install the module that defines it there."
        ) from None
    return found


def read(value: Any) -> Any:
    """A value from what `written` made of it.

    Raises:
        ConfigurationError: it names what is not to be had in this process.
    """
    if isinstance(value, list):
        return [read(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((mark, of),) = value.items()
        if mark == _XCOM:
            return Result(**of)
        if mark == _CLUSTER:
            return ClusterRef.from_json(of)
        if mark == _SECRET:
            return Secret(**of)
        if mark == _SECONDS:
            return timedelta(seconds=of)
        if mark == _NAMED:
            return named(of)
    return {key: read(entry) for key, entry in value.items()}
