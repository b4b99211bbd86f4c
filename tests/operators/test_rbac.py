"""The rights that each feature needs: a user with exactly those of a row in docs/rbac.md, and users who lack one."""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from kpo_multicluster.cluster import ClusterRef, kubeconfig
from kpo_multicluster.errors import PodFailedError, PodRunError, XComError
from kpo_multicluster.exceptions import KubernetesApiPermissionError
from kpo_multicluster.operators.pod import KubernetesPodOperator
from kpo_multicluster.testing import Rule, User
from kpo_multicluster.testing.cluster import EmbeddedCluster

from .conftest import FakeTaskInstance, Ran, context_of, gone, quiet

DOCUMENT = Path(__file__).parents[2] / "docs" / "rbac.md"

Run = Callable[..., Ran]
Right = tuple[str, str]
As = Callable[[Iterable[Right]], ClusterRef]


def documented() -> dict[str, set[Right]]:
    """The rows of the table: (verb, resource) by name."""
    rows = re.findall(r"^\| `([a-z-]+)` \|[^|]*\|([^|]*)\|", DOCUMENT.read_text(), re.MULTILINE)
    return {name: rights_in(cell) for name, cell in rows}


def rights_in(cell: str) -> set[Right]:
    found: set[Right] = set()
    for part in filter(None, (part.strip() for part in cell.split(";"))):
        resource, verbs = part.split(":")
        found |= {(verb.strip(), resource.strip()) for verb in verbs.split(",")}
    return found


ROWS = documented()
RUN = ROWS["run"]
# Of servers from Kubernetes 1.35 on; the embedded one is older.
NOT_ASKED_FOR_YET = {("create", "pods/exec")}


@pytest.fixture
def mode() -> str:
    """What a triggerer needs beyond is another matter."""
    return "sync"


@pytest.fixture
def as_user(cluster: EmbeddedCluster, tmp_path: Path) -> As:
    """A cluster as seen by a user with some rights in the namespace `default` and no others."""
    numbers = itertools.count()

    def as_user(rights: Iterable[Right]) -> ClusterRef:
        rules = tuple(Rule((verb,), (resource,), ("default",)) for verb, resource in rights)
        user = cluster.add_user(User(f"worker-{next(numbers)}", rules=rules))
        return kubeconfig(str(cluster.write_kubeconfig(tmp_path / user.name, user=user.name)))

    return as_user


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What the task warned of."""

    def warnings() -> list[str]:
        return [
            record.getMessage()
            for record in caplog.records
            if record.name == "task" and record.levelno >= logging.WARNING and "execute cannot be" not in record.message
        ]

    return warnings


Warned = Callable[[], list[str]]


def used(cluster: EmbeddedCluster) -> set[Right]:
    return {(record.info.verb, record.info.qualified_resource) for record in cluster.requests.records()}


ALONE: dict[str, Any] = {"reattach_on_restart": False}
SLOW_START: dict[str, Any] = {
    "init_containers": [{"name": "slow", "image": "alpine:3", "command": ["sleep", "3"]}],
    "startup_check_interval_seconds": 0.1,
}
XCOM = "echo 5 > /airflow/xcom/return.json"


@pytest.mark.parametrize(
    ("row", "script", "arguments"),
    [
        ("run", "true", ALONE),
        ("reattach", "true", {}),
        ("xcom", XCOM, {**ALONE, "do_xcom_push": True}),
        ("xcom-message", XCOM, {**ALONE, "do_xcom_push": True, "xcom_transport": "termination-message"}),
        ("events-startup", "true", {**ALONE, **SLOW_START}),
        ("events-failure", "exit 1", {**ALONE, "log_events_on_failure": True}),
    ],
)
def test_a_feature_needs_its_row_and_no_more(
    cluster: EmbeddedCluster, as_user: As, run: Run, warnings: Warned, row: str, script: str, arguments: dict[str, Any]
) -> None:
    rights = RUN | ROWS[row]
    try:
        ran = run(script, cluster=as_user(rights), **arguments)
    except PodFailedError:
        assert script == "exit 1"
    else:
        assert ran.result == (5 if script == XCOM else None)
    assert warnings() == []
    assert used(cluster) == rights - NOT_ASKED_FOR_YET
    cluster.wait_until(gone)


def test_keep(cluster: EmbeddedCluster, as_user: As, run: Run, warnings: Warned) -> None:
    rights = (RUN | ROWS["keep"]) - {("delete", "pods")}
    run("true", cluster=as_user(rights), on_finish_action="keep_pod", **ALONE)
    assert warnings() == []
    assert used(cluster) == rights


def test_poll(cluster: EmbeddedCluster, as_user: As, run: Run, warnings: Warned) -> None:
    rights = (RUN | ROWS["poll"]) - {("watch", "pods")}
    run("true", cluster=as_user(rights), **ALONE)
    (warning,) = warnings()
    assert "Grant the verb 'watch' on pods" in warning
    assert used(cluster) == rights | {("watch", "pods")}


class Store(dict[str, Any]):
    """Stands for Airflow's task state store."""

    def set(self, key: str, value: Any) -> None:
        self[key] = value


class Died(BaseException):
    """Stands for a worker that was killed."""


class Dying(KubernetesPodOperator):
    def await_pod_completion(self, pod: Any) -> None:
        raise Died


@pytest.mark.parametrize("granted", [True, False])
def test_remember(cluster: EmbeddedCluster, as_user: As, warnings: Warned, granted: bool) -> None:
    rights = (RUN | ROWS["remember"]) if granted else RUN
    store, pods = Store(), []
    for number, kind in enumerate((Dying, KubernetesPodOperator), start=1):
        operator = kind(
            task_id="task",
            image="alpine:3",
            cmds=["sleep", "0.5"],
            cluster=as_user(rights),
            on_kill_action="keep_pod",
            durable=True,
        )
        ti = FakeTaskInstance("task", try_number=number)
        try:
            quiet(operator).execute(context_of(ti, task_state_store=store))
        except Died:
            assert number == 1
        pods.append(ti.pushed["pod_name"])
    assert (pods[0] == pods[1]) == granted
    assert ("get", "pods") in used(cluster)
    assert any("Grant the verb 'get' on pods" in warning for warning in warnings()) != granted


@pytest.mark.parametrize("more", [set(), {("list", "pods")}, {("get", "pods")}], ids=["watch", "list", "get"])
def test_what_was_lost_sight_of_is_found_again_by_any_right_to_read(
    cluster: EmbeddedCluster, as_user: As, run: Run, more: set[Right]
) -> None:
    """A pod whose creation got no answer, and one whose watch grew too old."""
    with cluster.faults.drop("^create ", processed=True):
        run("true", cluster=as_user(RUN | more), **ALONE)
    with cluster.faults.answer("^watch .*pods", 410):
        run("sleep 0.2", cluster=as_user(RUN | more), **ALONE)
    cluster.wait_until(gone)


def test_a_role_written_for_upstream_serves(cluster: EmbeddedCluster, as_user: As, run: Run, warnings: Warned) -> None:
    pods = {(verb, "pods") for verb in ("create", "delete", "get", "list", "patch")}
    usual = pods | {("get", "pods/log"), ("get", "pods/exec"), ("create", "pods/exec"), ("list", "events")}
    assert run(XCOM, cluster=as_user(usual), do_xcom_push=True).result == 5
    assert len(warnings()) == 1
    cluster.wait_until(gone)


# -- without a right -------------------------------------------------------------------------------------------------


def test_without_create(cluster: EmbeddedCluster, as_user: As, run: Run) -> None:
    with pytest.raises(KubernetesApiPermissionError, match='cannot create resource "pods"'):
        run("true", cluster=as_user(RUN - {("create", "pods")}), **ALONE)
    assert cluster.pods() == []


def test_without_watch_and_get(cluster: EmbeddedCluster, as_user: As, run: Run) -> None:
    with pytest.raises(KubernetesApiPermissionError, match='cannot get resource "pods"'):
        run("sleep 60", cluster=as_user(RUN - {("watch", "pods")}), termination_grace_period=0, **ALONE)
    cluster.wait_until(gone)


def test_without_list(cluster: EmbeddedCluster, as_user: As, run: Run, warnings: Warned) -> None:
    run("true", cluster=as_user(RUN))
    (warning,) = warnings()
    assert "a new pod is started" in warning
    assert "Grant the verb 'list' on pods" in warning


def test_without_log(
    cluster: EmbeddedCluster, as_user: As, run: Run, warnings: Warned, lines: Callable[[], list[str]]
) -> None:
    run("echo hello", cluster=as_user(RUN - {("get", "pods/log")}), **ALONE)
    (warning,) = warnings()
    assert "pods/log" in warning
    assert "[base] hello" not in lines()


@pytest.mark.parametrize("lacking", [set(), ROWS["xcom"]], ids=["with", "without"])
def test_without_exec(cluster: EmbeddedCluster, as_user: As, run: Run, lacking: set[Right]) -> None:
    ref = as_user((RUN | ROWS["xcom"]) - lacking)
    if not lacking:
        assert run(XCOM, cluster=ref, do_xcom_push=True, **ALONE).result == 5
        return
    with pytest.raises(XComError, match="pods/exec, or set xcom_transport='termination-message'"):
        run(XCOM, cluster=ref, do_xcom_push=True, termination_grace_period=1, **ALONE)
    cluster.wait_until(gone)


@pytest.mark.parametrize("rights", [set(), {("list", "events")}], ids=["none", "list"])
def test_without_events_at_the_start(
    cluster: EmbeddedCluster, as_user: As, run: Run, warnings: Warned, rights: set[Right]
) -> None:
    run("true", cluster=as_user(RUN | rights), **ALONE, **SLOW_START)
    (warning,) = warnings()
    assert "Grant 'list' and 'watch' on events" in warning


def test_without_events_of_a_failed_pod(cluster: EmbeddedCluster, as_user: As, run: Run, warnings: Warned) -> None:
    with pytest.raises(PodFailedError, match="exit code 3"):
        run("exit 3", cluster=as_user(RUN), log_events_on_failure=True, **ALONE)
    (warning,) = warnings()
    assert "events could not be read" in warning


def test_without_patch(cluster: EmbeddedCluster, as_user: As, run: Run, warnings: Warned) -> None:
    ran = run("true", cluster=as_user(RUN), on_finish_action="keep_pod", **ALONE)
    (warning,) = warnings()
    assert f"Pod default/{ran.ti.pushed['pod_name']} could not be marked" in warning


@pytest.mark.parametrize("script", ["true", "exit 3"])
def test_without_delete(cluster: EmbeddedCluster, as_user: As, run: Run, warnings: Warned, script: str) -> None:
    try:
        run(script, cluster=as_user((RUN | ROWS["keep"]) - {("delete", "pods")}), **ALONE)
    except PodFailedError:
        assert script == "exit 3"
    (pod,) = cluster.pods()
    (warning,) = warnings()
    assert f"Pod default/{pod['metadata']['name']} could not be deleted" in warning
    assert pod["metadata"]["labels"]["already_checked"] == "True"


def test_without_delete_a_killed_task_names_the_pod_that_remains(
    cluster: EmbeddedCluster, as_user: As, run: Run
) -> None:
    class Killing:
        @staticmethod
        def on_pod_starting(*, operator: Any, client: Any, **arguments: Any) -> None:
            client.api_client.close()
            operator.on_kill()

    with pytest.raises(PodRunError, match="may still be running") as raised:
        run("sleep 60", cluster=as_user(RUN - {("delete", "pods")}), callbacks=Killing, **ALONE)
    (pod,) = cluster.pods()
    assert f"default/{pod['metadata']['name']}" in str(raised.value)


# -- the document ----------------------------------------------------------------------------------------------------


def test_each_row_has_its_test() -> None:
    tested = {"run", "reattach", "xcom", "xcom-message", "events-startup", "events-failure"}
    assert set(ROWS) == tested | {"keep", "poll", "remember"}


def test_the_role_at_the_end_is_all_of_the_table() -> None:
    role = yaml.safe_load(DOCUMENT.read_text().split("```yaml\n")[1].split("```")[0])
    granted = {(verb, name) for rule in role["rules"] for name in rule["resources"] for verb in rule["verbs"]}
    assert granted == set().union(*ROWS.values())
