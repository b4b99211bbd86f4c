"""Runs a task as an executor does, in a process under a supervisor: `python supervised.py DAG TASK FILE LOG`."""

from __future__ import annotations

import sys
import uuid
from datetime import datetime, timezone
from typing import Any

import httpx
from airflow.executors.workloads import BundleInfo
from airflow.sdk.api.client import Client
from airflow.sdk.api.datamodels._generated import TaskInstance
from airflow.sdk.execution_time.supervisor import supervise_task


def run_of(dag_id: str, run_id: str) -> dict[str, Any]:
    now = datetime.now(timezone.utc).isoformat()
    times = dict.fromkeys(("logical_date", "data_interval_start", "data_interval_end", "run_after", "start_date"), now)
    run: dict[str, Any] = {
        "dag_id": dag_id,
        "run_id": run_id,
        **times,
        "end_date": None,
        "run_type": "manual",
        "state": "running",
        "consumed_asset_events": [],
        "partition_key": None,
    }
    return {"dag_run": run, "max_tries": 0, "should_retry": False}


def main(dag_id: str, task_id: str, file: str, log: str) -> int:
    run_id = f"manual__{uuid.uuid4()}"

    def answer(request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path.endswith("/run"):
            return httpx.Response(200, json=run_of(dag_id, run_id))
        if request.method == "GET" and path.startswith(("/connections/", "/store/")):
            return httpx.Response(404, json={"detail": {"reason": "not_found", "message": "there is none"}})
        return httpx.Response(200, json={})

    return supervise_task(
        ti=TaskInstance(
            id=uuid.uuid4(), task_id=task_id, dag_id=dag_id, run_id=run_id, try_number=1, dag_version_id=uuid.uuid4()
        ),
        bundle_info=BundleInfo(name="dags-folder", version=None),
        dag_rel_path=file,
        token="",
        client=Client(base_url=None, dry_run=True, token="", transport=httpx.MockTransport(answer)),
        log_path=log,
    )


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
