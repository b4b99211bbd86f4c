"""What Airflow knows of runs of DAGs: asked by a task through the task SDK, or by anyone through Airflow's REST API.

Source: `GET /api/v2/dags/{dag_id}/dagRuns/{dag_run_id}` of the Airflow REST API.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, urlsplit

from kpo_multicluster.auth.cloud_http import Answer, call, http_session
from kpo_multicluster.errors import ConfigurationError, ConnectError, CredentialError
from kpo_multicluster.reaping.leftovers import RunState

_UNDER_WAY = ("queued", "running")
_ENDED = ("success", "failed")


def states_for_task(ti: Any, runs: Iterable[str]) -> dict[str, RunState]:
    """The states of runs, as a task may ask for them. To be called in the task's own thread.

    Args:
        ti: the task's instance, of its context.
        runs: as `dag_id/run_id`.
    """
    found = {}
    for run in runs:
        dag_id, _, run_id = run.partition("/")
        # A count is 0 for what is not there, where other questions are refused.
        if not run_id or not ti.get_dr_count(dag_id=dag_id, run_ids=[run_id]):
            found[run] = RunState.UNKNOWN
        elif ti.get_dr_count(dag_id=dag_id, run_ids=[run_id], states=list(_UNDER_WAY)):
            found[run] = RunState.UNDER_WAY
        else:
            found[run] = RunState.ENDED
    return found


class AirflowApi:
    """Airflow's REST API.

    Args:
        url: of the API server, such as `https://airflow.example.com`.
        token: a JSON web token of a user who may read DAG runs.
        source: where that comes from, for messages.

    Raises:
        ConfigurationError: the URL is none.
    """

    def __init__(self, url: str, token: str, *, source: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ConfigurationError(
                f"The URL of Airflow's API server is like https://airflow.example.com, not {url!r}."
            )
        self._url, self._token, self._source = url.rstrip("/"), token, source

    def states(self, runs: Iterable[str]) -> dict[str, RunState]:
        """The states of runs, as `dag_id/run_id`. Blocks.

        Raises:
            CredentialError: the user was refused.
            ConnectError: the API server cannot be reached, or has a fault.
        """
        with http_session(feature="Asking Airflow for runs of DAGs", extra="all") as session:
            return {run: self._state(session, run) for run in runs}

    def _state(self, session: Any, run: str) -> RunState:
        dag_id, _, run_id = run.partition("/")
        if not run_id:
            return RunState.UNKNOWN
        doing = f"Asking Airflow at {self._url} for the run {run}"
        url = f"{self._url}/api/v2/dags/{quote(dag_id, safe='')}/dagRuns/{quote(run_id, safe='')}"
        answer = call(session, "GET", url, token=self._token, doing=doing)
        # What is no Airflow, or no path of its API, answers with 404 as well, and does not name the run.
        if answer.status == 404 and run_id in str(answer.body.get("detail")):
            return RunState.UNKNOWN
        if answer.status != 200:
            raise self._refused(answer, doing)
        state = answer.body.get("state")
        if state in _UNDER_WAY:
            return RunState.UNDER_WAY
        return RunState.ENDED if state in _ENDED else RunState.UNKNOWN

    def _refused(self, answer: Answer, doing: str) -> Exception:
        detail = str(answer.body.get("detail") or "no reason given")[:400]
        text = f"{doing} was answered with {answer.status} ({detail})."
        if answer.status == 401:
            return CredentialError(
                f"{text} The token from {self._source} is not valid, or not any more: get a new one."
            )
        if answer.status == 403:
            return CredentialError(f"{text} The user of the token from {self._source} must be let read DAG runs.")
        return ConnectError(f"{text} Check that this is the URL of Airflow's API server, of Airflow 3.")
