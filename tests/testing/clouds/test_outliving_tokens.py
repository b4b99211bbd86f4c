"""Pods that run three times longer than the tokens they are watched with last, on each cloud."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.operators.pod import KubernetesPodOperator
from kpo_multicluster.testing import EmbeddedCluster, User
from kpo_multicluster.testing.clouds import FakeAws, FakeAzure, FakeGoogle

from ...operators.conftest import FakeTaskInstance, context_of, quiet
from .traces import Traces

pytestmark = pytest.mark.timeout(120)

LIFE_SECONDS = 3
EMAIL = "airflow@my-project.iam.gserviceaccount.com"
ROLE = "arn:aws:iam::222222222222:role/airflow-pods"
# Lines that are sent again after a cut, as the log is asked for from a whole second on, are fewer than these.
_LINES_TO_A_CUT = 25
_PAUSE_SECONDS = 0.2
_LINES = 50


@dataclass(frozen=True)
class Login:
    """A way into a cluster.

    Attributes:
        ref: names the cluster, with credentials.
        issued: gives the times at which tokens for it, or what makes them, were issued so far.
        least_seconds: that must pass between two of them, if each is used for as long as it is good.
        refusals: whether only a refusal tells that a token has ended.
    """

    ref: ClusterRef
    issued: Callable[[], Sequence[float]]
    least_seconds: float
    refusals: bool = False


@pytest.fixture
def embedded() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster("gpu") as cluster:
        yield cluster


@pytest.fixture
def gke_login(google: FakeGoogle, embedded: EmbeddedCluster) -> Login:
    google.token_life_seconds = LIFE_SECONDS
    account = google.add_service_account(EMAIL)
    embedded.add_user(User(EMAIL))
    ref = google.add_cluster("gpu", cluster=embedded).ref(key_json=json.dumps(account.key()))
    return Login(ref, lambda: [token.issued_at for token in google.tokens.issued(to=EMAIL)], LIFE_SECONDS * 0.7)


@pytest.fixture
def aks_login(azure: FakeAzure, azure_ca: str, embedded: EmbeddedCluster) -> Login:
    azure.token_life_seconds = LIFE_SECONDS
    identity = azure.add_application("client", secret="s3cret")
    embedded.add_user(User(identity.name))
    cluster = azure.add_cluster("gpu", cluster=embedded)
    ref = cluster.ref(tenant_id=azure.tenant, client_id="client", client_secret="s3cret")

    def issued() -> list[float]:
        return [token.issued_at for token in azure.tokens.issued(audience=cluster.server_id)]

    # Azure tells the end of a token in whole seconds, rounded down.
    return Login(ref, issued, (LIFE_SECONDS - 1) * 0.7)


def _eks(aws: FakeAws, embedded: EmbeddedCluster, monkeypatch: pytest.MonkeyPatch) -> ClusterRef:
    user = aws.add_user("airflow")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", user.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", user.secret_key)
    role = aws.add_role(ROLE, trusted=(user.arn,), external_id="team-7")
    cluster = aws.add_cluster("gpu", account="222222222222", cluster=embedded)
    cluster.add_user(role.arn, username="airflow")
    embedded.add_user(User("airflow"))
    return cluster.ref(role_arn=role.arn, external_id="team-7")


@pytest.fixture
def eks_login(aws: FakeAws, embedded: EmbeddedCluster, monkeypatch: pytest.MonkeyPatch) -> Login:
    """The session of the role ends, and with it each token that was signed by its keys."""
    aws.session_seconds = LIFE_SECONDS
    ref = _eks(aws, embedded, monkeypatch)
    # Keys are renewed at half their life.
    return Login(ref, lambda: [session.issued_at for session in aws.sessions.all()], LIFE_SECONDS * 0.45)


@pytest.fixture
def eks_refusing_login(aws: FakeAws, embedded: EmbeddedCluster, monkeypatch: pytest.MonkeyPatch) -> Login:
    """The cluster takes tokens for seconds only, which nothing tells."""
    aws.token_life_seconds = LIFE_SECONDS
    ref = _eks(aws, embedded, monkeypatch)
    # The time of signing is told in whole seconds, rounded down.

    return Login(ref, lambda: [session.issued_at for session in aws.sessions.all()], LIFE_SECONDS - 1, True)


@pytest.fixture(params=["gke", "aks", "eks", "eks_refusing"])
def login(request: pytest.FixtureRequest) -> Login:
    found: Login = request.getfixturevalue(f"{request.param}_login")
    return found


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory for temporary files, of this process alone."""
    directory = tmp_path / "temporary"
    directory.mkdir()
    monkeypatch.setenv("TMPDIR", str(directory))
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    return directory


def lines_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    prefix = "[base] "
    written = [record.getMessage() for record in caplog.records]
    return [line.removeprefix(prefix) for line in written if line.startswith(prefix)]


def test_a_pod_outlives_its_tokens(
    embedded: EmbeddedCluster, login: Login, temporary: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    script = f"n=0; until [ $n = {_LINES} ]; do n=$((n+1)); echo $n; sleep {_PAUSE_SECONDS}; done; "
    operator = quiet(
        KubernetesPodOperator(
            task_id="task",
            cluster=login.ref,
            namespace="default",
            image="alpine:3.22",
            cmds=["sh", "-c"],
            arguments=[f"{script}echo $n > /airflow/xcom/return.json"],
            do_xcom_push=True,
        )
    )
    # Each cut of the log is a request more, with the token of that moment.
    embedded.faults.cut("^log ", after_lines=_LINES_TO_A_CUT, times=None)
    began = time.monotonic()
    with Traces(temporary) as traces:
        assert operator.execute(context_of(FakeTaskInstance("task"))) == _LINES
    assert time.monotonic() - began > 3 * LIFE_SECONDS
    assert lines_of(caplog) == [str(number) for number in range(1, _LINES + 1)]
    assert all("deletionTimestamp" in pod["metadata"] for pod in embedded.pods())
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []
    times = login.issued()
    assert len(times) >= 3
    assert all(later - earlier >= login.least_seconds for earlier, later in pairwise(times))
    refused = [record for record in embedded.requests.records() if record.status == 401]
    assert refused or not login.refusals
    assert traces.files == []
    assert traces.processes == {}


def test_traces_would_be_seen(temporary: Path) -> None:
    with Traces(temporary) as traces:
        (temporary / "key.json").touch()
        subprocess.run(["sleep", "0.5"], check=True)
    assert traces.files == ["key.json"]
    assert list(traces.processes.values()) == ["sleep 0.5"]
