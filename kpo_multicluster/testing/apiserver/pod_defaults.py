"""What a server adds to a pod: defaults of core/v1, and what its default admission plugins set."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from kpo_multicluster.testing.apiserver import quantity
from kpo_multicluster.testing.apiserver.naming import generated_name

_NOT_READY_SECONDS = 300
_TOKEN_DIRECTORY = "/var/run/secrets/kubernetes.io/serviceaccount"
_TOKEN_SECONDS = 3607
_DEFAULT_MODE = 0o644
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
# Requests and limits of these decide the class of service.
_QOS_RESOURCES = ("cpu", "memory")


def containers_of(spec: Mapping[str, Any], *fields: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Containers with their paths, such as `spec.containers[0]`; init containers first unless fields are named."""
    for name in fields or ("initContainers", "containers"):
        for index, container in enumerate(spec.get(name) or []):
            yield f"spec.{name}[{index}]", container


def apply_defaults(pod: dict[str, Any]) -> None:
    """Fills in what the pod leaves open, in place. Quantities become canonical."""
    spec: dict[str, Any] = pod.setdefault("spec", {})
    for volume in spec.get("volumes") or []:
        _default_volume(volume)
    for _, container in containers_of(spec):
        _default_container(container, host_network=bool(spec.get("hostNetwork")))
    _default(spec, "restartPolicy", "Always")
    if spec.get("terminationGracePeriodSeconds") is None:
        spec["terminationGracePeriodSeconds"] = 30
    _default(spec, "dnsPolicy", "ClusterFirst")
    if spec.get("securityContext") is None:
        spec["securityContext"] = {}
    _default(spec, "schedulerName", "default-scheduler")
    if spec.get("enableServiceLinks") is None:
        spec["enableServiceLinks"] = True
    if spec.get("serviceAccount") and not spec.get("serviceAccountName"):
        spec["serviceAccountName"] = spec["serviceAccount"]


def apply_admission(pod: dict[str, Any]) -> None:
    """What the default admission plugins set, in place: service account, tolerations, priority."""
    spec = pod["spec"]
    _default(spec, "serviceAccountName", "default")
    spec["serviceAccount"] = spec["serviceAccountName"]
    tolerations = spec.setdefault("tolerations", []) or []
    spec["tolerations"] = tolerations
    for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"):
        if not any(_tolerates_eviction(toleration, key) for toleration in tolerations):
            tolerations.append(
                {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": _NOT_READY_SECONDS}
            )
    spec["priority"] = 0
    _default(spec, "preemptionPolicy", "PreemptLowerPriority")


def mount_service_account(pod: dict[str, Any], account: Mapping[str, Any]) -> None:
    """Gives every container its service account's token, as the admission plugin does unless it is told not to."""
    spec = pod["spec"]
    wanted = spec.get("automountServiceAccountToken")
    if wanted is None:
        wanted = account.get("automountServiceAccountToken", True)
    bare = [
        container
        for _, container in containers_of(spec)
        if all(mount.get("mountPath") != _TOKEN_DIRECTORY for mount in container.get("volumeMounts") or [])
    ]
    if not wanted or not bare:
        return
    name = generated_name("kube-api-access-")
    for container in bare:
        mount = {"name": name, "readOnly": True, "mountPath": _TOKEN_DIRECTORY}
        container["volumeMounts"] = [*(container.get("volumeMounts") or []), mount]
    field = {"apiVersion": "v1", "fieldPath": "metadata.namespace"}
    sources = [
        {"serviceAccountToken": {"expirationSeconds": _TOKEN_SECONDS, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": field}]}},
    ]
    volume = {"name": name, "projected": {"sources": sources, "defaultMode": _DEFAULT_MODE}}
    spec["volumes"] = [*(spec.get("volumes") or []), volume]


def _tolerates_eviction(toleration: Mapping[str, Any], key: str) -> bool:
    return toleration.get("key") in (None, "", key) and toleration.get("effect") in (None, "", "NoExecute")


def _default(target: dict[str, Any], key: str, value: Any) -> None:
    if not target.get(key):
        target[key] = value


def _default_container(container: dict[str, Any], *, host_network: bool) -> None:
    resources = _default_resources(container)
    container["resources"] = resources
    _default(container, "terminationMessagePath", "/dev/termination-log")
    _default(container, "terminationMessagePolicy", "File")
    _default(container, "imagePullPolicy", "Always" if _is_latest(container.get("image") or "") else "IfNotPresent")
    for port in container.get("ports") or []:
        _default(port, "protocol", "TCP")
        if host_network:
            _default(port, "hostPort", port.get("containerPort"))
    for env in container.get("env") or []:
        reference = (env.get("valueFrom") or {}).get("fieldRef")
        if reference:
            _default(reference, "apiVersion", "v1")
    for name in _PROBES:
        if container.get(name):
            _default_probe(container[name])


def _default_resources(container: dict[str, Any]) -> dict[str, Any]:
    resources = dict(container.get("resources") or {})
    for kind in ("limits", "requests"):
        if resources.get(kind):
            resources[kind] = {name: quantity.canonical(str(value)) for name, value in resources[kind].items()}
    if resources.get("limits"):
        resources["requests"] = {**resources["limits"], **(resources.get("requests") or {})}
    return resources


def _is_latest(image: str) -> bool:
    if "@" in image:
        # A digest with a tag beside it is pulled by the digest, and counts by the tag.
        image, _, _ = image.partition("@")
        tag = re.search(r":([^/:]+)$", image)
        return tag is not None and tag.group(1) == "latest"
    tag = re.search(r":([^/:]+)$", image)
    return tag is None or tag.group(1) == "latest"


def _default_probe(probe: dict[str, Any]) -> None:
    for key, value in (("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)):
        _default(probe, key, value)
    if probe.get("httpGet"):
        _default(probe["httpGet"], "path", "/")
        _default(probe["httpGet"], "scheme", "HTTP")


def _default_volume(volume: dict[str, Any]) -> None:
    if not any(key != "name" for key in volume):
        volume["emptyDir"] = {}
    for kind in ("secret", "configMap", "downwardAPI", "projected"):
        if volume.get(kind) is not None and volume[kind].get("defaultMode") is None:
            volume[kind]["defaultMode"] = _DEFAULT_MODE
    if volume.get("hostPath") is not None and volume["hostPath"].get("type") is None:
        volume["hostPath"]["type"] = ""
    for item in (volume.get("downwardAPI") or {}).get("items") or []:
        if item.get("fieldRef"):
            _default(item["fieldRef"], "apiVersion", "v1")


def qos_class(spec: Mapping[str, Any]) -> str:
    """`Guaranteed`, `Burstable` or `BestEffort`, from the containers' requests and limits."""
    guaranteed, any_set = True, False
    for _, container in containers_of(spec):
        resources = container.get("resources") or {}
        limits = {name: value for name, value in (resources.get("limits") or {}).items() if name in _QOS_RESOURCES}
        requests = {name: value for name, value in (resources.get("requests") or {}).items() if name in _QOS_RESOURCES}
        any_set = any_set or bool(limits or requests)
        guaranteed = guaranteed and len(limits) == len(_QOS_RESOURCES) and requests == limits
    if not any_set:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"
