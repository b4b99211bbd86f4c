"""A process that runs tasks when told to, one JSON line each: `python -m bench.subject MODE REPLY_DESCRIPTOR`.

In the mode `dag.test` the tasks run in this process. In the mode `supervised` each runs in a process of its own, which
Airflow's supervisor forks from this one, as executors have it done: it imports the DAG file and the operator anew.
"""

from __future__ import annotations

import json
import os
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Final

from bench.marks import RESULT_VARIABLE

DAG_TEST: Final = "dag.test"
SUPERVISED: Final = "supervised"
_DAG_FILE = "tasks.py"


@dataclass(frozen=True)
class Order:
    """A task to run.

    Attributes:
        dag_id: of its DAG.
        task_id: of the task.
        log: file for the task's log.
        marks: file for what it notes of itself.
    """

    dag_id: str
    task_id: str
    log: str
    marks: str


@dataclass(frozen=True)
class Reply:
    """What became of a task.

    Attributes:
        state: as Airflow has it.
        began: Unix time at which it was to start: its process and the DAG file's import come after.
    """

    state: str
    began: float


def main(mode: str, reply_descriptor: int) -> None:
    """Runs tasks until standard input ends."""
    with os.fdopen(reply_descriptor, "w", buffering=1) as replies:
        run = _under_dag_test() if mode == DAG_TEST else _under_supervisor()
        replies.write("ready\n")
        for text in sys.stdin:
            order = Order(**json.loads(text))
            os.environ[RESULT_VARIABLE] = order.marks
            began = time.time()
            replies.write(json.dumps(asdict(Reply(run(order), began))) + "\n")


def _under_dag_test() -> Callable[[Order], str]:
    from airflow.utils.db import initdb

    initdb()
    from bench.dags.tasks import DAGS

    def run(order: Order) -> str:
        # Airflow's logging holds on to the standard output that it was set up with.
        output = os.open(order.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, sys.stdout.fileno())
        os.close(output)
        return str(DAGS[order.dag_id].test().state)

    return run


def _under_supervisor() -> Callable[[Order], str]:
    from airflow.executors.workloads import BundleInfo
    from airflow.sdk.api.datamodels._generated import TaskInstance
    from airflow.sdk.execution_time.supervisor import supervise_task

    from bench.execution_api import client

    def run(order: Order) -> str:
        run_id = f"manual__{uuid.uuid4()}"
        instance = TaskInstance(
            id=uuid.uuid4(),
            task_id=order.task_id,
            dag_id=order.dag_id,
            run_id=run_id,
            try_number=1,
            dag_version_id=uuid.uuid4(),
        )
        code = supervise_task(
            ti=instance,
            bundle_info=BundleInfo(name="dags-folder", version=None),
            dag_rel_path=_DAG_FILE,
            token="",
            client=client(order.dag_id, run_id),
            log_path=order.log,
        )
        return "success" if code == 0 else f"exit code {code}"

    return run


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
