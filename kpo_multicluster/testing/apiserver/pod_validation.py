"""What a server refuses in a pod, with the causes it gives."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from kpo_multicluster.testing.apiserver.container_validation import each_container
from kpo_multicluster.testing.apiserver.naming import (
    dns_label_problems,
    dns_subdomain_problems,
    label_errors,
    label_key_problems,
    label_value_problems,
    metadata_errors,
)
from kpo_multicluster.testing.apiserver.status import (
    FieldError,
    duplicate,
    forbidden_value,
    invalid_value,
    not_supported,
    required,
)

_RESTART_POLICIES = ("Always", "OnFailure", "Never")
_DNS_POLICIES = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_TAINT_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_MAX_DEADLINE = 2**31 - 1
# Volume kinds that must name something, with the field that does.
_NAMED_VOLUMES = {
    "secret": "secretName",
    "configMap": "name",
    "persistentVolumeClaim": "claimName",
    "hostPath": "path",
}
_UPDATABLE = (
    "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only "
    "additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was "
    "previously negative)"
)


def pod_errors(pod: Mapping[str, Any]) -> list[FieldError]:
    """What is wrong with a pod that has its defaults."""
    spec = pod["spec"]
    errors = metadata_errors(pod["metadata"])
    sound, volume_errors = _volumes(spec)
    errors += volume_errors
    if not spec.get("containers"):
        errors.append(required("spec.containers"))
    taken: set[str] = set()
    for field in ("containers", "initContainers"):
        errors += each_container(spec, field, sound, taken)
    errors += _choices(spec)
    errors += label_errors(spec.get("nodeSelector") or {}, "spec.nodeSelector")
    errors += _node_affinity_errors(spec)
    errors += _names(spec)
    for index, toleration in enumerate(spec.get("tolerations") or []):
        errors += _toleration_errors(toleration, f"spec.tolerations[{index}]")
    return errors


def _volumes(spec: Mapping[str, Any]) -> tuple[frozenset[str], list[FieldError]]:
    sound: set[str] = set()
    errors: list[FieldError] = []
    for index, volume in enumerate(spec.get("volumes") or []):
        path = f"spec.volumes[{index}]"
        found = list(_volume_errors(volume, path))
        name = volume.get("name") or ""
        if name in sound:
            found.append(duplicate(f"{path}.name", name))
        if found:
            errors += found
        else:
            sound.add(name)
    return frozenset(sound), errors


def _volume_errors(volume: Mapping[str, Any], path: str) -> Iterator[FieldError]:
    kinds = [key for key in volume if key != "name"]
    for kind in kinds[1:]:
        yield forbidden_value(f"{path}.{kind}", "may not specify more than 1 volume type")
    for kind in kinds[:1]:
        key = _NAMED_VOLUMES.get(kind)
        if key and not volume[kind].get(key):
            yield required(f"{path}.{kind}.{key}")
    name = volume.get("name") or ""
    if not name:
        yield required(f"{path}.name")
    else:
        yield from (invalid_value(f"{path}.name", name, problem) for problem in dns_label_problems(name))


def _choices(spec: Mapping[str, Any]) -> Iterator[FieldError]:
    for key, supported in (("restartPolicy", _RESTART_POLICIES), ("dnsPolicy", _DNS_POLICIES)):
        if spec.get(key) not in supported:
            yield not_supported(f"spec.{key}", spec.get(key), supported)


def _names(spec: Mapping[str, Any]) -> Iterator[FieldError]:
    yield from _name_errors(spec, "serviceAccountName", dns_subdomain_problems)
    yield from _name_errors(spec, "nodeName", dns_subdomain_problems)
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= _MAX_DEADLINE:
        detail = f"must be between 1 and {_MAX_DEADLINE}, inclusive"
        yield invalid_value("spec.activeDeadlineSeconds", deadline, detail)
    yield from _name_errors(spec, "hostname", dns_label_problems)
    yield from _name_errors(spec, "subdomain", dns_label_problems)


def _name_errors(spec: Mapping[str, Any], key: str, problems: Callable[[str], list[str]]) -> Iterator[FieldError]:
    if value := spec.get(key):
        yield from (invalid_value(f"spec.{key}", value, problem) for problem in problems(value))


def _toleration_errors(toleration: Mapping[str, Any], path: str) -> Iterator[FieldError]:
    key, operator = toleration.get("key") or "", toleration.get("operator") or ""
    value, effect = toleration.get("value") or "", toleration.get("effect") or ""
    if key:
        yield from (invalid_value(f"{path}.key", key, problem) for problem in label_key_problems(key))
    elif operator != "Exists":
        detail = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
        yield invalid_value(f"{path}.operator", operator, detail)
    if toleration.get("tolerationSeconds") is not None and effect != "NoExecute":
        yield invalid_value(f"{path}.effect", effect, "effect must be 'NoExecute' when `tolerationSeconds` is set")
    if operator in ("", "Equal"):
        if problems := label_value_problems(value):
            yield invalid_value(f"{path}.operator", value, ";".join(problems))
    elif operator != "Exists":
        yield not_supported(f"{path}.operator", operator, ("Equal", "Exists"))
    elif value:
        yield invalid_value(f"{path}.operator", value, "value must be empty when `operator` is 'Exists'")
    if effect and effect not in _TAINT_EFFECTS:
        yield not_supported(f"{path}.effect", effect, _TAINT_EFFECTS)


def _node_affinity_errors(spec: Mapping[str, Any]) -> Iterator[FieldError]:
    key = "requiredDuringSchedulingIgnoredDuringExecution"
    wanted = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(key)
    if wanted is None:
        return
    path = f"spec.affinity.nodeAffinity.{key}.nodeSelectorTerms"
    if not wanted.get("nodeSelectorTerms"):
        yield required(path, "must have at least one node selector term")
    for at, term in enumerate(wanted.get("nodeSelectorTerms") or []):
        for index, expression in enumerate(term.get("matchExpressions") or []):
            yield from _expression_errors(expression, f"{path}[{at}].matchExpressions[{index}]")


def _expression_errors(expression: Mapping[str, Any], path: str) -> Iterator[FieldError]:
    operator, values = expression.get("operator") or "", expression.get("values") or []
    if operator in ("In", "NotIn"):
        if not values:
            yield required(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'")
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            yield forbidden_value(f"{path}.values", detail)
    elif operator in ("Gt", "Lt"):
        if len(values) != 1:
            yield required(f"{path}.values", "must be specified single value when `operator` is 'Lt' or 'Gt'")
    else:
        yield invalid_value(f"{path}.operator", operator, "not a valid selector operator")
    key = expression.get("key") or ""
    yield from (invalid_value(f"{path}.key", key, problem) for problem in label_key_problems(key))


def pod_update_errors(new: Mapping[str, Any], old: Mapping[str, Any]) -> list[FieldError]:
    """What may not change in a pod's spec."""
    new_spec, old_spec = copy.deepcopy(dict(new["spec"])), old["spec"]
    errors: list[FieldError] = []
    for field in ("containers", "initContainers"):
        now, before = new_spec.get(field) or [], old_spec.get(field) or []
        if len(now) != len(before):
            return [forbidden_value(f"spec.{field}", "pod updates may not add or remove containers")]
        for changed, kept in zip(now, before, strict=True):
            changed["image"] = kept["image"]
    errors += _deadline_errors(new_spec.get("activeDeadlineSeconds"), old_spec.get("activeDeadlineSeconds"))
    if any(toleration not in (new_spec.get("tolerations") or []) for toleration in old_spec.get("tolerations") or []):
        errors.append(
            forbidden_value("spec.tolerations", "existing toleration can not be modified except its tolerationSeconds")
        )
    errors += _gate_errors(new_spec.get("schedulingGates") or [], old_spec.get("schedulingGates") or [])
    ignored = ("activeDeadlineSeconds", "tolerations", "schedulingGates")
    if {**new_spec, **dict.fromkeys(ignored)} != {**old_spec, **dict.fromkeys(ignored)}:
        changed_keys = sorted(key for key in {*new_spec, *old_spec} if new_spec.get(key) != old_spec.get(key))
        detail = f"pod updates may not change fields other than {_UPDATABLE}\n  changed: {', '.join(changed_keys)}\n"
        errors.append(forbidden_value("spec", detail))
    return errors


def _gate_errors(new: list[Any], old: list[Any]) -> Iterator[FieldError]:
    for index, gate in enumerate(new):
        if gate not in old:
            detail = f"only deletion is allowed, but found new scheduling gate '{gate.get('name', '')}'"
            yield forbidden_value(f"spec.schedulingGates[{index}]", detail)


def _deadline_errors(new: int | None, old: int | None) -> Iterator[FieldError]:
    field = "spec.activeDeadlineSeconds"
    if old is not None and new is None:
        yield invalid_value(field, None, "must not update from a positive integer to nil value")
    elif old is not None and new is not None and new > old:
        yield invalid_value(field, new, "must be less than or equal to previous value")
