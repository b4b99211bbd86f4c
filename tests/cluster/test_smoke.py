"""Real pods on both clusters: what every other test on them takes for granted."""

from __future__ import annotations

import json
import time
from datetime import datetime, timezone
from typing import Any

import pytest

from .clients import Client
from .errors import ClusterError, RefusedError
from .fixtures import MakeNamespace, RealClusters

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

READ_PODS = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}


def pod(name: str, command: list[str], image: str = "alpine:3.22", **spec: Any) -> dict[str, Any]:
    container = {"name": "base", "image": image, "command": command}
    return {"metadata": {"name": name}, "spec": {"restartPolicy": "Never", "containers": [container], **spec}}


def phase_is(*phases: str) -> Any:
    return lambda seen: seen.get("status", {}).get("phase") in phases


def base_has_ended(seen: dict[str, Any]) -> bool:
    return any("terminated" in each["state"] for each in seen["status"].get("containerStatuses", ()))


@pytest.fixture(params=[0, 1], ids=["first", "second"])
def context(request: pytest.FixtureRequest, real_clusters: RealClusters) -> str:
    return real_clusters.contexts[request.param]


@pytest.fixture
def client(real_clusters: RealClusters, context: str) -> Client:
    return real_clusters.client(context)


@pytest.fixture
def pods(client: Client, context: str, make_namespace: MakeNamespace) -> str:
    return f"/api/v1/namespaces/{make_namespace(context)}/pods"


def namespace_of(pods: str) -> str:
    return pods.split("/")[4]


def test_a_pod_runs_and_its_log_is_read(client: Client, pods: str, capsys: pytest.CaptureFixture[str]) -> None:
    for attempt in ("first", "second"):
        started = time.monotonic()
        client.request("POST", pods, pod(attempt, ["echo", "hello"]))
        client.wait(f"{pods}/{attempt}", base_has_ended)
        terminated = time.monotonic() - started
        seen = client.wait(f"{pods}/{attempt}", phase_is("Succeeded", "Failed"))
        succeeded = time.monotonic() - started
        assert seen["status"]["phase"] == "Succeeded"
        assert client.text("GET", f"{pods}/{attempt}/log") == "hello\n"
        with capsys.disabled():
            print(
                f"\n  {client.context}, {attempt} pod: ended after {terminated:.2f} s, Succeeded {succeeded:.2f} s",
                end="",
            )


def test_a_command_runs_in_a_container(client: Client, pods: str) -> None:
    client.request("POST", pods, pod("waits", ["sh", "-c", "trap 'exit 0' TERM INT; while true; do sleep 1; done"]))
    client.wait(f"{pods}/waits", phase_is("Running"))

    done = client.execute(namespace_of(pods), "waits", ["sh", "-c", "echo out; echo err >&2; exit 7"])
    assert (done.exit_code, done.stdout, done.stderr) == (7, "out\n", "err\n")

    found = client.execute(namespace_of(pods), "waits", ["sh", "-c", "pgrep -u $(id -u) -f 'sh'"])
    assert "1" in found.stdout.split()
    client.execute(namespace_of(pods), "waits", ["kill", "-2", "1"])
    assert client.wait(f"{pods}/waits", phase_is("Succeeded"))


def test_a_deleted_pod_goes_away(client: Client, pods: str) -> None:
    created = client.request("POST", pods, pod("waits", ["sh", "-c", "trap 'exit 0' TERM; sleep 600 & wait"]))
    client.wait(f"{pods}/waits", phase_is("Running"))
    client.request("DELETE", f"{pods}/waits", {"preconditions": {"uid": created["metadata"]["uid"]}})
    with pytest.raises(ClusterError, match="was deleted"):
        client.wait(f"{pods}/waits", lambda seen: False)
    with pytest.raises(RefusedError) as refused:
        client.request("GET", f"{pods}/waits")
    assert refused.value.status == 404


def test_a_pod_reaches_its_api_server_with_its_mounted_token(client: Client, pods: str) -> None:
    namespace = namespace_of(pods)
    account = client.make_service_account(namespace, [READ_PODS], name="reader")
    # The Python image, the token mount, the service's address and RBAC in one go.
    program = """
import json, os, ssl, urllib.error, urllib.request
mount = "/var/run/secrets/kubernetes.io/serviceaccount/"
trusted = ssl.create_default_context(cafile=mount + "ca.crt")
server = "https://" + os.environ["KUBERNETES_SERVICE_HOST"] + "/api/v1/namespaces/" + open(mount + "namespace").read()
def ask(what):
    headers = {"Authorization": "Bearer " + open(mount + "token").read()}
    try:
        with urllib.request.urlopen(urllib.request.Request(server + what, headers=headers), context=trusted) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        return json.load(error)
print([each["metadata"]["name"] for each in ask("/pods")["items"]], ask("/secrets")["message"])
"""
    body = pod("asks", ["python", "-c", program], "python:3.11-slim", serviceAccountName="reader")
    client.request("POST", pods, body)
    client.wait(f"{pods}/asks", phase_is("Succeeded", "Failed"))
    said = client.text("GET", f"{pods}/asks/log")
    assert said.startswith(f"['asks'] secrets is forbidden: User \"{account.user}\" cannot list resource")


def test_an_unknown_image_is_not_pulled(client: Client, pods: str) -> None:
    client.request("POST", pods, pod("unknown", ["true"], "example.test/no/such-image:1"))

    def refused(seen: dict[str, Any]) -> bool:
        states = [each["state"] for each in seen["status"].get("containerStatuses", ())]
        return any(state.get("waiting", {}).get("reason") == "ErrImagePull" for state in states)

    seen = client.wait(f"{pods}/unknown", refused)
    message = seen["status"]["containerStatuses"][0]["state"]["waiting"]["message"]
    assert "example.test/no/such-image:1: not found" in message


def test_a_container_over_its_memory_limit_is_killed(client: Client, pods: str) -> None:
    body = pod("greedy", ["sh", "-c", "tail /dev/zero"])
    body["spec"]["containers"][0]["resources"] = {"limits": {"memory": "32Mi"}}
    client.request("POST", pods, body)
    seen = client.wait(f"{pods}/greedy", phase_is("Failed"))
    ended = seen["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)


def test_each_cluster_sees_its_own_pods_and_requests_only(
    real_clusters: RealClusters, make_namespace: MakeNamespace
) -> None:
    """What every test of the promise "the right cluster" rests on: a pod on the wrong one would be seen."""
    here, there = real_clusters.contexts
    audits = {context: real_clusters.audit(context) for context in (here, there)}
    since = datetime.now(timezone.utc)
    clients = {context: real_clusters.client(context) for context in (here, there)}
    namespace = make_namespace(here)
    pods = f"/api/v1/namespaces/{namespace}/pods"
    clients[here].request("POST", pods, pod("only-here", ["echo", "hello"]))
    clients[here].wait(f"{pods}/only-here", phase_is("Succeeded"))

    counts = audits[here].counts(namespace=namespace, user="admin", since=since)
    assert counts == {"watch serviceaccounts": 1, "create pods": 1, "watch pods": 1}
    created, watched = audits[here].requests(pod="only-here", namespace=namespace)
    assert (str(created), created.status, str(watched)) == ("create pods", 201, "watch pods")
    assert audits[there].requests(namespace=namespace) == []
    assert json.dumps(clients[there].request("GET", "/api/v1/pods")).count("only-here") == 0
    names = {context: clients[context].request("GET", "/api/v1/nodes")["items"] for context in (here, there)}
    assert [node["metadata"]["name"] for node in names[here]] == [f"{here}-1"]
    assert [node["metadata"]["name"] for node in names[there]] == [f"{there}-1"]


def test_a_service_account_is_known_by_name_and_refused_by_rbac(
    real_clusters: RealClusters, client: Client, context: str, pods: str, tmp_path: Any
) -> None:
    from . import kubeconfig

    account = client.make_service_account(namespace_of(pods), [READ_PODS])
    limited = Client(kubeconfig.write(tmp_path / "kubeconfig", [account.entry]), context)
    assert limited.request("GET", pods)["items"] == []
    with pytest.raises(RefusedError, match=f'User \\\\"{account.user}\\\\" cannot create resource'):
        limited.request("POST", pods, pod("refused", ["true"]))
    limited.close()
    if real_clusters.ours:
        assert real_clusters.audit(context).counts(user=account.user) == {"list pods": 1, "create pods": 1}
