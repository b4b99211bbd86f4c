"""Pods that run three times longer than the tokens they are watched with last, on each cloud."""

from __future__ import annotations

import base64
import importlib
import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.operators.pod import KubernetesPodOperator
from kpo_multicluster.testing import EmbeddedCluster, User
from kpo_multicluster.testing.clouds import FakeAws, FakeAzure, FakeGoogle, Identity
from kpo_multicluster.testing.clouds.identity import Identifier

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


class Recorder:
    """Notes the tokens that a cluster is shown, in order."""

    def __init__(self, cluster: Identifier) -> None:
        self.shown: list[str] = []
        self._cluster = cluster

    def identify(self, token: str) -> Identity:
        self.shown.append(token)
        return self._cluster.identify(token)


@dataclass(frozen=True)
class Login:
    """A way into a cluster.

    Attributes:
        ref: names the cluster, with credentials.
        recorder: of the tokens that it is shown.
        issued: gives what was issued to the task so far: tokens, or sessions whose keys sign them.
        made_by: tells by which of these a token was made.
        told: whether the task knows when a token ends; if not, only a refusal tells.
    """

    ref: ClusterRef
    recorder: Recorder
    issued: Callable[[], list[str]]
    made_by: Callable[[str], str] = str
    told: bool = True


@pytest.fixture
def embedded() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster("gpu") as cluster:
        yield cluster


def trust(embedded: EmbeddedCluster, cloud: Identifier, user: str) -> Recorder:
    recorder = Recorder(cloud)
    embedded.accept_tokens_of(recorder)
    embedded.add_user(User(user))
    return recorder


@pytest.fixture
def gke_login(google: FakeGoogle, embedded: EmbeddedCluster) -> Login:
    google.token_life_seconds = LIFE_SECONDS
    account = google.add_service_account(EMAIL)
    cluster = google.add_cluster("gpu", endpoint=urlsplit(embedded.server).netloc, ca_pem=embedded.ca_pem)
    ref = cluster.ref(key_json=json.dumps(account.key()))
    recorder = trust(embedded, cluster, EMAIL)
    return Login(ref, recorder, lambda: [token.value for token in google.tokens.issued(to=EMAIL)])


@pytest.fixture
def aks_login(azure: FakeAzure, azure_ca: str, embedded: EmbeddedCluster) -> Login:
    # Once in a process, as it is imported, Azure's library has Python run `uname -p`, for its user agent.
    importlib.import_module("azure.identity")
    azure.token_life_seconds = LIFE_SECONDS
    identity = azure.add_application("client", secret="s3cret")
    cluster = azure.add_cluster("gpu", server=embedded.server, ca_pem=embedded.ca_pem)
    ref = cluster.ref(tenant_id=azure.tenant, client_id="client", client_secret="s3cret")
    recorder = trust(embedded, cluster, identity.name)
    return Login(ref, recorder, lambda: [token.value for token in azure.tokens.issued(audience=cluster.server_id)])


def _eks(aws: FakeAws, embedded: EmbeddedCluster, monkeypatch: pytest.MonkeyPatch, *, told: bool) -> Login:
    user = aws.add_user("airflow")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", user.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", user.secret_key)
    role = aws.add_role(ROLE, trusted=(user.arn,), external_id="team-7")
    cluster = aws.add_cluster("gpu", account="222222222222", endpoint=embedded.server, ca_pem=embedded.ca_pem)
    cluster.add_user(role.arn, username="airflow")
    ref = cluster.ref(role_arn=role.arn, external_id="team-7")
    recorder = trust(embedded, cluster, "airflow")
    return Login(ref, recorder, lambda: [session.value for session in aws.sessions.all()], _access_key, told)


def _access_key(token: str) -> str:
    text = token.removeprefix("k8s-aws-v1.")
    url = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    return parse_qs(urlsplit(url).query)["X-Amz-Credential"][0].partition("/")[0]


@pytest.fixture
def eks_login(aws: FakeAws, embedded: EmbeddedCluster, monkeypatch: pytest.MonkeyPatch) -> Login:
    """The session of the role ends, and with it each token that was signed by its keys."""
    aws.session_seconds = LIFE_SECONDS
    return _eks(aws, embedded, monkeypatch, told=True)


@pytest.fixture
def eks_refusing_login(aws: FakeAws, embedded: EmbeddedCluster, monkeypatch: pytest.MonkeyPatch) -> Login:
    """The cluster takes tokens for seconds only, which nothing tells."""
    aws.token_life_seconds = LIFE_SECONDS
    return _eks(aws, embedded, monkeypatch, told=False)


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
    # One renewal for each end, and none for nothing: what was issued was used, but for what ended before its first use.
    issued, used = login.issued(), {login.made_by(token) for token in login.recorder.shown}
    assert len(issued) >= 3
    assert used <= set(issued)
    assert len(set(issued) - used) <= 1
    refused = [record for record in embedded.requests.records() if record.status == 401]
    assert login.told or len(issued) - 1 <= len(refused)
    assert traces.files == []
    assert traces.processes == {}


def test_traces_would_be_seen(temporary: Path) -> None:
    with Traces(temporary) as traces:
        (temporary / "key.json").touch()
        subprocess.run(["sleep", "0.5"], check=True)
    assert traces.files == ["key.json"]
    assert list(traces.processes.values()) == ["sleep 0.5"]
