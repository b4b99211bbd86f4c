"""Whatever users write, as the API's JSON; with the models of the Kubernetes client that is installed."""

from __future__ import annotations

import copy
from datetime import date, datetime, timezone
from decimal import Decimal
from enum import Enum
from types import SimpleNamespace
from typing import Any

import pytest

from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.pods.convert import is_model, resources_to_json, to_json


class Policy(str, Enum):
    ALWAYS = "Always"


def rich_pod() -> Any:
    from kubernetes.client import models as k

    probe = k.V1Probe(_exec=k.V1ExecAction(command=["true"]), http_get=k.V1HTTPGetAction(port=80), period_seconds=0)
    term = k.V1NodeSelectorTerm(match_expressions=[k.V1NodeSelectorRequirement(key="z", operator="In", values=["a"])])
    selector = k.V1LabelSelector(match_labels={"snake_case": "kept"})
    spread = k.V1TopologySpreadConstraint(
        max_skew=1, topology_key="zone", when_unsatisfiable="ScheduleAnyway", label_selector=selector
    )
    container = k.V1Container(
        name="c",
        image_pull_policy="Always",
        liveness_probe=probe,
        resources=k.V1ResourceRequirements(limits={"nvidia.com/gpu": "1"}),
        env=[k.V1EnvVar(name="A", value_from=k.V1EnvVarSource(field_ref=k.V1ObjectFieldSelector(field_path="x")))],
        security_context=k.V1SecurityContext(privileged=False, se_linux_options=k.V1SELinuxOptions(level="s0")),
        tty=False,
    )
    volumes = [
        k.V1Volume(name="e", empty_dir=k.V1EmptyDirVolumeSource()),
        k.V1Volume(name="c", csi=k.V1CSIVolumeSource(driver="d", volume_attributes={"some_key": "v"})),
        k.V1Volume(name="s", secret=k.V1SecretVolumeSource(items=[k.V1KeyToPath(key="k", path="p", mode=256)])),
    ]
    return k.V1Pod(
        metadata=k.V1ObjectMeta(name="n", creation_timestamp=datetime(2024, 1, 2, tzinfo=timezone.utc)),
        spec=k.V1PodSpec(
            containers=[container],
            volumes=volumes,
            host_ipc=True,
            set_hostname_as_fqdn=False,
            topology_spread_constraints=[spread],
            affinity=k.V1Affinity(
                node_affinity=k.V1NodeAffinity(
                    required_during_scheduling_ignored_during_execution=k.V1NodeSelector(node_selector_terms=[term])
                )
            ),
        ),
    )


def test_models_become_what_their_client_sends() -> None:
    from kubernetes import client

    api_client: Any = client.ApiClient()
    assert to_json(rich_pod(), "V1Pod", "p") == api_client.sanitize_for_serialization(rich_pod())


def test_a_models_own_dictionary_becomes_the_same() -> None:
    pod = rich_pod()
    assert to_json(pod.to_dict(), "V1Pod", "p") == to_json(pod, "V1Pod", "p")


def test_json_stays_as_it_is_and_is_copied() -> None:
    pod = to_json(rich_pod(), "V1Pod", "p")
    before = copy.deepcopy(pod)
    again = to_json(pod, "V1Pod", "p")
    assert again == pod
    again["spec"]["containers"][0]["env"].clear()
    again["spec"]["volumes"][1]["csi"]["volumeAttributes"].clear()
    assert pod == before


def test_dictionaries_inside_models_are_read_too() -> None:
    from kubernetes.client import models as k

    parts: dict[str, Any] = {"security_context": {"run_as_user": 1}, "resources": {"limits": {"cpu": "1"}}}
    container = k.V1Container(name="c", **parts)
    assert to_json(container, "V1Container", "c") == {
        "name": "c",
        "securityContext": {"runAsUser": 1},
        "resources": {"limits": {"cpu": "1"}},
    }


def test_older_helper_objects_are_asked_for_their_model() -> None:
    from kubernetes.client import models as k

    port = SimpleNamespace(to_k8s_client_obj=lambda: k.V1ContainerPort(container_port=80))
    assert to_json([port], "[V1ContainerPort]", "ports") == [{"containerPort": 80}]


@pytest.mark.parametrize(
    ("value", "kind", "json"),
    [
        (Policy.ALWAYS, "str", "Always"),
        (5, "str", "5"),
        (True, "str", "True"),
        (Decimal("0.50"), "str", "0.50"),
        (date(2024, 1, 2), "str", "2024-01-02"),
        ("7", "int", 7),
        (7.0, "int", 7),
        ("False", "bool", False),
        ("true", "bool", True),
        (("a", 1), "[str]", ["a", "1"]),
        ({"b", "a"}, "[str]", ["a", "b"]),
        ({"on": None, True: 1, 2: "x"}, "{str}", {"on": "", "true": "1", "2": "x"}),
        ({"cpu": 0.5, "memory": None}, "{quantity}", {"cpu": "0.5"}),
        ({"a": [1, {"b": None}], "c": date(2024, 1, 2)}, "object", {"a": [1, {"b": None}], "c": "2024-01-02"}),
        ({"image_pull_policy": "Never", "imagePullPolicy": "Always"}, "V1Container", {"imagePullPolicy": "Always"}),
        ({"image_pull_policy": "Never", "imagePullPolicy": None}, "V1Container", {"imagePullPolicy": "Never"}),
        ({"brandNew": {"snake_case": [1]}}, "V1Container", {"brandNew": {"snake_case": [1]}}),
        (
            {"httpGet": {"port": "http"}, "tcpSocket": {"port": 1}},
            "V1Probe",
            {"httpGet": {"port": "http"}, "tcpSocket": {"port": 1}},
        ),
    ],
)
def test_values(value: Any, kind: str, json: Any) -> None:
    assert to_json(value, kind, "x") == json


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        (None, "V1Volume", r"^x must be a dictionary or a V1Volume, got NoneType\.$"),
        ("secret", "[str]", r"^x must be a list, each item a text, got str\.$"),
        ({"a": 1}, "[str]", r"^x must be a list, each item a text, got dict\.$"),
        (["a", None], "[str]", r"^x\[1\] must be a text, got NoneType\.$"),
        ([b"secret"], "[str]", r"^x\[0\] must be a text, got bytes\.$"),
        ("secret", "int", r"^x must be an integer, got a str that is none\.$"),
        (1.5, "int", r"^x must be an integer, got a float with a fraction\.$"),
        (float("inf"), "int", r"^x must be an integer, got a float that is none\.$"),
        (True, "int", r"^x must be an integer, got bool\.$"),
        ("secret", "bool", r"^x must be True or False, got str\.$"),
        (1, "bool", r"^x must be True or False, got int\.$"),
        (["secret"], "{str}", r"^x must be a dictionary of texts, got list\.$"),
        ({"a": {"b": "secret"}}, "{str}", r"^x\['a'\] must be a text, got dict\.$"),
        ({(1, 2): "secret"}, "{str}", r"^x: a key must be a text, got tuple\.$"),
        (object(), "V1Affinity", r"^x must be a dictionary or a V1Affinity, got object\.$"),
        (
            {"containers": [{"ports": [{"containerPort": "secret"}]}]},
            "V1PodSpec",
            r"^x\.containers\[0\]\.ports\[0\]\.containerPort must be",
        ),
        (
            {"resources": "secret"},
            "V1Container",
            r"^x\.resources must be a dictionary or a V1ResourceRequirements, got str\.$",
        ),
        ({"a": object()}, "object", r"^x\.a must be a text, got object\.$"),
    ],
)
def test_wrong_types_are_named_with_their_place_and_without_their_value(value: Any, kind: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        to_json(value, kind, "x")
    assert "secret" not in str(caught.value)


def test_a_model_of_another_kind_is_refused() -> None:
    from kubernetes.client import models as k

    mount = k.V1VolumeMount(name="m", mount_path="/m")
    with pytest.raises(ConfigurationError, match=r"volumes\[0\] must be a dictionary or a V1Volume, got V1VolumeMount"):
        to_json([mount], "[V1Volume]", "volumes")


def test_a_models_subclass_and_models_newer_than_this_package_are_taken() -> None:
    class V1Novelty:
        openapi_types = {"some_field": "str", "many": "list[V1Other]", "table": "dict[str, str]", "when": "datetime"}
        attribute_map = {"some_field": "someField", "many": "many", "table": "table", "when": "when"}
        some_field, many, table, when = 5, [{"x_y": 1}], {"a_b": 2}, date(2024, 1, 2)

    class Mine(V1Novelty):
        pass

    assert is_model(Mine())
    assert to_json(Mine(), "V1Novelty", "x") == {
        "someField": "5",
        "many": [{"x_y": 1}],
        "table": {"a_b": "2"},
        "when": "2024-01-02",
    }
    assert to_json({"novelty": Mine()}, "V1PodSpec", "x")["novelty"]["someField"] == "5"


@pytest.mark.parametrize(
    ("value", "resources"),
    [
        (
            {"request_memory": "1Gi", "request_cpu": 1, "limit_memory": "2Gi", "limit_cpu": "2", "limit_gpu": 1},
            {
                "requests": {"memory": "1Gi", "cpu": "1"},
                "limits": {"memory": "2Gi", "cpu": "2", "nvidia.com/gpu": "1"},
            },
        ),
        (
            {"request_ephemeral_storage": "1Gi", "limit_ephemeral_storage": "2Gi", "limit_gpu": None},
            {"requests": {"ephemeral-storage": "1Gi"}, "limits": {"ephemeral-storage": "2Gi"}},
        ),
        ({"limits": {"cpu": 1}}, {"limits": {"cpu": "1"}}),
        ({}, {}),
    ],
)
def test_resources(value: Any, resources: Any) -> None:
    assert resources_to_json(value, "container_resources") == resources


def test_two_forms_of_resources_are_not_mixed() -> None:
    with pytest.raises(ConfigurationError, match=r"container_resources mixes the keys limit_gpu with 'limits'"):
        resources_to_json({"limit_gpu": 1, "limits": {}}, "container_resources")
