"""The official client against a cluster whose pods are real processes."""

from __future__ import annotations

import ast
import datetime
import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from kpo_multicluster.testing import EmbeddedCluster, ImageSource, Rule, User

# The client makes its own exceptions and models at import, which takes longer than these tests.
client = pytest.importorskip("kubernetes.client")
config = pytest.importorskip("kubernetes.config")
stream = pytest.importorskip("kubernetes.stream")
watch = pytest.importorskip("kubernetes.watch")

NAMESPACE = "default"
# The official client leaves the sockets of watches and execs to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")


@pytest.fixture(scope="module")
def cluster() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(images={"greeter": ImageSource.from_command("sh", "-c", 'echo "hello $1"', "sh")}) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def api(cluster: EmbeddedCluster) -> Any:
    # It keeps the CA in a temporary file until the process ends, so that every test shares one.
    return config.new_client_from_config_dict(cluster.kubeconfig())


@pytest.fixture
def core(cluster: EmbeddedCluster, api: Any) -> Iterator[Any]:
    yield client.CoreV1Api(api)
    api.rest_client.pool_manager.clear()
    cluster.delete_all_pods()
    gc.collect()


def log_of(core: Any, name: str) -> str:
    log: str = core.read_namespaced_pod_log(name, NAMESPACE)
    # The client of Kubernetes 36 gives how Python writes the bytes.
    return ast.literal_eval(log).decode() if log.startswith(("b'", 'b"')) else log


def pod(name: str, *command: str, **spec: Any) -> Any:
    container = client.V1Container(name="base", image="busybox", command=list(command) or None)
    return client.V1Pod(
        metadata=client.V1ObjectMeta(name=name, labels={"app": name}),
        spec=client.V1PodSpec(containers=[container], restart_policy="Never", **spec),
    )


def running(pods: list[dict[str, Any]]) -> bool:
    return all(pod["status"]["phase"] == "Running" for pod in pods)


def ended(pods: list[dict[str, Any]]) -> bool:
    return all(pod["status"]["phase"] in ("Succeeded", "Failed") for pod in pods)


def refused(call: Any, *arguments: Any, **options: Any) -> Any:
    with pytest.raises(client.ApiException) as error:
        call(*arguments, **options)
    return error.value


def test_the_life_of_a_pod(cluster: EmbeddedCluster, core: Any) -> None:
    created = core.create_namespaced_pod(NAMESPACE, pod("a", "sh", "-c", "echo out; echo err >&2; exit 3"))
    assert created.status.phase == "Pending"
    cluster.wait_until(ended)
    read = core.read_namespaced_pod("a", NAMESPACE)
    state = read.status.container_statuses[0].state.terminated
    assert (read.status.phase, state.exit_code, state.reason) == ("Failed", 3, "Error")
    assert sorted(log_of(core, "a").splitlines()) == ["err", "out"]
    assert [item.metadata.name for item in core.list_namespaced_pod(NAMESPACE, label_selector="app=a").items] == ["a"]
    deleted = core.delete_namespaced_pod("a", NAMESPACE, body=client.V1DeleteOptions(grace_period_seconds=0))
    assert deleted.metadata.uid == created.metadata.uid
    assert refused(core.read_namespaced_pod, "a", NAMESPACE).status == 404


def test_an_image_s_entrypoint_comes_from_its_declaration(cluster: EmbeddedCluster, core: Any) -> None:
    body = pod("a")
    body.spec.containers[0].image, body.spec.containers[0].args = "greeter:1", ["world"]
    core.create_namespaced_pod(NAMESPACE, body)
    cluster.wait_until(ended)
    assert log_of(core, "a") == "hello world\n"


def test_a_watch(core: Any) -> None:
    watcher = watch.Watch()
    phases = []
    core.create_namespaced_pod(NAMESPACE, pod("a", "true"))
    for event in watcher.stream(core.list_namespaced_pod, NAMESPACE, timeout_seconds=60):
        phases.append((event["type"], event["object"].status.phase))
        if phases[-1][1] == "Succeeded":
            watcher.stop()
    assert phases[0][0] == "ADDED"
    assert phases[-1] == ("MODIFIED", "Succeeded")


def test_a_log_is_followed(core: Any, cluster: EmbeddedCluster) -> None:
    core.create_namespaced_pod(NAMESPACE, pod("a", "sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.05; done"))
    cluster.wait_until(lambda pods: bool(pods[0]["status"].get("containerStatuses", [{}])[0].get("containerID")))
    answer = core.read_namespaced_pod_log("a", NAMESPACE, follow=True, timestamps=True, _preload_content=False)
    lines = [line.split(" ", 1) for line in answer.read().decode().splitlines()]
    answer.close()
    assert [text for _, text in lines] == ["1", "2", "3"]
    assert all(stamp.endswith("Z") and len(stamp) == len("2026-01-01T00:00:00.000000000Z") for stamp, _ in lines)


@contextmanager
def executed(core: Any, name: str, *command: str, stdin: bool = False) -> Iterator[Any]:
    socket = stream.stream(
        core.connect_get_namespaced_pod_exec,
        name,
        NAMESPACE,
        command=list(command),
        stdin=stdin,
        stdout=True,
        stderr=True,
        tty=False,
        _preload_content=False,
    )
    try:
        yield socket
    finally:
        socket.close()


def test_an_exec_with_input_and_exit_code(core: Any, cluster: EmbeddedCluster) -> None:
    core.create_namespaced_pod(NAMESPACE, pod("a", "sleep", "60"))
    cluster.wait_until(running)
    script = "read line; echo got $line; echo oh >&2; exit 7"
    with executed(core, "a", "sh", "-c", script, stdin=True) as socket:
        socket.write_stdin("it\n")
        socket.run_forever(timeout=60)
        assert (socket.read_stdout(), socket.read_stderr(), socket.returncode) == ("got it\n", "oh\n", 7)


def test_an_exec_in_a_pod_that_ended_fails(core: Any, cluster: EmbeddedCluster) -> None:
    core.create_namespaced_pod(NAMESPACE, pod("a", "true"))
    cluster.wait_until(ended)
    with executed(core, "a", "true") as socket:
        socket.run_forever(timeout=60)
        status = json.loads(socket.read_channel(3))
    assert status["message"].endswith('unable to upgrade connection: container not found ("base")')


def test_a_large_output_arrives_whole(core: Any, cluster: EmbeddedCluster) -> None:
    core.create_namespaced_pod(NAMESPACE, pod("a", "sleep", "60"))
    cluster.wait_until(running)
    with executed(core, "a", "sh", "-c", "head -c 1000000 /dev/zero | tr '\\0' x") as socket:
        socket.run_forever(timeout=60)
        assert socket.read_stdout() == "x" * 1_000_000


def test_patches(core: Any) -> None:
    core.create_namespaced_pod(NAMESPACE, pod("a", "sleep", "60"))
    merged = core.patch_namespaced_pod(
        "a", NAMESPACE, {"metadata": {"labels": {"already_checked": "True", "app": None}}}
    )
    assert merged.metadata.labels == {"already_checked": "True"}
    operations = [{"op": "add", "path": "/metadata/annotations", "value": {"x": "y"}}]
    assert core.patch_namespaced_pod("a", NAMESPACE, operations).metadata.annotations == {"x": "y"}


def test_refusals_are_the_client_s_exceptions(core: Any) -> None:
    core.create_namespaced_pod(NAMESPACE, pod("a", "sleep", "60"))
    error = refused(core.create_namespaced_pod, NAMESPACE, pod("a"))
    assert (error.status, error.reason) == (409, "Conflict")
    assert refused(core.create_namespaced_pod, NAMESPACE, pod("A")).status == 422
    assert refused(core.create_namespaced_pod, "nowhere", pod("a")).status == 404
    options = client.V1DeleteOptions(preconditions=client.V1Preconditions(uid="other"))
    assert refused(core.delete_namespaced_pod, "a", NAMESPACE, body=options).status == 409


def test_events_tell_the_story(cluster: EmbeddedCluster, core: Any) -> None:
    core.create_namespaced_pod(NAMESPACE, pod("story", "true"))
    cluster.wait_until(ended)
    found = core.list_namespaced_event(NAMESPACE, field_selector="involvedObject.name=story").items
    reasons = [event.reason for event in found]
    assert reasons[0] == "Scheduled"
    assert {"Pulled", "Created", "Started"} <= set(reasons)
    assert isinstance(found[0].event_time, datetime.datetime)


def test_secrets_and_configmaps_reach_a_pod(cluster: EmbeddedCluster, core: Any) -> None:
    core.create_namespaced_secret(NAMESPACE, {"metadata": {"name": "s"}, "stringData": {"password": "hunter2"}})
    core.create_namespaced_config_map(NAMESPACE, {"metadata": {"name": "c"}, "data": {"colour": "red"}})
    body = pod("a", "sh", "-c", "echo $PASSWORD $(cat /conf/colour)")
    body.spec.containers[0].env = [
        client.V1EnvVar(
            name="PASSWORD",
            value_from=client.V1EnvVarSource(secret_key_ref=client.V1SecretKeySelector(name="s", key="password")),
        )
    ]
    body.spec.volumes = [client.V1Volume(name="conf", config_map=client.V1ConfigMapVolumeSource(name="c"))]
    body.spec.containers[0].volume_mounts = [client.V1VolumeMount(name="conf", mount_path="/conf")]
    core.create_namespaced_pod(NAMESPACE, body)
    cluster.wait_until(ended)
    assert log_of(core, "a") == "hunter2 red\n"


ASK = """
import json, os, ssl, urllib.error, urllib.request
home = "/var/run/secrets/kubernetes.io/serviceaccount/"
read = lambda name: open(home + name).read()
url = "https://{KUBERNETES_SERVICE_HOST}:{KUBERNETES_SERVICE_PORT}/api/v1/namespaces/".format(**os.environ)
headers = {"Authorization": "Bearer " + read("token")}
request = urllib.request.Request(url + read("namespace") + "/pods", headers=headers)
try:
    answer = urllib.request.urlopen(request, context=ssl.create_default_context(cafile=home + "ca.crt"))
except urllib.error.HTTPError as error:
    answer = error
print(json.load(answer).get("message", "allowed"))
"""


def test_a_pod_reaches_the_server_as_its_service_account(cluster: EmbeddedCluster, core: Any) -> None:
    account = "system:serviceaccount:default:default"
    core.create_namespaced_pod(NAMESPACE, pod("stranger", "python3", "-c", ASK))
    cluster.wait_until(ended)
    cluster.add_user(User(account, rules=(Rule(("list",), ("pods",), ("default",)),)))
    core.create_namespaced_pod(NAMESPACE, pod("friend", "python3", "-c", ASK))
    cluster.wait_until(ended)
    assert log_of(core, "stranger").startswith(f'pods is forbidden: User "{account}" cannot list resource "pods"')
    assert log_of(core, "friend") == "allowed\n"


def test_discovery(api: Any) -> None:
    assert client.VersionApi(api).get_code().minor == "34"
    names = [resource.name for resource in client.CoreV1Api(api).get_api_resources().resources]
    assert {"pods", "pods/log", "pods/exec", "events", "nodes"} <= set(names)
    groups = [group.name for group in client.ApisApi(api).get_api_versions().groups]
    assert groups == ["authentication.k8s.io", "authorization.k8s.io"]
    api.rest_client.pool_manager.clear()
