"""What the operator's arguments alone say of a pod."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from kpo_multicluster.pods.arguments import PodArguments
from kpo_multicluster.pods.convert import UnrenderedError, resources_to_json, to_json
from kpo_multicluster.pods.naming import clean_name
from kpo_multicluster.pods.schema import TEXTS, field_kind
from kpo_multicluster.pods.secret import check_secrets
from kpo_multicluster.pods.template import check_kind

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
_METADATA_FIELDS: Final = ("namespace", "labels", "annotations")
_OTHER_KINDS: Final = {
    "name": "str",
    "namespace": "str",
    "labels": TEXTS,
    "annotations": TEXTS,
    "env_vars": "[V1EnvVar]",
    "pod_runtime_info_envs": "[V1EnvVar]",
    "env_from": "[V1EnvFromSource]",
    "configmaps": "[str]",
    "termination_message_policy": "str",
    "base_container_name": "str",
    "random_name_suffix": "bool",
    "do_xcom_push": "bool",
    "full_pod_spec": "V1Pod",
    "pod_template_file": "str",
    "pod_template_dict": "V1Pod",
    "xcom_sidecar_container_image": "str",
    "xcom_sidecar_container_resources": "V1ResourceRequirements",
    "xcom_sidecar_container_security_context": "V1SecurityContext",
}


def argument_json(name: str, value: Any) -> Any:
    """An argument as the API's JSON.

    Raises:
        ConfigurationError: it is of a wrong type, or a template of another kind than Pod.
    """
    if name in ("container_resources", "xcom_sidecar_container_resources"):
        return resources_to_json(value, name)
    if name == "env_vars" and isinstance(value, Mapping):
        return [_variable(variable, text) for variable, text in value.items()]
    if name == "image_pull_secrets":
        value = _references(value)
    json = to_json(value, _kind(name), name)
    if name in ("full_pod_spec", "pod_template_dict"):
        check_kind(json, name)
    return json


def check_arguments(arguments: PodArguments, templated: Collection[str] = ()) -> None:
    """Refuses what cannot be made a pod of, before anything has been rendered.

    Args:
        arguments: as they stand when a DAG is parsed.
        templated: names of those whose texts are yet to be rendered, or that may stand for another task's result.

    Raises:
        ConfigurationError: an argument is of a wrong type; the message names it.
    """
    for name in (*_SPEC_FIELDS, *_CONTAINER_FIELDS, *_OTHER_KINDS):
        value = getattr(arguments, name)
        if not arguments.holds(name) or (name in templated and _is_pending(value)):
            continue
        try:
            argument_json(name, value)
            if name == "name":
                clean_name(value)
        except UnrenderedError:
            if name not in templated:
                raise
    check_secrets(arguments.secrets)


def overlay(arguments: PodArguments) -> dict[str, Any]:
    """The pod as the arguments alone describe it: it holds what was given and nothing else."""
    spec = _given(arguments, _SPEC_FIELDS)
    spec["containers"] = [_base_container(arguments)]
    spec["restartPolicy"] = "Never"
    metadata = _given(arguments, {name: name for name in _METADATA_FIELDS})
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _base_container(arguments: PodArguments) -> dict[str, Any]:
    container = {"name": argument_json("base_container_name", arguments.base_container_name)}
    container |= _given(arguments, _CONTAINER_FIELDS)
    environment = _list(arguments, "env_vars") + _list(arguments, "pod_runtime_info_envs")
    if environment:
        container["env"] = environment
    references = [{"configMapRef": {"name": name}} for name in _list(arguments, "configmaps")]
    if sources := _list(arguments, "env_from") + references:
        container["envFrom"] = sources
    if arguments.replaces_default("termination_message_policy"):
        container["terminationMessagePolicy"] = argument_json(
            "termination_message_policy", arguments.termination_message_policy
        )
    return container


def _given(arguments: PodArguments, fields: Mapping[str, str]) -> dict[str, Any]:
    return {
        field: argument_json(name, getattr(arguments, name)) for name, field in fields.items() if arguments.holds(name)
    }


def _list(arguments: PodArguments, name: str) -> list[Any]:
    items: list[Any] = argument_json(name, getattr(arguments, name) or [])
    return items


def _variable(name: Any, text: Any) -> dict[str, str]:
    variable = {"name": to_json(name, "str", "a name in env_vars")}
    if text is not None:
        variable["value"] = to_json(text, "str", f"env_vars[{name!r}]")
    return variable


def _kind(name: str) -> str:
    if name in _SPEC_FIELDS:
        return field_kind("V1PodSpec", _SPEC_FIELDS[name])
    if name in _CONTAINER_FIELDS:
        return field_kind("V1Container", _CONTAINER_FIELDS[name])
    return _OTHER_KINDS[name]


def _references(secrets: Any) -> Any:
    """References to image pull secrets; names are taken too, several in one text separated by commas."""
    if isinstance(secrets, str):
        secrets = [name.strip() for name in secrets.split(",") if name.strip()]
    if isinstance(secrets, (list, tuple)):
        return [{"name": secret} if isinstance(secret, str) else secret for secret in secrets]
    return secrets


def _is_pending(value: Any) -> bool:
    """Whether a whole argument is yet to come: a text that is rendered to anything, or another task's result."""
    return isinstance(value, str) or callable(getattr(value, "resolve", None))
