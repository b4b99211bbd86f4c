"""Pushes the result of a run that failed; that of one that succeeded is pushed by Airflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kpo_multicluster.errors import XComError


def push_result(ti: Any, result: Any, *, multiple_outputs: bool) -> None:
    """Pushes `result` as `return_value`, and each of its keys where there are multiple outputs.

    Raises:
        XComError: multiple outputs are asked for and the result is no object with text keys.
    """
    if result is None:
        return
    if multiple_outputs:
        if not isinstance(result, Mapping) or not all(isinstance(key, str) for key in result):
            raise XComError(f"multiple_outputs needs a JSON object as result, not {type(result).__name__}.")
        for key, value in result.items():
            ti.xcom_push(key=key, value=value)
    ti.xcom_push(key="return_value", value=result)
