"""Combinations of the operator's arguments: every pair of values of two parameters, and many at random."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

Arguments = dict[str, Any]
Choice = dict[str, int]
Values = dict[str, list[Callable[[], Any]]]

_SEED = 10250
_RANDOM_CASES = 400

_FILE = """
apiVersion: v1
kind: Pod
metadata:
  name: from-file
  labels: {app: file, level: 3, on: true, none: null}
  annotations: {owner: data, rank: 7}
  finalizers: [of/file]
spec:
  serviceAccountName: from-file
  priorityClassName: low
  terminationGracePeriodSeconds: 44
  securityContext: {runAsUser: "1000", fsGroup: 2000}
  nodeSelector: {disk: ssd}
  tolerations: [{key: gpu, operator: Exists, effect: NoSchedule}]
  imagePullSecrets: [{name: from-file}]
  containers:
    - name: base
      image: file:1
      command: [file-command]
      args: [a, 1, true]
      env: [{name: FROM_FILE, value: 5}, {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}]
      envFrom: [{configMapRef: {name: from-file}}]
      ports: [{containerPort: "8080"}]
      volumeMounts: [{name: scratch, mountPath: /scratch}]
      volumeDevices: [{name: raw, devicePath: /dev/raw}]
      livenessProbe: {httpGet: {path: /live, port: 8080}, periodSeconds: 3}
    - name: logger
      image: logger:1
      volumeMounts: [{name: scratch, mountPath: /logs, readOnly: true}]
  initContainers:
    - {name: prepare, image: "prepare:1", command: [prepare], env: [{name: P, value: "1"}]}
    - {name: native, image: "native:1", restartPolicy: Always}
  volumes: [{name: scratch, emptyDir: {}}, {name: conf, configMap: {name: conf, items: [{key: k, path: p}]}}]
"""
_ONE_CONTAINER = """
metadata: {namespace: of-template}
spec:
  automountServiceAccountToken: true
  hostNetwork: true
  containers: [{name: main, image: "main:2", resources: {limits: {cpu: 1, nvidia.com/gpu: 1}}}]
"""


def parameter_values(models: Any, secret: Any, folder: Path) -> Values:
    """What each parameter is tried with; each value is made anew for each use."""
    whole, single = folder / "whole.yaml", folder / "single.yaml"
    whole.write_text(_FILE)
    single.write_text(_ONE_CONTAINER)
    return {**_plain_values(), **_model_values(models, secret), **_template_values(models, whole, single)}


def choices(values: Values) -> list[Choice]:
    """Which value of which parameters each case has: pairwise cases first, then random ones; the same at every call."""
    source = random.Random(_SEED)
    return [*_pairwise(values, source), *_random(values, source)]


def made(values: Values, choice: Choice) -> Arguments:
    """The arguments of a case."""
    return _sensible({name: values[name][index]() for name, index in sorted(choice.items())})


def _plain_values() -> Values:
    return _constants(
        image=["alpine:3", "registry.example/team/image@sha256:00"],
        name=["given", "Given.Name_with", "x" * 120, "-odd.", "1"],
        random_name_suffix=[False],
        namespace=["given"],
        labels=[{"team": "data"}, {"app": "given", "none": None}],
        annotations=[{"owner": "given"}, {"url": "https://example.org/?a=b"}],
        cmds=[["sh", "-c"], ["{{ not rendered }}"]],
        arguments=[["echo hi"], ["a", "b", ""]],
        env_vars=[{"A": "1", "B": "two"}, {"EMPTY": ""}],
        configmaps=[["first", "second"]],
        image_pull_policy=["Always"],
        image_pull_secrets=["one", "one,two"],
        node_selector=[{"pool": "gpu"}],
        service_account_name=["given"],
        automount_service_account_token=[True],
        hostnetwork=[True],
        hostname=["host"],
        subdomain=["sub"],
        dnspolicy=["ClusterFirstWithHostNet"],
        schedulername=["volcano"],
        priority_class_name=["high"],
        runtime_class_name=["gvisor"],
        termination_grace_period=[7],
        active_deadline_seconds=[600],
        base_container_name=["main", "logger"],
        do_xcom_push=[True],
        security_context=[{"runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}}],
        container_security_context=[{"privileged": False, "capabilities": {"drop": ["ALL"]}}],
        container_resources=[{"requests": {"cpu": "100m"}, "limits": {"memory": "64Mi"}}],
        xcom_sidecar_container_security_context=[{}, {"runAsUser": 1}],
        affinity=[{"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}],
        tolerations=[[{"key": "spot", "operator": "Exists", "tolerationSeconds": 30}]],
        xcom_image=["mirror/alpine:1"],
        xcom_resources=[{"requests": {"cpu": "5m"}, "limits": {"memory": "32Mi"}}],
        xcom_security=[{"runAsNonRoot": True}],
        cluster_namespace=["of-connection"],
        map_index=[0, 12],
        dag_id=["d" * 80, "dag.with-ok_chars"],
        run_id=["scheduled__2024-01-01T00:00:00+00:00", "plain"],
        task_id=["group.Task_One", "t" * 90, "täsk-ünder", "a" * 62 + ".-b"],
    )


def _constants(**values: list[Any]) -> Values:
    def again(value: Any) -> Callable[[], Any]:
        return lambda: _copy(value)

    return {name: [again(value) for value in options] for name, options in values.items()}


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


def _model_values(k: Any, secret: Any) -> Values:
    def term() -> Any:
        expression = k.V1NodeSelectorRequirement(key="zone", operator="In", values=["a", "b"])
        return k.V1NodeSelectorTerm(match_expressions=[expression])

    def volume() -> Any:
        return k.V1Volume(
            name="data", persistent_volume_claim=k.V1PersistentVolumeClaimVolumeSource(claim_name="c", read_only=True)
        )

    def field_env() -> Any:
        source = k.V1EnvVarSource(field_ref=k.V1ObjectFieldSelector(field_path="status.podIP"))
        return k.V1EnvVar(name="POD_IP", value_from=source)

    def probe() -> Any:
        return k.V1Probe(_exec=k.V1ExecAction(command=["true"]), period_seconds=1)

    def older(value: Any) -> Any:
        return SimpleNamespace(to_k8s_client_obj=lambda: value)

    return {
        "ports": [
            lambda: [k.V1ContainerPort(container_port=80, name="http")],
            lambda: [older(k.V1ContainerPort(container_port=81))],
        ],
        "volumes": [lambda: [volume()], lambda: [older(volume())]],
        "volume_mounts": [lambda: [k.V1VolumeMount(name="data", mount_path="/data", sub_path="s", read_only=False)]],
        "env_vars": [
            *_constants(x=[{"A": "1", "B": "two"}])["x"],
            lambda: [k.V1EnvVar(name="C", value="3"), field_env()],
            lambda: [{"name": "D", "value": "4"}],
        ],
        "pod_runtime_info_envs": [lambda: [field_env()], lambda: [older(field_env())]],
        "env_from": [lambda: [k.V1EnvFromSource(prefix="P_", secret_ref=k.V1SecretEnvSource(name="s", optional=True))]],
        "secrets": [
            lambda: [secret("env", "token", "vault", "key"), secret("env", None, "whole")],
            lambda: [secret("volume", "/keys", "vault", items=[k.V1KeyToPath(key="a", path="b", mode=256)])],
            lambda: [secret("volume", "/one", "v1"), secret("volume", "/two", "v2"), secret("env", "x", "v", "k")],
        ],
        "container_resources": [
            lambda: k.V1ResourceRequirements(requests={"cpu": "1"}, limits={"nvidia.com/gpu": "1"}),
            lambda: {"requests": {"cpu": "100m"}, "limits": {"memory": "64Mi"}},
        ],
        "affinity": [
            lambda: k.V1Affinity(
                node_affinity=k.V1NodeAffinity(
                    required_during_scheduling_ignored_during_execution=k.V1NodeSelector(node_selector_terms=[term()])
                )
            ),
            lambda: {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone"}]}},
        ],
        "tolerations": [
            lambda: [k.V1Toleration(key="spot", operator="Exists", toleration_seconds=30)],
            lambda: [{"key": "spot", "operator": "Equal", "value": "yes"}],
        ],
        "image_pull_secrets": [lambda: "one,two", lambda: [k.V1LocalObjectReference(name="ref")]],
        "host_aliases": [lambda: [k.V1HostAlias(ip="10.0.0.1", hostnames=["db", "cache"])]],
        "dns_config": [
            lambda: k.V1PodDNSConfig(nameservers=["1.1.1.1"], options=[k.V1PodDNSConfigOption(name="ndots", value="2")])
        ],
        "security_context": [
            lambda: k.V1PodSecurityContext(run_as_user=0, run_as_non_root=False),
            lambda: {"runAsUser": 1000},
        ],
        "container_security_context": [
            lambda: k.V1SecurityContext(privileged=True, capabilities=k.V1Capabilities(add=["NET_ADMIN"]))
        ],
        "init_containers": [
            lambda: [k.V1Container(name="first", image="i", liveness_probe=probe(), command=["a"])],
            lambda: [
                k.V1Container(name="prepare", image="newer", env=[field_env()], args=["x"]),
                k.V1Container(name="second", image="i", restart_policy="Always"),
            ],
        ],
    }


def _template_values(k: Any, whole: Path, single: Path) -> Values:
    import yaml

    def meta() -> Any:
        return k.V1ObjectMeta(
            name="whole.spec",
            namespace="of-spec",
            labels={"app": "spec"},
            annotations={"a": "spec"},
            finalizers=["f/x"],
        )

    def main() -> Any:
        devices = [k.V1VolumeDevice(name="disk", device_path="/dev/disk")]
        return k.V1Container(
            name="base",
            image="spec:1",
            env=[k.V1EnvVar(name="S", value="s")],
            working_dir="/w",
            tty=True,
            volume_devices=devices,
        )

    def full(**changes: Any) -> Any:
        return k.V1Pod(metadata=meta(), spec=k.V1PodSpec(containers=[main()], **changes))

    return {
        "full_pod_spec": [
            lambda: k.V1Pod(spec=k.V1PodSpec(containers=[main()])),
            lambda: full(host_pid=True, node_selector={"a": "b"}, share_process_namespace=True),
            lambda: full(
                init_containers=[k.V1Container(name="prepare", image="spec"), k.V1Container(name="more", image="m")],
                volumes=[k.V1Volume(name="tmp", empty_dir=k.V1EmptyDirVolumeSource(medium="Memory"))],
                tolerations=[k.V1Toleration(key="spec")],
                enable_service_links=True,
            ),
        ],
        "pod_template_file": [lambda: str(whole), lambda: str(single)],
        "pod_template_dict": [lambda: yaml.safe_load(_FILE), lambda: yaml.safe_load(_ONE_CONTAINER)],
    }


def _sensible(case: Arguments) -> Arguments:
    """Leaves to the tests of deliberate differences what differs on purpose."""
    template = case.get("pod_template_file") or case.get("pod_template_dict") or {}
    one_container = template.endswith("single.yaml") if isinstance(template, str) else "apiVersion" not in template
    if template and one_container:
        case.pop("container_resources", None)
    if template and not one_container and case.get("base_container_name") == "logger":
        del case["base_container_name"]
    if "random_name_suffix" in case and str(case.get("name", "")).startswith("-"):
        del case["name"]
    return case


def _random(values: Values, source: random.Random) -> Iterator[Choice]:
    for _ in range(_RANDOM_CASES):
        names = source.sample(sorted(values), source.randint(0, len(values) // 2))
        yield {name: source.randrange(len(values[name])) for name in names}


def _pairwise(values: Values, source: random.Random) -> Iterator[Choice]:
    """Cases that together hold each pair of values of two parameters at least once."""
    pending = {
        ((a, i), (b, j))
        for a, b in itertools.combinations(sorted(values), 2)
        for i in range(len(values[a]))
        for j in range(len(values[b]))
    }
    while pending:
        first, second = min(pending)
        case = dict([first, second])
        for name in source.sample(sorted(values), len(values)):
            if name not in case:
                case[name] = max(range(len(values[name])), key=lambda index: _gain(case, name, index, pending))
        pending -= {pair for pair in pending if all(case.get(name) == index for name, index in pair)}
        yield case


def _gain(case: Choice, name: str, index: int, pending: set[Any]) -> int:
    new = (name, index)
    return sum(((new, old) if name < old[0] else (old, new)) in pending for old in case.items())
