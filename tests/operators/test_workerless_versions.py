"""Workerless tasks on an Airflow that cannot start them."""

from __future__ import annotations

from typing import Any

import pytest

from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.operators.pod import KubernetesPodOperator
from kpo_multicluster.operators.workerless import checks


@pytest.mark.parametrize("asked", [{"workerless": True}, {"start_from_trigger": True}])
def test_an_older_airflow(monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any]) -> None:
    monkeypatch.setattr(checks, "STARTS_IN_TRIGGERER", False)
    monkeypatch.setattr(checks, "airflow_version", "3.2.1")
    with pytest.raises(ConfigurationError, match=r"needs Airflow 3\.3 or newer.*this is 3\.2\.1.*deferrable=True"):
        KubernetesPodOperator(task_id="task", image="alpine:3", **asked)
