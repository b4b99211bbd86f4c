"""The manifest of a pod, from the operator's arguments, a template and the run's identity.

In order of precedence: the arguments, `full_pod_spec`, `pod_template_file`, `pod_template_dict` (not read beside a
file). How layers merge: `kpo_multicluster.pods.merge`. Where the result differs from the upstream operator's:
docs/differences.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from kpo_multicluster.pods.arguments import PodArguments
from kpo_multicluster.pods.convert import resources_to_json, to_json
from kpo_multicluster.pods.labels import ATTEMPT_ANNOTATION, RunIdentity, run_labels
from kpo_multicluster.pods.merge import merge_pods
from kpo_multicluster.pods.naming import clean_name, pod_name, random_suffix, task_name
from kpo_multicluster.pods.schema import field_kind
from kpo_multicluster.pods.secret import attach_secrets
from kpo_multicluster.pods.sidecar import add_sidecar
from kpo_multicluster.pods.template import load_template

__all__ = ["PodArguments", "RunIdentity", "build_manifest"]

_DEFAULT_NAMESPACE: Final = "default"
_SPEC_FIELDS: Final = {
    "runtime_class_name": "runtimeClassName",
    "node_selector": "nodeSelector",
    "affinity": "affinity",
    "tolerations": "tolerations",
    "init_containers": "initContainers",
    "host_aliases": "hostAliases",
    "image_pull_secrets": "imagePullSecrets",
    "service_account_name": "serviceAccountName",
    "automount_service_account_token": "automountServiceAccountToken",
    "hostnetwork": "hostNetwork",
    "hostname": "hostname",
    "subdomain": "subdomain",
    "security_context": "securityContext",
    "dnspolicy": "dnsPolicy",
    "dns_config": "dnsConfig",
    "schedulername": "schedulerName",
    "priority_class_name": "priorityClassName",
    "volumes": "volumes",
    "active_deadline_seconds": "activeDeadlineSeconds",
    "termination_grace_period": "terminationGracePeriodSeconds",
}
_CONTAINER_FIELDS: Final = {
    "image": "image",
    "cmds": "command",
    "arguments": "args",
    "ports": "ports",
    "image_pull_policy": "imagePullPolicy",
    "container_resources": "resources",
    "volume_mounts": "volumeMounts",
    "container_security_context": "securityContext",
}


def build_manifest(
    arguments: PodArguments, run: RunIdentity, *, name_suffix: Callable[[], str] = random_suffix
) -> dict[str, Any]:
    """The manifest of a run's pod; neither argument is changed, nor shared with the result.

    Args:
        arguments: the operator's, with templates rendered.
        run: whose pod it is.
        name_suffix: makes the random end of the name.

    Raises:
        ConfigurationError: an argument is of a wrong type, or a template cannot be read; the message names it.
    """
    pod = merge_pods(_template(arguments), _overlay(arguments))
    metadata = pod["metadata"]
    metadata["name"] = _name(arguments, metadata.get("name"), run, name_suffix)
    metadata["namespace"] = metadata.get("namespace") or run.cluster_namespace or _DEFAULT_NAMESPACE
    base = next(c for c in pod["spec"]["containers"] if c.get("name") == arguments.base_container_name)
    base.setdefault("terminationMessagePolicy", arguments.termination_message_policy)
    attach_secrets(pod, base, arguments.secrets or ())
    if arguments.do_xcom_push:
        add_sidecar(pod, base, arguments)
    metadata["labels"] = {**(metadata.get("labels") or {}), **run_labels(run)}
    if run.attempt:
        metadata["annotations"] = {**(metadata.get("annotations") or {}), ATTEMPT_ANNOTATION: run.attempt}
    return pod


def _template(arguments: PodArguments) -> dict[str, Any]:
    pod: dict[str, Any] = {}
    if arguments.pod_template_file:
        pod = load_template(arguments.pod_template_file)
    elif arguments.pod_template_dict:
        pod = to_json(arguments.pod_template_dict, "V1Pod", "pod_template_dict")
    if arguments.full_pod_spec:
        pod = merge_pods(pod, to_json(arguments.full_pod_spec, "V1Pod", "full_pod_spec"))
    return pod


def _overlay(arguments: PodArguments) -> dict[str, Any]:
    """The pod as the arguments alone describe it; holds only what was given."""
    metadata: dict[str, Any] = {}
    for name in ("labels", "annotations"):
        if arguments.holds(name):
            metadata[name] = to_json(getattr(arguments, name), "{str}", name)
    if arguments.namespace:
        metadata["namespace"] = to_json(arguments.namespace, "str", "namespace")
    spec: dict[str, Any] = {}
    for name, field in _SPEC_FIELDS.items():
        if arguments.holds(name):
            value = getattr(arguments, name)
            if name == "image_pull_secrets":
                value = _references(value)
            spec[field] = to_json(value, field_kind("V1PodSpec", field), name)
    spec["containers"] = [_base_container(arguments)]
    spec["restartPolicy"] = "Never"
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _base_container(arguments: PodArguments) -> dict[str, Any]:
    container: dict[str, Any] = {"name": arguments.base_container_name}
    for name, field in _CONTAINER_FIELDS.items():
        if arguments.holds(name):
            value = getattr(arguments, name)
            if name == "container_resources":
                container[field] = resources_to_json(value, name)
            else:
                container[field] = to_json(value, field_kind("V1Container", field), name)
    if environment := _environment(arguments):
        container["env"] = environment
    sources = to_json(arguments.env_from or [], "[V1EnvFromSource]", "env_from")
    names = to_json(arguments.configmaps or [], "[str]", "configmaps")
    if sources or names:
        container["envFrom"] = [*sources, *({"configMapRef": {"name": name}} for name in names)]
    if arguments.replaces_default("termination_message_policy"):
        container["terminationMessagePolicy"] = arguments.termination_message_policy
    return container


def _environment(arguments: PodArguments) -> list[dict[str, Any]]:
    variables: Any = arguments.env_vars or []
    if isinstance(variables, Mapping):
        variables = [{"name": name, "value": value} for name, value in variables.items()]
    environment: list[dict[str, Any]] = to_json(variables, "[V1EnvVar]", "env_vars")
    environment += to_json(arguments.pod_runtime_info_envs or [], "[V1EnvVar]", "pod_runtime_info_envs")
    return environment


def _references(secrets: Any) -> Any:
    """References to image pull secrets; names are taken too, several in one text separated by commas."""
    if isinstance(secrets, str):
        secrets = [name.strip() for name in secrets.split(",") if name.strip()]
    if isinstance(secrets, (list, tuple)):
        return [{"name": secret} if isinstance(secret, str) else secret for secret in secrets]
    return secrets


def _name(arguments: PodArguments, template: str | None, run: RunIdentity, suffix: Callable[[], str]) -> str:
    end = suffix if arguments.random_name_suffix else None
    if arguments.name:
        return pod_name(clean_name(to_json(arguments.name, "str", "name")), end)
    return pod_name(template or task_name(run.task_id), end)
