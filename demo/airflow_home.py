"""A throw-away Airflow: its home in a directory of its own, SQLite, no scheduler and no server."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo import airflow_commands
from demo.processes import Session

_DATABASE = "airflow.db"
_STATES = "SELECT task_id, map_index, state FROM task_instance WHERE dag_id = ? ORDER BY start_date, task_id"
_XCOMS = "SELECT task_id, map_index, value FROM xcom WHERE dag_id = ? AND key = 'return_value'"


@dataclass(frozen=True)
class TaskState:
    """What Airflow's database says of one task of a run.

    Attributes:
        task_id: of the task.
        map_index: -1 unless it is mapped.
        state: such as `success`; `none` when it never ran.
        xcom: its result; None when it pushed none.
    """

    task_id: str
    map_index: int
    state: str
    xcom: Any


class AirflowError(Exception):
    """An Airflow command failed; carries the end of its output."""


class AirflowHome:
    """An `AIRFLOW_HOME`, and an Airflow that runs commands in it while in the `with` block.

    Args:
        directory: where; made if it is not there.
        environ: the environment that commands run in; Airflow's own settings in it are replaced.
        dags: the DAGs folder, or the one file that is taken for it.
    """

    def __init__(self, directory: Path, environ: Mapping[str, str], dags: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self._dags = dags
        self._session = Session(
            (sys.executable, str(Path(airflow_commands.__file__))),
            cwd=directory,
            env=self._environment(environ),
            ended=airflow_commands.ENDED,
        )

    def __enter__(self) -> AirflowHome:
        self._session.__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._session.__exit__(*raised)

    def migrate(self) -> None:
        """Makes the database.

        Raises:
            AirflowError: it failed.
        """
        self._airflow("db", "migrate")

    def dag_ids(self) -> list[str]:
        """The ids of the DAGs that there are.

        Raises:
            AirflowError: a file cannot be parsed, or there is none in it.
        """
        self._airflow("dags", "reserialize")
        faults = self._query("SELECT stacktrace FROM import_error")
        if faults:
            raise AirflowError(f"{self._dags} cannot be imported:\n{faults[0][0]}")
        found = [str(row[0]) for row in self._query("SELECT dag_id FROM dag ORDER BY dag_id")]
        if not found:
            raise AirflowError(f"{self._dags} defines no DAG.")
        return found

    def test_dag(self, dag_id: str, path: Path, on_line: Callable[[str], None]) -> int:
        """Runs `airflow dags test`; gives back its exit code.

        Args:
            dag_id: of the DAG.
            path: its file.
            on_line: is given each line of the log, a JSON object.
        """
        return self._run(("dags", "test", dag_id, "--dagfile-path", str(path)), on_line)

    def task_states(self, dag_id: str) -> list[TaskState]:
        """What became of the tasks of the DAG's only run."""
        found = self._query(_STATES, dag_id)
        results = {(task_id, map_index): _value(value) for task_id, map_index, value in self._query(_XCOMS, dag_id)}
        return [
            TaskState(task_id, map_index, state or "none", results.get((task_id, map_index)))
            for task_id, map_index, state in found
        ]

    def _airflow(self, *arguments: str) -> None:
        output: list[str] = []
        code = self._run(arguments, output.append)
        if code:
            told = "\n".join(output[-30:])
            raise AirflowError(f"airflow {' '.join(arguments)} ended with exit code {code}:\n{told}")

    def _run(self, arguments: tuple[str, ...], on_line: Callable[[str], None]) -> int:
        return self._session.ask(json.dumps(arguments), on_line)

    def _environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        kept = {key: value for key, value in environ.items() if not key.startswith("AIRFLOW__")}
        # Without compiled files Airflow would spend most of its time compiling itself.
        kept.pop("PYTHONDONTWRITEBYTECODE", None)
        folder = str(self._dags if self._dags.is_dir() else self._dags.parent)
        return {
            **kept,
            "AIRFLOW_HOME": str(self.directory),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self._dags),
            # A file is one that the user named; of a folder, only what looks like a DAG is one.
            "AIRFLOW__CORE__DAG_DISCOVERY_SAFE_MODE": str(self._dags.is_dir()),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.directory / _DATABASE}",
            "AIRFLOW__LOGGING__JSON_LOGS": "True",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            # A DAG may import what lies beside it, as it may in a DAGs folder.
            "PYTHONPATH": ":".join(filter(None, (folder, kept.get("PYTHONPATH")))),
        }

    def _query(self, statement: str, *values: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.directory / _DATABASE)) as database:
            return database.execute(statement, values).fetchall()


def _value(stored: Any) -> Any:
    """An XCom as it was pushed: SQLite gives a JSON number as a number and other JSON as text."""
    if not isinstance(stored, str):
        return stored
    try:
        return json.loads(stored)
    except ValueError:
        return stored
