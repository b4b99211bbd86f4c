"""Starts the processes that run tasks, and has them run some."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from bench.marks import Marks
from bench.settings import Settings
from bench.subject import Order, Reply

if TYPE_CHECKING:
    from typing_extensions import Self

REPOSITORY = Path(__file__).resolve().parent.parent
_TASK_SECONDS = 180.0
_END_SECONDS = 20.0
# The cluster is reached directly; and a pod's own cluster is not the one that is measured.
_NOT_PASSED_ON = ("http_proxy", "https_proxy", "all_proxy", "kubeconfig", "kubernetes_service_host", "pythonpath")


class BenchError(Exception):
    """Something that should have been measured could not be."""


@dataclass(frozen=True)
class Ran:
    """One task that was run.

    Attributes:
        marks: what it noted of itself.
        whole_seconds: from the moment it was to start to the end of its `execute()`.
        log: its log, one JSON object a line.
    """

    marks: Marks
    whole_seconds: float
    log: Path


class Process:
    """A process that is told what to do by lines, and answers with one each; in a `with` block.

    Args:
        name: for messages.
        command: to run; the number of the descriptor to answer on follows.
        directory: where it keeps its files; made if it is not there.
        settings: that it is told through its environment.
    """

    def __init__(self, name: str, command: Sequence[str], directory: Path, settings: Settings) -> None:
        self.name = name
        self._directory = directory
        directory.mkdir(parents=True)
        replies, descriptor = os.pipe()
        self._replies = os.fdopen(replies)
        self._output = directory / "output.txt"
        with self._output.open("w") as output:
            self._process = subprocess.Popen(
                (*command, str(descriptor)),
                cwd=REPOSITORY,
                env=environment(directory, settings),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                bufsize=1,
                pass_fds=(descriptor,),
            )
        os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._replies.close()

    def await_ready(self) -> None:
        """Waits until it can be told something.

        Raises:
            BenchError: it cannot.
        """
        self._reply("start")

    def tell(self, what: str, order: object) -> str:
        """Its answer to an order.

        Args:
            what: it is, for messages.
            order: as JSON values.

        Raises:
            BenchError: there is none.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        return self._reply(what)

    def _reply(self, what: str) -> str:
        deadline = time.monotonic() + _TASK_SECONDS
        with selectors.DefaultSelector() as selector:
            selector.register(self._replies, selectors.EVENT_READ)
            answered = selector.select(deadline - time.monotonic())
        line = self._replies.readline() if answered else ""
        if not line:
            told = "\n".join(self._output.read_text(errors="replace").splitlines()[-15:])
            ended = "ended" if answered else f"did not answer within {_TASK_SECONDS:g} s"
            raise BenchError(f"{self.name}: {what}: the process {ended}; its output {self._output} ends:\n{told}")
        return line


class Subject(Process):
    """A process that runs tasks.

    Args:
        mode: of `bench.subject`.
        python: of the environment to run in.
        settings: what its tasks are.
        directory: where it keeps its files; made if it is not there.
    """

    def __init__(self, mode: str, python: Path, settings: Settings, directory: Path) -> None:
        super().__init__(mode, (str(python), "-m", "bench.subject", mode), directory, settings)
        self._count = 0

    def run(self, arm: str, case: str) -> Ran:
        """Runs one task to its end.

        Raises:
            BenchError: it did not succeed.
        """
        self._count += 1
        name = f"{self._count:03d}-{arm}-{case}"
        log, marks = self._directory / f"{name}.log", self._directory / f"{name}.json"
        order = Order(Settings.dag_id(arm, case), case, str(log), str(marks))
        reply = Reply(**json.loads(self.tell(name, asdict(order))))
        if reply.state != "success" or not marks.exists():
            told = "\n".join(log.read_text(errors="replace").splitlines()[-15:]) if log.exists() else ""
            raise BenchError(f"{self.name}: {arm}, {case} ended with {reply.state}; its log {log} ends:\n{told}")
        found = Marks.load(marks)
        return Ran(found, found.ended - reply.began, log)


def environment(directory: Path, settings: Settings) -> dict[str, str]:
    """The environment of a process that imports Airflow, with a home of its own."""
    kept: Mapping[str, str] = {
        name: value
        for name, value in os.environ.items()
        if name.lower() not in _NOT_PASSED_ON and not name.startswith(("AIRFLOW", "VIRTUAL_ENV", "PYTHONDONTWRITE"))
    }
    return {
        **kept,
        **settings.environment(),
        "AIRFLOW_HOME": str(directory),
        "AIRFLOW__CORE__DAGS_FOLDER": str(REPOSITORY / "bench" / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{directory / 'airflow.db'}",
        "AIRFLOW__LOGGING__JSON_LOGS": "True",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        # How late a supervisor may notice that its task's process has ended; nothing that is measured waits for it.
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        # The DAG file imports the rest of the benchmark, wherever Airflow loads it from.
        "PYTHONPATH": str(REPOSITORY),
    }
