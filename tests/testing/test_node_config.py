"""What a container gets: variables, arguments, volumes, users; and what happens when something is missing."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kpo_multicluster.testing.node_env import command_line, expand

from .node_cases import NodeUnderTest, running_node


@pytest.fixture
async def node() -> AsyncIterator[NodeUnderTest]:
    async with running_node(
        api_server=("127.0.0.1", 6443),
        service_account_token=lambda namespace, account, audience, lifetime: (
            f"{namespace}/{account}/{audience}/{lifetime}"
        ),
    ) as under_test:
        store = under_test.store
        store.objects["secrets", "default", "db"] = {"data": {"user": encoded("scott"), "password": encoded("tïger")}}
        store.objects["configmaps", "default", "settings"] = {
            "data": {"mode": "fast", "app.ini": "[app]\n"},
            "binaryData": {"blob": base64.b64encode(b"\x00\xff").decode()},
        }
        yield under_test


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def variables(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines())


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$(A)-$(B)", "1-2"),
        ("$(NONE)", "$(NONE)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$A ${A} $( A)", "$A ${A} $( A)"),
        ("$(A", "$(A"),
        ("100$", "100$"),
        ("$()", "$()"),
    ],
)
def test_references_expand_as_kubernetes_says(text: str, expanded: str) -> None:
    assert expand(text, {"A": "1", "B": "2"}) == expanded


@pytest.mark.parametrize(
    ("command", "args", "line"),
    [
        ([], [], ["entry", "cmd"]),
        ([], ["a"], ["entry", "a"]),
        (["c"], [], ["c"]),
        (["c"], ["a"], ["c", "a"]),
    ],
)
def test_command_and_args_replace_the_image_s(command: list[str], args: list[str], line: list[str]) -> None:
    assert command_line({"command": command, "args": args}, ["entry"], ["cmd"], {}) == line


async def test_the_environment_is_the_manifest_s_and_nothing_else(node: NodeUnderTest) -> None:
    env = [
        {"name": "FIRST", "value": "1"},
        {"name": "SECOND", "value": "$(FIRST)2 $(LATER) $(KUBERNETES_SERVICE_HOST)"},
        {"name": "LATER", "value": ""},
        {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
        {"name": "UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
        {"name": "LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app/name']"}}},
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
        {"name": "MEMORY", "valueFrom": {"resourceFieldRef": {"resource": "requests.memory", "divisor": "1Mi"}}},
        {"name": "USER", "valueFrom": {"secretKeyRef": {"name": "db", "key": "user"}}},
        {"name": "MODE", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "mode"}}},
        {"name": "ABSENT", "valueFrom": {"secretKeyRef": {"name": "none", "key": "k", "optional": True}}},
    ]
    base = {
        "name": "base",
        "image": "alpine",
        "command": ["sh", "-c", "env; echo ARGS=$0"],
        "args": ["$(FIRST)/$(NAME)"],
        "env": env,
        "envFrom": [{"prefix": "DB_", "secretRef": {"name": "db"}}, {"configMapRef": {"name": "x", "optional": True}}],
        "resources": {"limits": {"cpu": "1500m"}, "requests": {"memory": "100Mi"}},
    }
    pod = await node.run_spec({"containers": [base]}, name="a-pod", labels={"app/name": "shop"})
    seen = variables(await pod.result())
    search_path = seen.pop("PATH").split(":")
    assert search_path[:6] == ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
    for shell_made in ("PWD", "OLDPWD", "SHLVL", "_"):
        seen.pop(shell_made, None)
    assert seen == {
        "HOSTNAME": "a-pod",
        "HOME": "/root",
        "FIRST": "1",
        "SECOND": "12 $(LATER) 127.0.0.1",
        "LATER": "",
        "NAME": "a-pod",
        "NAMESPACE": "default",
        "UID": "uid-" + pod.uid.removeprefix("uid-"),
        "LABEL": "shop",
        "NODE": "node-1",
        "IP": pod.status["podIP"],
        "CPU": "2",
        "MEMORY": "100",
        "USER": "scott",
        "MODE": "fast",
        "DB_user": "scott",
        "DB_password": "tïger",
        "ARGS": "1/a-pod",
        "KUBERNETES_SERVICE_HOST": "127.0.0.1",
        "KUBERNETES_SERVICE_PORT": "6443",
        "KUBERNETES_SERVICE_PORT_HTTPS": "6443",
        "KUBERNETES_PORT": "tcp://127.0.0.1:6443",
        "KUBERNETES_PORT_6443_TCP": "tcp://127.0.0.1:6443",
        "KUBERNETES_PORT_6443_TCP_PROTO": "tcp",
        "KUBERNETES_PORT_6443_TCP_PORT": "6443",
        "KUBERNETES_PORT_6443_TCP_ADDR": "127.0.0.1",
    }


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"envFrom": [{"secretRef": {"name": "late"}}]}, 'secret "late" not found'),
        ({"envFrom": [{"configMapRef": {"name": "late"}}]}, 'configmap "late" not found'),
        (
            {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "late", "key": "a"}}}]},
            'secret "late" not found',
        ),
        (
            {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "db", "key": "late"}}}]},
            "couldn't find key late in Secret default/db",
        ),
        (
            {"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "late"}}}]},
            "couldn't find key late in ConfigMap default/settings",
        ),
    ],
)
async def test_what_is_missing_is_waited_for(node: NodeUnderTest, fields: dict[str, Any], message: str) -> None:
    pod = await node.run("echo", "ready", base=fields)
    waiting = await pod.waiting("CreateContainerConfigError")
    assert waiting["message"] == message
    assert pod.status["phase"] == "Pending"
    assert ("Warning", "Failed", f"Error: {message}", "spec.containers{base}") in node.store.events
    for kind, name, key in (("secrets", "late", "a"), ("secrets", "db", "late")):
        node.store.objects[kind, "default", name] = {"data": {key: encoded("v")}}
    for name, key in (("late", "a"), ("settings", "late")):
        node.store.objects["configmaps", "default", name] = {"data": {key: "v"}}
    assert await pod.result() == "ready\n"
    assert node.store.reasons().count("Failed") == 1


async def test_a_pod_that_asks_for_a_user_it_may_not_be(node: NodeUnderTest) -> None:
    pod = await node.run("true", base={"securityContext": {"runAsNonRoot": True}})
    waiting = await pod.waiting("CreateContainerConfigError")
    label = f"{pod.manifest['metadata']['name']}_default({pod.uid})"
    assert waiting["message"] == (
        f'container has runAsNonRoot and image will run as root (pod: "{label}", container: base)'
    )
    await pod.stop(0)
    pod = await node.run(
        "id", "-u", base={"securityContext": {"runAsNonRoot": True}}, securityContext={"runAsUser": 1234}
    )
    assert await pod.result() == "1234\n"


async def test_a_container_with_nothing_to_run(node: NodeUnderTest) -> None:
    pod = await node.run()
    waiting = await pod.waiting("CreateContainerError")
    assert "no command specified" in waiting["message"]
    await pod.stop(0)


VOLUMES = [
    {"name": "secret", "secret": {"secretName": "db", "defaultMode": 0o400}},
    {"name": "one", "secret": {"secretName": "db", "items": [{"key": "user", "path": "a/b", "mode": 0o440}]}},
    {"name": "config", "configMap": {"name": "settings"}},
    {
        "name": "pod",
        "downwardAPI": {
            "items": [
                {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
                {"path": "cpu", "resourceFieldRef": {"containerName": "base", "resource": "limits.cpu"}},
            ]
        },
    },
    {
        "name": "token",
        "projected": {
            "sources": [
                {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
                {"configMap": {"name": "settings", "items": [{"key": "mode", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
            ]
        },
    },
    {"name": "absent", "secret": {"secretName": "none", "optional": True}},
]


async def test_volumes_of_every_kind(node: NodeUnderTest) -> None:
    script = """
cd /v
for f in $(find -L . -type f ! -path '*/..*' | sort); do
  printf '%s %s %s\\n' $f $(stat -L -c %a $f) "$(od -An -c $f | tr -d ' \\n')"
done
ls /v/absent | wc -l
"""
    base = {
        "name": "base",
        "image": "alpine",
        "command": ["sh", "-c", script],
        "volumeMounts": [{"name": volume["name"], "mountPath": f"/v/{volume['name']}"} for volume in VOLUMES],
        "resources": {"limits": {"cpu": "3"}},
    }
    pod = await node.run_spec({"containers": [base], "volumes": VOLUMES}, labels={"b": 'say "hi"', "a": "1"})
    assert (await pod.result()).splitlines() == [
        "./config/app.ini 644 [app]\\n",
        "./config/blob 644 \\0377",
        "./config/mode 644 fast",
        "./one/a/b 440 scott",
        "./pod/cpu 644 3",
        './pod/labels 644 a="1"\\nb="say\\"hi\\""',
        "./secret/password 400 t303257ger",
        "./secret/user 400 scott",
        "./token/ca.crt 644 fast",
        "./token/namespace 644 default",
        "./token/token 644 default/default//3607",
        "0",
    ]


async def test_sub_paths_by_expression(node: NodeUnderTest) -> None:
    env = [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
    mounts = [
        {"name": "work", "mountPath": "/all"},
        {"name": "work", "mountPath": "/mine", "subPathExpr": "pods/$(POD)"},
    ]
    pod = await node.run(
        "sh",
        "-c",
        "touch /mine/x; cd /all; find . -name x",
        base={"env": env, "volumeMounts": mounts},
        volumes=[{"name": "work", "emptyDir": {}}],
    )
    assert await pod.result() == f"./pods/{pod.manifest['metadata']['name']}/x\n"


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        ({"secret": {"secretName": "late"}}, 'secret "late" not found'),
        ({"configMap": {"name": "late"}}, 'configmap "late" not found'),
        (
            {"secret": {"secretName": "db", "items": [{"key": "late", "path": "x"}]}},
            "references non-existent secret key: late",
        ),
    ],
)
async def test_a_volume_that_is_missing_is_waited_for(
    node: NodeUnderTest, volume: dict[str, Any], message: str
) -> None:
    pod = await node.run(
        "ls", "/v", base={"volumeMounts": [{"name": "v", "mountPath": "/v"}]}, volumes=[{"name": "v", **volume}]
    )
    await node.store.until(lambda: "FailedMount" in node.store.reasons())
    assert node.store.events[-1] == (
        "Warning",
        "FailedMount",
        f'MountVolume.SetUp failed for volume "v" : {message}',
        "",
    )
    assert pod.state() == {"waiting": {"reason": "ContainerCreating"}}
    for kind in ("secrets", "configmaps"):
        node.store.objects[kind, "default", "late"] = {"data": {"file": encoded("x")}}
    node.store.objects["secrets", "default", "db"] = {"data": {"late": encoded("x")}}
    assert await pod.result() in ("file\n", "x\n")


@pytest.mark.parametrize("kind", ["hostPath", "persistentVolumeClaim", "nfs", "csi"])
async def test_volumes_that_are_refused(node: NodeUnderTest, kind: str) -> None:
    volumes = [{"name": "v", kind: {"path": "/etc"}}]
    unused = await node.run("true", volumes=volumes)
    assert await unused.over() == "Succeeded", "a kubelet does not look at volumes that nobody mounts"
    pod = await node.run("true", base={"volumeMounts": [{"name": "v", "mountPath": "/v"}]}, volumes=volumes)
    assert await pod.over() == "Failed"
    assert pod.status["reason"] == "VolumeNotSupported"
    assert f'volume "v" is of kind {kind}' in pod.status["message"]
    assert pod.state() == {"waiting": {"reason": "ContainerCreating"}}


async def test_host_name_and_hosts(node: NodeUnderTest) -> None:
    pod = await node.run(
        "sh",
        "-c",
        "hostname; cat /etc/hosts",
        hostname="frontend",
        hostAliases=[{"ip": "10.1.2.3", "hostnames": ["db", "db.local"]}],
    )
    lines = (await pod.result()).splitlines()
    assert lines[0] == "frontend"
    assert f"{pod.status['podIP']}\tfrontend" in lines
    assert "10.1.2.3\tdb\tdb.local" in lines
    assert set(Path("/etc/hosts").read_text().splitlines()) <= set(lines)


async def test_a_program_finds_the_pod_s_own_address(node: NodeUnderTest) -> None:
    script = (
        "import json, socket; s = socket.create_server(('', 0)); a = socket.gethostbyname(socket.gethostname());"
        "socket.create_connection((a, s.getsockname()[1])).close(); print(json.dumps(a))"
    )
    pod = await node.run("python3", "-c", script)
    assert json.loads(await pod.result()) == pod.status["podIP"]
