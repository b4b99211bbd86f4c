"""What operators weigh before a pod does any work: in the DAG processor, and in a task's process.

    python -m bench.weight

A DAG file is parsed in a fresh interpreter, as nothing but Airflow itself is loaded when a DAG processor parses it. A
task runs in a process that is forked from one which has Airflow's task runner loaded, as workers are.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from bench.chapters import Chapter
from bench.marks import own_bytes
from bench.subjects import REPOSITORY
from bench.tables import table
from bench.targets import Target
from kpo_multicluster.testing import EmbeddedCluster, ImageSource

Say = Callable[[str], None]

DAG_FILE: Final = Path(__file__).parent / "dags" / "every_operator.py"
_ROUNDS: Final = 5
_MOST_SECONDS: Final = 0.1
_MOST_BYTES: Final = 30e6
_MEGABYTE: Final = 1e6
_BARE, _POD = "bare", "pod"
_NOTES: Final = """\
A DAG file that uses every operator is parsed in a fresh interpreter, after a DAG of `airflow.sdk` alone. Private memory
is what the kernel says is a forked process's own (USS): of one whose operator does nothing, and of one whose pod has
just been seen to start, in which its client and its watch are open."""
_PARSE: Final = """
import runpy, sys, time
from airflow.sdk import DAG, task
with DAG("bare", schedule=None):
    task(lambda: None, task_id="bare")()
wall, cpu = time.perf_counter(), time.process_time()
runpy.run_path(sys.argv[1])
print(time.perf_counter() - wall, time.process_time() - cpu)
"""


def measure(say: Say) -> Chapter:
    """Measures both."""
    wall, processor = zip(*(_parsed() for _ in range(_ROUNDS)), strict=True)
    seconds = statistics.median(wall)
    say(f"parse of every operator: {seconds:.3f} s")
    with (
        EmbeddedCluster("bench", images={"alpine:3": ImageSource()}) as cluster,
        tempfile.TemporaryDirectory(prefix="kpo-bench-") as scratch,
    ):
        config = cluster.write_kubeconfig(Path(scratch) / "kubeconfig")
        bare, pod = (statistics.median(_own_bytes(kind, config) for _ in range(_ROUNDS)) for kind in (_BARE, _POD))
    over = pod - bare
    say(f"private memory: {over / _MEGABYTE:.1f} MB over a bare operator's {bare / _MEGABYTE:.1f} MB")
    rows: Sequence[Sequence[str]] = (
        ("parse of a DAG file with every operator", f"{seconds:.3f} s", f"{statistics.median(processor):.3f} s"),
        ("private memory of a bare operator's process", f"{bare / _MEGABYTE:.1f} MB", ""),
        ("of a task's process whose pod has started", f"{pod / _MEGABYTE:.1f} MB", ""),
    )
    targets = (
        Target("parse of every operator", "within 0.1 s", f"{seconds:.3f} s", seconds <= _MOST_SECONDS),
        Target(
            "private memory until the pod starts",
            "within 30 MB of a bare operator's",
            f"{over / _MEGABYTE:+.1f} MB",
            over <= _MOST_BYTES,
        ),
    )
    return Chapter("The weight of operators", _NOTES, table(("", "", "processor"), rows), targets)


def _parsed() -> tuple[float, float]:
    wall, processor = _output("-c", _PARSE, str(DAG_FILE)).split()[-2:]
    return float(wall), float(processor)


def _own_bytes(kind: str, config: Path) -> int:
    return int(_output("-m", "bench.weight", kind, str(config)).split()[-1])


def _output(*arguments: str) -> str:
    command = [sys.executable, "-W", "ignore", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY).stdout


# -- in a process of its own ------------------------------------------------------------------------------------------


def _fork_and_run(kind: str, config: str) -> None:
    """Runs a task in a forked process, which prints how many bytes are its own."""
    import airflow.sdk.execution_time.task_runner  # noqa: F401 - what workers have loaded

    sys.stdout.flush()
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        _run_bare() if kind == _BARE else _run_pod(config)
        sys.stdout.flush()
    finally:
        os._exit(0)


def _run_bare() -> None:
    from airflow.sdk import BaseOperator

    class Bare(BaseOperator):
        def execute(self, context: object) -> None:
            print(own_bytes())  # noqa: T201 - what it is for

    Bare(task_id="task").execute({})


def _run_pod(config: str) -> None:
    import uuid
    from types import SimpleNamespace
    from typing import Any

    from kpo_multicluster.cluster import kubeconfig
    from kpo_multicluster.operators.pod import KubernetesPodOperator

    class Weighed(KubernetesPodOperator):
        def await_pod_start(self, pod: Any) -> None:
            super().await_pod_start(pod)
            print(own_bytes())  # noqa: T201 - what it is for

    names = {"dag_id": "weight", "task_id": "task", "run_id": "manual__1", "map_index": -1, "id": uuid.uuid4()}
    ti = SimpleNamespace(**names, try_number=1, max_tries=0, xcom_push=lambda key, value: None)
    context: Any = {"ti": ti}
    Weighed(task_id="task", cluster=kubeconfig(config), image="alpine:3", cmds=["true"]).execute(context)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    if sys.argv[1:]:
        _fork_and_run(*sys.argv[1:])
    else:
        _say(measure(_say).table)
