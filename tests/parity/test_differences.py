"""Each deliberate difference: what upstream does, what is done here, and that it is documented."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.pods.labels import ATTEMPT_ANNOTATION, RUN_ANNOTATION
from kpo_multicluster.pods.manifest import build_manifest

from .building import identity, pod_arguments, split, theirs, upstream_operator
from .pod_cases import Arguments

DOCUMENT = Path(__file__).parents[2] / "docs" / "differences.md"


@dataclass(frozen=True)
class Difference:
    """Arguments, what to look at in the manifest, and what is there; an exception's type stands for a refusal."""

    name: str
    arguments: Arguments
    look: Callable[[Any], Any]
    upstream: Any
    here: Any
    given: frozenset[str] | None = field(default=None)


def _template(container: Any = None, **spec: Any) -> Arguments:
    return {"spec": {"containers": [container or {"name": "base", "image": "t"}], **spec}}


def _base(key: str) -> Callable[[Any], Any]:
    return lambda pod: pod["spec"]["containers"][0].get(key)


def _spec(key: str) -> Callable[[Any], Any]:
    return lambda pod: pod["spec"].get(key)


def _name(pod: Any) -> Any:
    """Without its random end."""
    name = pod["metadata"]["name"]
    return re.sub("-[a-z0-9]{8}$", "-", name)


def _annotations(pod: Any) -> Any:
    return pod["metadata"].get("annotations", {})


VOLUMES = [{"name": "v", "emptyDir": {}}]
TWO_CONTAINERS = {"spec": {"containers": [{"name": "proxy", "image": "p"}, {"name": "base", "image": "t"}]}}
GPU = {"name": "base", "resources": {"limits": {"nvidia.com/gpu": "1", "memory": "1Gi"}, "requests": {"memory": "1Gi"}}}

DIFFERENCES = [
    Difference("attempt-annotation", {}, lambda pod: _annotations(pod).get(ATTEMPT_ANNOTATION), None, "0190"),
    Difference("run-annotation", {}, lambda pod: _annotations(pod).get(RUN_ANNOTATION), None, "dag/manual__1"),
    Difference(
        "argument-over-template",
        {"pod_template_dict": _template(automountServiceAccountToken=True), "automount_service_account_token": False},
        _spec("automountServiceAccountToken"),
        True,
        False,
    ),
    Difference(
        "argument-over-template",
        {"pod_template_dict": _template(hostNetwork=True), "hostnetwork": False},
        _spec("hostNetwork"),
        True,
        False,
        given=frozenset({"hostnetwork"}),
    ),
    Difference(
        "argument-over-template",
        {"pod_template_dict": _template(terminationGracePeriodSeconds=9), "termination_grace_period": 0},
        _spec("terminationGracePeriodSeconds"),
        9,
        0,
    ),
    Difference(
        "argument-over-template",
        {"pod_template_dict": _template({"name": "base", "command": ["t"]}), "cmds": []},
        _base("command"),
        ["t"],
        [],
    ),
    Difference(
        "default-under-template",
        {"pod_template_dict": _template({"name": "base", "terminationMessagePolicy": "FallbackToLogsOnError"})},
        _base("terminationMessagePolicy"),
        "File",
        "FallbackToLogsOnError",
    ),
    Difference(
        "container-by-name",
        {"pod_template_dict": TWO_CONTAINERS, "image": "given"},
        lambda pod: [(container["name"], container["image"]) for container in pod["spec"]["containers"]],
        [("base", "given"), ("base", "t")],
        [("proxy", "p"), ("base", "given")],
    ),
    Difference(
        "container-by-name",
        {"pod_template_dict": TWO_CONTAINERS, "do_xcom_push": True},
        lambda pod: [bool(container.get("volumeMounts")) for container in pod["spec"]["containers"]],
        [True, False, True],
        [False, True, True],
    ),
    Difference(
        "resources-by-name",
        {"pod_template_dict": _template(GPU), "container_resources": {"requests": {"memory": "2Gi"}}},
        _base("resources"),
        {"requests": {"memory": "2Gi"}},
        {"requests": {"memory": "2Gi"}, "limits": {"nvidia.com/gpu": "1"}},
    ),
    Difference("scalars-as-text", {"labels": {"n": 1, "b": True}}, lambda pod: _labels(pod), (1, True), ("1", "True")),
    Difference("scalars-as-text", {"arguments": ["-n", 5]}, _base("args"), ["-n", 5], ["-n", "5"]),
    Difference("scalars-as-text", {"env_vars": {"N": 5}}, lambda pod: _base("env")(pod)[0]["value"], 5, "5"),
    Difference("text-as-scalars", {"pod_template_dict": _template(hostPID="false")}, _spec("hostPID"), True, False),
    Difference(
        "names-in-python-spelling",
        {"security_context": {"run_as_user": 1}},
        _spec("securityContext"),
        {"run_as_user": 1},
        {"runAsUser": 1},
    ),
    Difference(
        "names-in-python-spelling",
        {"tolerations": [{"toleration_seconds": 3}]},
        _spec("tolerations"),
        [{}],
        [{"tolerationSeconds": 3}],
    ),
    Difference("unknown-fields", {"pod_template_dict": _template(tomorrow=1)}, _spec("tomorrow"), None, 1),
    Difference("dictionaries-everywhere", {"volumes": VOLUMES}, _spec("volumes"), Exception, VOLUMES),
    Difference(
        "dictionaries-everywhere", {"full_pod_spec": _template(hostPID=True)}, _spec("hostPID"), Exception, True
    ),
    Difference(
        "legacy-resources",
        {"container_resources": {"request_memory": "1Gi", "limit_gpu": 1}},
        _base("resources"),
        {"request_memory": "1Gi", "limit_gpu": 1},
        {"requests": {"memory": "1Gi"}, "limits": {"nvidia.com/gpu": "1"}},
    ),
    Difference(
        "spaces-in-lists",
        {"image_pull_secrets": "a, b"},
        lambda pod: [reference["name"] for reference in pod["spec"]["imagePullSecrets"]],
        ["a", " b"],
        ["a", "b"],
    ),
    Difference("valid-names", {"name": "_x_", "random_name_suffix": False}, _name, "-x-", "x"),
    Difference("missing-template", {"pod_template_file": "/no/such.yaml"}, _name, "task-", ConfigurationError),
    Difference(
        "template-of-another-kind",
        {"pod_template_dict": {"kind": "Deployment", "spec": {"replicas": 2, "containers": []}}},
        _spec("restartPolicy"),
        "Never",
        ConfigurationError,
    ),
    Difference("wrong-types", {"cmds": "echo hi"}, _base("command"), "echo hi", ConfigurationError),
]


def _labels(pod: Any) -> Any:
    return pod["metadata"]["labels"]["n"], pod["metadata"]["labels"]["b"]


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda difference: difference.name)
def test_difference(upstream: Any, difference: Difference) -> None:
    arguments, around = split(difference.arguments)
    if difference.upstream is Exception:
        with pytest.raises(Exception, match=r".+"):
            theirs(upstream, arguments, around)
    else:
        assert difference.look(theirs(upstream, arguments, around)) == difference.upstream
    mine = replace(pod_arguments(arguments, around), given=difference.given)
    if difference.here is ConfigurationError:
        with pytest.raises(ConfigurationError):
            build_manifest(mine, identity(around))
    else:
        assert difference.look(build_manifest(mine, identity(around))) == difference.here


def test_built_once_or_twice(upstream: Any) -> None:
    from kubernetes.client import models

    arguments, around = split({"env_vars": {"A": "1"}, "pod_runtime_info_envs": [models.V1EnvVar(name="B")]})
    operator = upstream_operator(upstream, arguments, around)
    lengths = [len(operator.build_pod_request_obj().spec.containers[0].env) for _ in range(2)]
    assert lengths == [2, 3]
    mine = pod_arguments(arguments, around)
    first, second = (build_manifest(mine, identity(around), name_suffix=lambda: "same") for _ in range(2))
    assert first == second
    assert len(first["spec"]["containers"][0]["env"]) == 2


def test_each_difference_is_documented_and_each_documented_one_tested() -> None:
    documented = set(re.findall(r"^\| `([a-z-]+)` \|", DOCUMENT.read_text(), re.MULTILINE))
    assert {difference.name for difference in DIFFERENCES} | {"built-once-or-twice"} == documented
