"""Manifests of arguments over templates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kpo_multicluster.pods.manifest import PodArguments, RunIdentity, build_manifest

RUN = RunIdentity(task_id="task", airflow_version="3.3.2")


def spec(**arguments: Any) -> dict[str, Any]:
    result: dict[str, Any] = build_manifest(PodArguments(**arguments), RUN)["spec"]
    return result


def template(*containers: Any, **fields: Any) -> dict[str, Any]:
    return {"spec": {"containers": list(containers), **fields}}


def test_precedence(tmp_path: Path) -> None:
    file = tmp_path / "pod.yaml"
    file.write_text(
        "spec: {hostname: file, subdomain: file, schedulerName: file, nodeName: file, containers: [{name: base}]}"
    )
    result = spec(
        hostname="given",
        full_pod_spec=template(hostname="spec", subdomain="spec"),
        pod_template_file=str(file),
        pod_template_dict=template(hostname="dict", preemptionPolicy="Never"),
    )
    assert (result["hostname"], result["subdomain"], result["schedulerName"]) == ("given", "spec", "file")
    assert result["nodeName"] == "file"
    assert "preemptionPolicy" not in result


CLEARED = [
    ("automount_service_account_token", False, "automountServiceAccountToken", True),
    ("termination_grace_period", 0, "terminationGracePeriodSeconds", 30),
    ("active_deadline_seconds", 0, "activeDeadlineSeconds", 30),
    ("tolerations", [], "tolerations", [{"key": "t"}]),
    ("node_selector", {}, "nodeSelector", {"a": "b"}),
    ("security_context", {}, "securityContext", {"runAsUser": 1}),
    ("image_pull_secrets", [], "imagePullSecrets", [{"name": "s"}]),
    ("affinity", {}, "affinity", {"nodeAffinity": {}}),
    ("host_aliases", [], "hostAliases", [{"ip": "1.1.1.1"}]),
]


@pytest.mark.parametrize(("argument", "empty", "field", "value"), CLEARED)
def test_an_empty_argument_replaces_what_a_template_says_if_it_was_given(
    argument: str, empty: Any, field: str, value: Any
) -> None:
    base = {"name": "base"}
    assert spec(pod_template_dict=template(base, **{field: value}))[field] == value
    assert spec(pod_template_dict=template(base, **{field: value}), **{argument: empty})[field] == empty
    not_given = {argument: empty, "given": frozenset({"image"})}
    assert spec(pod_template_dict=template(base, **{field: value}), **not_given)[field] == value
    given = {argument: empty, "given": frozenset({argument})}
    assert spec(pod_template_dict=template(base, **{field: value}), **given)[field] == empty


def test_a_value_counts_whoever_set_it() -> None:
    assert spec(hostname="set-later", given=frozenset())["hostname"] == "set-later"


def test_an_empty_text_says_nothing() -> None:
    assert spec(hostname="", pod_template_dict=template(hostname="t"))["hostname"] == "t"


@pytest.mark.parametrize(
    ("arguments", "host_network"),
    [
        ({}, True),
        ({"hostnetwork": False}, True),
        ({"hostnetwork": False, "given": frozenset({"hostnetwork"})}, False),
        ({"hostnetwork": True}, True),
    ],
)
def test_a_default_does_not_replace_what_a_template_says(arguments: Any, host_network: bool) -> None:
    assert spec(pod_template_dict=template(hostNetwork=True), **arguments)["hostNetwork"] is host_network


@pytest.mark.parametrize(
    ("arguments", "policy"),
    [
        ({}, "FallbackToLogsOnError"),
        ({"termination_message_policy": "File", "given": frozenset({"termination_message_policy"})}, "File"),
        ({"termination_message_policy": "Other", "given": frozenset()}, "Other"),
    ],
)
def test_the_termination_message_policy_of_a_template(arguments: Any, policy: str) -> None:
    container = {"name": "base", "terminationMessagePolicy": "FallbackToLogsOnError"}
    assert (
        spec(pod_template_dict=template(container), **arguments)["containers"][0]["terminationMessagePolicy"] == policy
    )


def test_the_base_container_is_found_by_name_and_gets_what_belongs_to_it() -> None:
    containers = spec(
        image="given",
        do_xcom_push=True,
        pod_template_dict=template({"name": "proxy", "image": "p"}, {"name": "base", "image": "t", "tty": True}),
    )["containers"]
    assert [(container["name"], container["image"]) for container in containers[:2]] == [
        ("proxy", "p"),
        ("base", "given"),
    ]
    assert containers[0].keys() == {"name", "image"}
    assert containers[1]["tty"] is True
    assert containers[1]["volumeMounts"] == containers[2]["volumeMounts"]


def test_the_first_container_of_a_template_without_a_base_is_the_base() -> None:
    containers = spec(
        base_container_name="mine", pod_template_dict=template({"name": "main", "image": "m"}, {"name": "side"})
    )["containers"]
    assert [container["name"] for container in containers] == ["mine", "side"]
    assert containers[0]["image"] == "m"


def test_a_template_without_containers_has_the_base_alone() -> None:
    assert [c["name"] for c in spec(image="i", pod_template_dict={"metadata": {"name": "n"}})["containers"]] == ["base"]


def test_gpu_limits_of_a_template_stay() -> None:
    container = {"name": "base", "resources": {"limits": {"nvidia.com/gpu": 1, "memory": "1Gi"}}}
    result = spec(container_resources={"requests": {"memory": "4Gi"}}, pod_template_dict=template(container))
    assert result["containers"][0]["resources"] == {"limits": {"nvidia.com/gpu": "1"}, "requests": {"memory": "4Gi"}}


def test_restart_policy_is_never() -> None:
    assert spec(pod_template_dict=template(restartPolicy="Always"))["restartPolicy"] == "Never"
