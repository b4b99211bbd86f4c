"""No credential stands in a log: those that are given, those that are made, and those that are renewed on the way."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk._shared.secrets_masker import _secrets_masker, redact
from airflow.sdk.execution_time import task_runner

from kpo_multicluster.auth.access import ClusterAccess, Token, TokenSource, static_token
from kpo_multicluster.cluster import token
from kpo_multicluster.hooks.kubernetes import KubernetesHook
from kpo_multicluster.hooks.masking import CredentialMask
from kpo_multicluster.testing.cluster import EmbeddedCluster
from kpo_multicluster.triggers.clusters import hub_of, stored_cluster


class Supervisor:
    """Stands in for the channel to the supervisor."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.threads: set[threading.Thread] = set()

    def send(self, message: Any) -> None:
        self.told.append(message.value)
        self.threads.add(threading.current_thread())

    async def asend(self, message: Any) -> None:
        self.send(message)


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    supervisor = Supervisor()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", supervisor, raising=False)
    yield supervisor
    masker: Any = _secrets_masker()
    masker.reset_masker()


class Tokens:
    """Makes numbered tokens, each of which is used up at once."""

    def __init__(self) -> None:
        self.count = 0
        self.source = TokenSource(self, source="test", clock=lambda: 0.0)

    def __call__(self) -> Token:
        self.count += 1
        return Token(f"numbered-token-{self.count}", expires_at=0.0)


def access(**fields: Any) -> ClusterAccess:
    return ClusterAccess(**{"server": "https://10.0.0.1", "source": "test", **fields})


def on_another_thread(work: Any) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_what_there_is_and_what_follows_is_masked(supervisor: Supervisor) -> None:
    tokens, mask = Tokens(), CredentialMask()
    tokens.source.current()
    given = access(tokens=tokens.source)
    assert mask.cover(given) is given
    tokens.source.current()
    assert supervisor.told == ["numbered-token-1", "numbered-token-2"]
    assert redact("Bearer numbered-token-2.") == "Bearer ***."


def test_only_the_main_thread_speaks_to_the_supervisor(supervisor: Supervisor) -> None:
    tokens, mask = Tokens(), CredentialMask()
    mask.cover(access(tokens=tokens.source))
    on_another_thread(tokens.source.current)
    on_another_thread(mask.tell_airflow)
    assert supervisor.told == []
    mask.tell_airflow()
    mask.tell_airflow()
    assert supervisor.told == ["numbered-token-1"]
    assert supervisor.threads == {threading.main_thread()}


async def test_on_an_event_loop_it_is_told_by_a_call_that_waits(supervisor: Supervisor) -> None:
    tokens, mask = Tokens(), CredentialMask()
    mask.cover(access(tokens=tokens.source))
    tokens.source.current()
    assert supervisor.told == []
    await mask.tell_airflow_async()
    assert supervisor.told == ["numbered-token-1"]


async def test_what_nobody_asks_for_does_not_gather(supervisor: Supervisor) -> None:
    tokens, mask = Tokens(), CredentialMask()
    mask.cover(access(tokens=tokens.source))
    for _ in range(1000):
        tokens.source.current()
    await mask.tell_airflow_async()
    assert len(supervisor.told) < 100
    assert supervisor.told[-1] == "numbered-token-1000"


async def test_what_a_triggerer_opens_is_told_though_who_asked_for_it_has_left(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THE_TOKEN", "hunter2-hunter2")
    stored = stored_cluster(KubernetesHook(cluster=token("https://127.0.0.1:1", token="env:THE_TOKEN")))

    async def use() -> None:
        async with hub_of(stored) as hub:
            assert hub.api.access.tokens is not None

    first, second = asyncio.create_task(use()), asyncio.create_task(use())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait({first})
    assert first.cancelled()
    await second
    assert supervisor.told == ["hunter2-hunter2"]


def test_keys_and_passwords(supervisor: Supervisor) -> None:
    pem = "-----BEGIN PRIVATE KEY-----\nhunter2hunter2\n-----END PRIVATE KEY-----\n"
    plugin = TokenSource(lambda: Token("", None, "certificate", "pluginkey"), source="test")
    mask = CredentialMask()
    mask.cover(access(client_key=pem, proxy_url="http://me:s%2Fcret-word@proxy:1", tokens=plugin))
    plugin.current()
    for secret in (pem, base64.b64encode(pem.encode()).decode(), "s/cret-word", "pluginkey"):
        assert secret.strip() not in str(redact(f"<{secret}>"))
    assert redact("certificate") == "certificate"


def test_what_a_reference_holds_inline(supervisor: Supervisor) -> None:
    key = {"client_email": "pods@project.example", "private_key": "hunter2hunter2"}
    document = {"users": [{"name": "alice", "user": {"password": "swordfish"}}]}
    CredentialMask().cover_ref({"key_json": json.dumps(key), "document": document, "token": "inline-token"})
    assert redact("hunter2hunter2 swordfish inline-token") == "*** *** ***"
    assert redact("pods@project.example alice") == "pods@project.example alice"


def test_the_hook_covers_what_it_resolves(supervisor: Supervisor) -> None:
    hook = KubernetesHook(cluster=token("https://10.0.0.1", token="token-of-the-hook"))
    assert hook.access.tokens is not None
    assert supervisor.told == ["token-of-the-hook", "token-of-the-hook"]


def test_a_static_token_is_told_once_it_is_asked_for(supervisor: Supervisor) -> None:
    source = static_token("late-token", source="test")
    CredentialMask().cover(access(tokens=source))
    assert supervisor.told == []
    source.current()
    assert supervisor.told == ["late-token"]


# A task that does what it should not: it writes the token that is in use to its log, by print and by its logger.
_DAG = """
import time
from pathlib import Path

from airflow.sdk import DAG
from kpo_multicluster.callbacks import KubernetesPodOperatorCallback
from kpo_multicluster.cluster import kubeconfig
from kpo_multicluster.operators.pod import KubernetesPodOperator

directory = Path(DIRECTORY)


class Tell(KubernetesPodOperatorCallback):
    @staticmethod
    def tell(stage, operator):
        token = operator._cluster_hook.access.tokens._held[0].value
        print(f"<{stage} printed> {token[::-1]} {token} .")
        operator.log.info("<%s logged> %s .", stage, token)

    @staticmethod
    def on_pod_creation(*, operator, **kwargs):
        Tell.tell("begin", operator)
        (directory / "begun").touch()
        # Meanwhile the server ceases to take the token that was told.
        while not (directory / "revoked").exists():
            time.sleep(0.05)

    @staticmethod
    def on_pod_cleanup(*, operator, **kwargs):
        Tell.tell("end", operator)


with DAG("telling"):
    KubernetesPodOperator(
        task_id="tell",
        cluster=kubeconfig(str(directory / "config")),
        image="alpine:3",
        cmds=["sh", "-c", "echo at work"],
        callbacks=Tell,
    )
"""
# Hands out the tokens of a file one after the other.
_PLUGIN = """
import json, pathlib, sys
directory = pathlib.Path(sys.argv[1])
count = len(list(directory.glob("used-*")))
(directory / f"used-{count}").touch()
status = {"token": (directory / "tokens").read_text().split()[count]}
print(json.dumps({"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}))
"""


def test_a_task_that_logs_the_tokens_it_is_let_in_by(tmp_path: Path) -> None:
    dags, log = tmp_path / "dags", tmp_path / "log"
    dags.mkdir()
    (dags / "telling.py").write_text(_DAG.replace("DIRECTORY", repr(str(tmp_path))))
    with EmbeddedCluster("telling") as cluster:
        tokens = [cluster.issue_token() for _ in range(10)]
        (tmp_path / "tokens").write_text("\n".join(tokens))
        config = cluster.kubeconfig()
        config["users"][0]["user"] = {
            "exec": {
                "apiVersion": "client.authentication.k8s.io/v1",
                "command": sys.executable,
                "args": ["-c", _PLUGIN, str(tmp_path)],
                "interactiveMode": "Never",
            }
        }
        (tmp_path / "config").write_text(json.dumps(config))
        with (tmp_path / "said").open("w") as said:
            task = subprocess.Popen(
                [sys.executable, "-m", "tests.hooks.supervised", "telling", "tell", "telling.py", str(log)],
                cwd=Path(__file__).parents[2],
                env={**os.environ, "AIRFLOW__CORE__DAGS_FOLDER": str(dags)},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
            )
        try:
            while not (tmp_path / "begun").exists() and task.poll() is None:
                time.sleep(0.05)
            # The engine's thread has to make a second one.
            cluster.expire_token(tokens[0])
            (tmp_path / "revoked").touch()
            task.wait(100)
        finally:
            task.kill()
            task.wait()
    written = log.read_text() if log.exists() else ""
    everything = f"{(tmp_path / 'said').read_text()}\n{written}"
    assert task.returncode == 0, everything
    told = [line for line in (json.loads(line)["event"] for line in written.splitlines()) if line.startswith("<")]
    # What is printed and what is logged come by ways of their own.
    stages = sorted(line.partition(">")[0] for line in told)
    assert stages == ["<begin logged", "<begin printed", "<end logged", "<end printed"], everything
    assert all(line.endswith("*** .") for line in told), told
    assert not [token for token in tokens if token in everything]
    backwards = {line.split()[2][::-1] for line in told if "printed" in line}
    assert backwards == set(tokens[:2]), "each would have been readable"
