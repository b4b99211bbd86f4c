"""What a container is given: variables, arguments, files, identity; and what happens when some of it is missing."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import pytest

from kpo_multicluster.api.client import ApiClient

from .conftest import Create, Start
from .pods import Object, Pod, container, manifest


def variable(name: str, **source: Object) -> Object:
    return {"name": name, "valueFrom": source}


def mounted(script: str, *mounts: Object, **fields: Any) -> Object:
    return container(script, volumeMounts=list(mounts), **fields)


AT = {"name": "v", "mountPath": "/given"}


@pytest.fixture
async def settings(api: ApiClient, namespace: str) -> Mapping[str, str]:
    """A secret and a config map in the module's namespace."""
    path = f"/api/v1/namespaces/{namespace}"
    secret = {"metadata": {"generateName": "secret-"}, "stringData": {"user": "ada", "password": "p ä $(USER)"}}
    config = {
        "metadata": {"generateName": "config-"},
        "data": {"colour": "blue", "app.ini": "[a]\nb=c\n"},
        "binaryData": {"raw": base64.b64encode(b"\0\xff").decode()},
    }
    made_secret = await api.request("POST", f"{path}/secrets", body=secret)
    made_config = await api.request("POST", f"{path}/configmaps", body=config)
    return {"secret": made_secret["metadata"]["name"], "config": made_config["metadata"]["name"]}


async def test_a_secret_is_stored_encoded(api: ApiClient, namespace: str, settings: Mapping[str, str]) -> None:
    secret = await api.request("GET", f"/api/v1/namespaces/{namespace}/secrets/{settings['secret']}")
    assert secret["data"] == {
        "user": base64.b64encode(b"ada").decode(),
        "password": base64.b64encode("p ä $(USER)".encode()).decode(),
    }
    assert (secret["type"], "stringData" in secret) == ("Opaque", False)


async def test_variables_from_secrets_and_config_maps(start: Start, settings: Mapping[str, str]) -> None:
    env = [
        variable("PASSWORD", secretKeyRef={"name": settings["secret"], "key": "password"}),
        variable("COLOUR", configMapKeyRef={"name": settings["config"], "key": "colour"}),
        variable("NONE", secretKeyRef={"name": settings["secret"], "key": "none", "optional": True}),
        variable("NOBODY", configMapKeyRef={"name": "no-such-map", "key": "none", "optional": True}),
    ]
    pod = await start('echo "$PASSWORD|$COLOUR|${NONE-unset}|${NOBODY-unset}"', env=env)
    await pod.ended()
    assert await pod.log() == "p ä $(USER)|blue|unset|unset\n"


async def test_all_variables_of_a_secret(start: Start, settings: Mapping[str, str]) -> None:
    sources = [
        {"secretRef": {"name": settings["secret"]}},
        {"prefix": "P_", "secretRef": {"name": settings["secret"]}},
        {"configMapRef": {"name": "no-such-map", "optional": True}},
    ]
    # A variable of its own goes before.
    pod = await start('echo "$user|$P_user|$P_password"', envFrom=sources, env=[{"name": "P_user", "value": "own"}])
    await pod.ended()
    assert await pod.log() == "ada|own|p ä $(USER)\n"


EXPANDED = {
    **container(),
    "command": ["sh", "-c", 'for word in "$@"; do echo "$word"; done', "$(FIRST)"],
    "args": ["$(SECOND)", "$$(FIRST)", "$(MISSING)", "$FIRST", "a $(FIRST) b"],
    "env": [{"name": "FIRST", "value": "one"}, {"name": "SECOND", "value": "$(FIRST)-two $(LATER)"}],
}


@pytest.mark.pod(EXPANDED)
async def test_references_in_commands_and_variables(pod: Pod) -> None:
    await pod.ended()
    assert await pod.log() == "one-two $(LATER)\n$(FIRST)\n$(MISSING)\n$FIRST\na one b\n"


FACTS = {
    "NAME": "metadata.name",
    "NAMESPACE": "metadata.namespace",
    "UID_OF_POD": "metadata.uid",
    "LABEL": "metadata.labels['app']",
    "NODE": "spec.nodeName",
    "ACCOUNT": "spec.serviceAccountName",
    "HOST": "status.hostIP",
    "ADDRESS": "status.podIP",
}
FACT_VARIABLES = [variable(name, fieldRef={"fieldPath": path}) for name, path in FACTS.items()]
LIMITS = [
    variable("CPU", resourceFieldRef={"resource": "limits.cpu", "divisor": "1m"}),
    variable("MEMORY", resourceFieldRef={"resource": "requests.memory"}),
]
ASKS = {"limits": {"cpu": "150m", "memory": "64Mi"}, "requests": {"memory": "32Mi"}}
TELL = "echo $NAME $NAMESPACE $UID_OF_POD $LABEL $NODE $ACCOUNT $HOST $ADDRESS $CPU $MEMORY"


@pytest.mark.pod(container(TELL, env=[*FACT_VARIABLES, *LIMITS], resources=ASKS), labels={"app": "mine"})
async def test_variables_tell_of_the_pod(pod: Pod) -> None:
    await pod.ended()
    facts = [pod.name, pod.namespace, pod.uid, "mine", pod.seen["spec"]["nodeName"], "default"]
    addresses = [pod.status["hostIP"], pod.status["podIP"]]
    assert (await pod.log()).split() == [*facts, *addresses, "150", str(32 * 1024 * 1024)]


async def test_files_of_secrets_and_config_maps(create: Create, settings: Mapping[str, str]) -> None:
    secret = {"name": "v", "secret": {"secretName": settings["secret"], "defaultMode": 0o400}}
    items = [{"key": "app.ini", "path": "deep/app.ini"}, {"key": "raw", "path": "raw", "mode": 0o755}]
    config = {"name": "c", "configMap": {"name": settings["config"], "items": items}}
    script = """
    cd /given; cat user; echo; stat -L -c %a user; (echo x > user) 2>/dev/null || echo read-only
    cd /config; cat deep/app.ini; od -An -tx1 raw; stat -L -c %a raw; find . -name colour
    """
    base = mounted(script, AT, {"name": "c", "mountPath": "/config"})
    pod = await create(manifest(base, volumes=[secret, config]))
    await pod.ended()
    lines = [line.strip() for line in (await pod.log()).splitlines()]
    assert lines == ["ada", "400", "read-only", "[a]", "b=c", "00 ff", "755"]


async def test_one_file_at_a_path_of_its_own(create: Create, settings: Mapping[str, str]) -> None:
    config = {"name": "v", "configMap": {"name": settings["config"]}}
    base = mounted("cat /etc/one/app.ini; ls /etc/one", {**AT, "mountPath": "/etc/one/app.ini", "subPath": "app.ini"})
    pod = await create(manifest(base, volumes=[config]))
    await pod.ended()
    assert await pod.log() == "[a]\nb=c\napp.ini\n"


async def test_many_sources_in_one_directory(create: Create, settings: Mapping[str, str]) -> None:
    sources = [
        {"secret": {"name": settings["secret"], "items": [{"key": "user", "path": "user"}]}},
        {"configMap": {"name": settings["config"], "items": [{"key": "colour", "path": "colour"}]}},
        {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
    ]
    volume = {"name": "v", "projected": {"sources": sources}}
    pod = await create(
        manifest(mounted("cd /given; cat user colour labels", AT), labels={"b": "2", "a": "1"}, volumes=[volume])
    )
    await pod.ended()
    assert await pod.log() == 'adabluea="1"\nb="2"'


MISSING: list[tuple[str, Object, str]] = [
    ("secret", {"envFrom": [{"secretRef": {"name": "no-such-secret"}}]}, 'secret "no-such-secret" not found'),
    ("map", {"envFrom": [{"configMapRef": {"name": "no-such-map"}}]}, 'configmap "no-such-map" not found'),
    (
        "secret-of-key",
        {"env": [variable("A", secretKeyRef={"name": "no-such-secret", "key": "a"})]},
        'secret "no-such-secret" not found',
    ),
    (
        "key-of-map",
        {"env": [variable("A", configMapKeyRef={"name": "kube-root-ca.crt", "key": "none"})]},
        "couldn't find key none in ConfigMap {namespace}/kube-root-ca.crt",
    ),
    (
        "root",
        {"securityContext": {"runAsNonRoot": True}},
        'container has runAsNonRoot and image will run as root (pod: "{name}_{namespace}({uid})", container: base)',
    ),
]


@pytest.mark.parametrize(
    "text",
    [pytest.param(text, marks=pytest.mark.pod(container(**fields)), id=name) for name, fields, text in MISSING],
)
async def test_a_container_that_cannot_be_configured_waits(pod: Pod, text: str) -> None:
    told = text.replace("{namespace}", pod.namespace).replace("{name}", pod.name).replace("{uid}", pod.uid)
    # A kubelet that is busy may first say that it does not know yet.
    await pod.waiting("CreateContainerConfigError", message=told)
    assert pod.phase == "Pending"
    await pod.event("Failed", f"Error: {told}")


async def test_it_starts_when_what_was_missing_comes(api: ApiClient, start: Start, namespace: str) -> None:
    env = [variable("A", secretKeyRef={"name": "late-secret", "key": "a"})]
    pod = await start("echo $A", env=env)
    await pod.waiting("CreateContainerConfigError")
    secret = {"metadata": {"name": "late-secret"}, "stringData": {"a": "at last"}}
    await api.request("POST", f"/api/v1/namespaces/{namespace}/secrets", body=secret)
    # A kubelet looks again when the pod is changed; otherwise after a while.
    change = {"metadata": {"labels": {"look": "again"}}}
    await api.request("PATCH", pod.path, body=change, content_type="application/merge-patch+json")
    await pod.ended()
    assert await pod.log() == "at last\n"


NO_SECRET = {"name": "v", "secret": {"secretName": "no-such-secret"}}
NO_MAP = {"name": "v", "configMap": {"name": "no-such-map"}}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(text, marks=pytest.mark.pod(mounted("true", AT), volumes=[volume]), id=name)
        for name, volume, text in (
            ("secret", NO_SECRET, 'secret "no-such-secret" not found'),
            ("map", NO_MAP, 'configmap "no-such-map" not found'),
        )
    ],
)
async def test_a_volume_that_cannot_be_made_is_told_in_an_event(pod: Pod, text: str) -> None:
    # A kubelet that is busy may first say that it does not know yet.
    failed = await pod.event("FailedMount", f'MountVolume.SetUp failed for volume "v" : {text}')
    assert failed["type"] == "Warning"
    await pod.waiting("ContainerCreating")


@pytest.mark.pod(
    mounted("ls /given | wc -l", AT), volumes=[{"name": "v", "secret": {"secretName": "none", "optional": True}}]
)
async def test_an_optional_volume_is_empty(pod: Pod) -> None:
    await pod.ended()
    assert (await pod.log()).strip() == "0"


MESSAGES: list[tuple[str, Object, str, str | None]] = [
    ("written", {}, "printf 'why it failed' > /dev/termination-log; exit 3", "why it failed"),
    ("written-by-a-success", {}, "printf 'all well' > /dev/termination-log", "all well"),
    ("elsewhere", {"terminationMessagePath": "/tmp/why"}, "printf here > /tmp/why; exit 3", "here"),
    ("from-the-log", {"terminationMessagePolicy": "FallbackToLogsOnError"}, "echo last words; exit 3", "last words\n"),
    (
        "not-from-the-log-of-a-success",
        {"terminationMessagePolicy": "FallbackToLogsOnError"},
        "echo last words",
        None,
    ),
    (
        "written-goes-first",
        {"terminationMessagePolicy": "FallbackToLogsOnError"},
        "echo log; printf file > /dev/termination-log; exit 3",
        "file",
    ),
    ("none", {}, "echo log; exit 3", None),
]


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(message, marks=pytest.mark.pod(container(script, **fields)), id=name)
        for name, fields, script, message in MESSAGES
    ],
)
async def test_a_termination_message(pod: Pod, message: str | None) -> None:
    assert (await pod.ended()).get("message") == message


@pytest.mark.pod(container("seq 5000 > /dev/termination-log"))
async def test_a_termination_message_is_cut_to_its_last_4_kib(pod: Pod) -> None:
    message = (await pod.ended())["message"]
    assert len(message) == 4096
    assert message.endswith("4999\n5000\n")


LOG_POLICY = {"terminationMessagePolicy": "FallbackToLogsOnError"}


@pytest.mark.pod(container("seq 100; sleep 2; exit 1", **LOG_POLICY))
async def test_a_termination_message_from_a_log_is_its_last_80_lines(pod: Pod) -> None:
    assert (await pod.ended())["message"].split() == [str(n) for n in range(21, 101)]


AS_USER = {"runAsUser": 1234, "runAsGroup": 2345}


@pytest.mark.pod(
    mounted("id -u; id -g; id -G; touch /given/mine && stat -c %u:%g /given/mine", AT, securityContext=AS_USER),
    securityContext={"runAsUser": 1, "supplementalGroups": [4000], "fsGroup": 5000},
    volumes=[{"name": "v", "emptyDir": {}}],
)
async def test_a_container_s_user_and_groups(pod: Pod) -> None:
    await pod.ended()
    user, group, groups, owner = (await pod.log()).splitlines()
    assert (user, group) == ("1234", "2345")
    assert set(groups.split()) == {"2345", "4000", "5000"}
    # A volume belongs to the pod's group, and so do its files.
    assert owner == "1234:5000"


@pytest.mark.pod(container("pwd; ls -d $HOME; cat /proc/self/cgroup > /dev/null && echo ok", workingDir="/usr/bin"))
async def test_a_working_directory(pod: Pod) -> None:
    await pod.ended()
    assert (await pod.log()).splitlines()[0] == "/usr/bin"


@pytest.mark.pod(
    mounted("(echo x > /given/file) 2>/dev/null || echo refused", {**AT, "readOnly": True}),
    volumes=[{"name": "v", "emptyDir": {}}],
)
async def test_a_mount_to_read_only(pod: Pod) -> None:
    await pod.ended()
    assert await pod.log() == "refused\n"


@pytest.mark.pod(container("cat; echo end of input"))
async def test_a_container_has_no_input(pod: Pod) -> None:
    await pod.ended()
    assert await pod.log() == "end of input\n"


@pytest.mark.pod(container("cat /etc/hostname; hostname; echo $HOSTNAME"), hostname="named-so")
async def test_a_host_name(pod: Pod) -> None:
    await pod.ended()
    assert await pod.log() == "named-so\n" * 3


@pytest.mark.pod(container("env"))
async def test_where_the_server_is(pod: Pod) -> None:
    await pod.ended()
    env = dict(line.split("=", 1) for line in (await pod.log()).splitlines())
    assert env["KUBERNETES_SERVICE_HOST"]
    assert env["KUBERNETES_SERVICE_PORT"].isdigit()
    assert env["PATH"].startswith("/usr/local/sbin:/usr/local/bin")
    assert env["HOME"] == "/root"
