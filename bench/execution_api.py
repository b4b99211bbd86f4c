"""Stands in for Airflow's API server towards a task's supervisor: answers at once, stores nothing."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx
    from airflow.sdk.api.client import Client


def client(dag_id: str, run_id: str) -> Client:
    """What a supervisor reports a task of this run to."""
    import httpx
    from airflow.sdk.api.client import Client

    def answer(request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path.endswith("/run"):
            return httpx.Response(200, json=_run_context(dag_id, run_id))
        # No connection is defined, and nothing is remembered from an earlier try.
        if request.method == "GET" and path.startswith(("/connections/", "/store/")):
            return httpx.Response(404, json={"detail": {"reason": "not_found", "message": "there is none"}})
        return httpx.Response(200, json={})

    return Client(base_url=None, dry_run=True, token="", transport=httpx.MockTransport(answer))


def _run_context(dag_id: str, run_id: str) -> dict[str, Any]:
    from airflow.sdk.api.datamodels._generated import DagRun

    now = datetime.now(timezone.utc).isoformat()
    run: dict[str, Any] = {
        "dag_id": dag_id,
        "run_id": run_id,
        "logical_date": now,
        "data_interval_start": now,
        "data_interval_end": now,
        "run_after": now,
        "start_date": now,
        "end_date": None,
        "run_type": "manual",
        "state": "running",
        "consumed_asset_events": [],
    }
    # Newer versions ask for it, older ones do not know it.
    if "partition_key" in DagRun.model_fields:
        run["partition_key"] = None
    return {"dag_run": run, "max_tries": 0, "should_retry": False}
