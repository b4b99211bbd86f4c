"""A whole Airflow on loopback: API server, scheduler with LocalExecutor, DAG processor, triggerer, on SQLite."""

from __future__ import annotations

import base64
import json
import os
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

_STARTED_SECONDS = 180.0
_ENDED_SECONDS = 20.0


def free_port() -> int:
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Airflow:
    """The parts, each a process group of its own.

    Args:
        home: a directory for everything.
        dags: the DAGs folder.
        environ: is set in the environment of all parts.

    Attributes:
        home: likewise.
        url: of the API server.
    """

    def __init__(self, home: Path, dags: Path, environ: Mapping[str, str] | None = None) -> None:
        self.home = home
        self._port = free_port()
        self._parts: dict[str, subprocess.Popen[bytes]] = {}
        self.url = url = f"http://127.0.0.1:{self._port}"
        self._environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__API__BASE_URL": url,
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
            "AIRFLOW__API__SECRET_KEY": secrets.token_hex(32),
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PARALLELISM": "2",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
            # A triggerer that was killed is missed after this long.
            "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
            "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "20",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            # The API server imports what it needs when it is first asked.
            "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "120",
            **(environ or {}),
        }
        self._environ.pop("PYTHONDONTWRITEBYTECODE", None)

    def start(self) -> None:
        """Starts all parts; the DAGs are known after it."""
        self.start_api_server()
        self.run("dags", "reserialize")
        assert not (faults := self.query("SELECT stacktrace FROM import_error")), faults[0][0]
        self.until_answering()
        self.part("scheduler", "scheduler", "--skip-serve-logs")
        self.start_triggerer()

    def start_api_server(self) -> None:
        """Makes the database and starts the API server alone; `until_answering` waits for it."""
        self.run("db", "migrate")
        self.part("api-server", "api-server", "--host", "127.0.0.1", "--port", str(self._port), "--workers", "1")

    def until_answering(self) -> None:
        """Waits for the API server."""
        self.until(self._answers, "the API server answers")

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Asks the REST API for something, such as `GET /api/v2/connections`; anything but success fails the test."""
        request = urllib.request.Request(
            self.url + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
            method=method,
        )
        deadline = time.monotonic() + _STARTED_SECONDS
        while True:
            try:
                with urllib.request.urlopen(request, timeout=120) as answer:
                    text = answer.read()
                break
            except urllib.error.HTTPError as error:
                reason = f"{error.code} {error.read().decode()}"
            # SQLite lets one write at a time; who has waited for 5 s is refused, and nothing of it was done.
            if "Database error" not in reason or time.monotonic() > deadline:
                raise AssertionError(f"{method} {path}: {reason}\n{self.told()}")
        return json.loads(text) if text else None

    @cached_property
    def token(self) -> str:
        """Of a user who may do everything through the REST API."""
        with urllib.request.urlopen(f"{self.url}/auth/token", timeout=60) as answer:
            return str(json.load(answer)["access_token"])

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/execution/health", timeout=60) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def start_triggerer(self) -> None:
        self.part("triggerer", "triggerer", "--skip-serve-logs")

    def part(self, name: str, *arguments: str) -> None:
        with (self.home / f"{name}.log").open("ab") as log:
            self._parts[name] = subprocess.Popen(
                [sys.executable, "-m", "airflow", *arguments],
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def run(self, *arguments: str) -> str:
        """Runs one command to its end."""
        done = subprocess.run(
            [sys.executable, "-m", "airflow", *arguments],
            env=self._environ,
            capture_output=True,
            text=True,
            timeout=_STARTED_SECONDS,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def kill(self, name: str) -> None:
        """Ends a part without a word, with all its processes."""
        part = self._parts.pop(name)
        os.killpg(part.pid, signal.SIGKILL)
        part.wait(_ENDED_SECONDS)

    def end(self, name: str) -> None:
        """Ends a part as a supervisor of services does: it is told to, and waited for."""
        part = self._parts.pop(name)
        part.terminate()
        part.wait(_STARTED_SECONDS)

    def stop(self) -> None:
        """Ends all parts."""
        for part in self._parts.values():
            part.terminate()
        deadline = time.monotonic() + _ENDED_SECONDS
        for part in self._parts.values():
            with suppress(subprocess.TimeoutExpired):
                part.wait(max(0.1, deadline - time.monotonic()))
            try:
                os.killpg(part.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            part.wait(_ENDED_SECONDS)

    def query(self, text: str, *values: Any) -> list[tuple[Any, ...]]:
        """Asks the database."""
        with closing(sqlite3.connect(self.home / "airflow.db", timeout=30)) as database:
            return database.execute(text, values).fetchall()

    def state(self, task_id: str) -> str:
        """Of a task in its DAG's latest run; empty as long as there is none."""
        rows = self.query("SELECT state FROM task_instance WHERE task_id = ? ORDER BY start_date DESC", task_id)
        return str(rows[0][0] or "") if rows else ""

    def mark(self, dag_id: str, task_id: str, state: str) -> None:
        """Sets the state of a task in its DAG's latest run, as a user does in the browser."""
        ((run_id,),) = self.query("SELECT run_id FROM dag_run WHERE dag_id = ? ORDER BY id DESC LIMIT 1", dag_id)
        path = f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances/{task_id}"
        self.ask("PATCH", path, {"new_state": state})

    def log(self, task_id: str) -> str:
        """What the task has logged, in workers and triggerers."""
        paths = sorted(self.home.glob(f"logs/**/task_id={task_id}/*.log*"))
        return "".join(path.read_text() for path in paths)

    def told(self) -> str:
        """The ends of the parts' own logs, for a test that failed."""
        ends = [f"--- {path.name}\n{path.read_text()[-3000:]}" for path in sorted(self.home.glob("*.log"))]
        return "\n".join(ends)

    def until(self, holds: Callable[[], Any], what: str, *, within_seconds: float = 300.0) -> None:
        """Waits until something holds."""
        deadline = time.monotonic() + within_seconds
        while not holds():
            ended = [name for name, part in self._parts.items() if part.poll() is not None]
            assert not ended, f"{ended} ended while waiting: {what}\n{self.told()}"
            assert time.monotonic() < deadline, f"in vain: {what}\n{self.told()}"
            time.sleep(0.2)
