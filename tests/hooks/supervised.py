"""Runs a task as an executor does, in a process under a supervisor: `-m tests.hooks.supervised DAG TASK FILE LOG`."""

from __future__ import annotations

import sys
import uuid
from typing import Any

from airflow.executors.workloads import BundleInfo
from airflow.sdk.api.datamodels._generated import TaskInstance
from airflow.sdk.execution_time import supervisor

from bench.execution_api import client


def main(dag_id: str, task_id: str, file: str, log: str) -> int:
    run_id = f"manual__{uuid.uuid4()}"
    module: Any = supervisor
    # Before 3.2 it had another name.
    supervise = module.supervise_task if hasattr(module, "supervise_task") else module.supervise
    code: int = supervise(
        ti=TaskInstance(
            id=uuid.uuid4(), task_id=task_id, dag_id=dag_id, run_id=run_id, try_number=1, dag_version_id=uuid.uuid4()
        ),
        bundle_info=BundleInfo(name="dags-folder", version=None),
        dag_rel_path=file,
        token="",
        client=client(dag_id, run_id),
        log_path=log,
    )
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
