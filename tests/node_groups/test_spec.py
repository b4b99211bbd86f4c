from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from typing import Any

import pytest

from kpo_multicluster.clouds import aks, eks, gke
from kpo_multicluster.cluster import in_cluster
from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.node_groups.clouds import check_for, open_cloud
from kpo_multicluster.node_groups.eks_request import spec_of_request
from kpo_multicluster.node_groups.ownership import Ownership
from kpo_multicluster.node_groups.spec import AksNodes, EksNodes, GkeNodes, Gpu, NodeGroupSpec
from kpo_multicluster.node_groups.taints import EFFECTS, Taint

ROLE = "arn:aws:iam::111111111111:role/nodes"
EKS = EksNodes(node_role=ROLE, subnets=("subnet-a",))
REFS = {
    "eks": eks("ml", region="us-east-2"),
    "gke": gke("ml", location="europe-west1", project="p"),
    "aks": aks("ml", resource_group="g", subscription="s"),
}


def refused(match: str, options: Any, /, name: str = "gpu", **given: Any) -> None:
    def make() -> None:
        spec = NodeGroupSpec(name, options, **given)
        check_for(REFS[spec.cloud], spec)

    with pytest.raises(ConfigurationError, match=match):
        make()


@pytest.mark.parametrize("options", [EKS, GkeNodes(zones=("us-east1-b",)), AksNodes(gpu_driver="None")])
def test_travels(options: Any) -> None:
    spec = NodeGroupSpec(
        "gpu",
        options,
        machine_types="m",  # type: ignore[arg-type] # what people write
        desired_size=2,
        gpu=Gpu(count=4),
        taints=("a=b:NoSchedule", {"key": "c", "effect": "NO_EXECUTE"}),  # type: ignore[arg-type]
        labels={"team": "ml"},
    )

    assert spec.machine_types == ("m",)
    assert spec.taints == (Taint("a", "b"), Taint("c", "", "NoExecute"))
    assert NodeGroupSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    for twin in (copy.deepcopy(spec), pickle.loads(pickle.dumps(spec))):
        assert twin == spec
        assert hash(twin) == hash(spec)
    with pytest.raises(TypeError):
        spec.labels["x"] = "y"  # type: ignore[index]


def test_imports_no_cloud_library() -> None:
    code = (
        "import sys, kpo_multicluster.node_groups.clouds, kpo_multicluster.node_groups.readiness\n"
        "print([m for m in ('boto3', 'botocore', 'google', 'azure', 'requests', 'airflow') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"desired_size": 3, "max_size": 2}, "desired_size 3, above its max_size 2"),
        ({"desired_size": 1, "min_size": 2}, "desired_size 1, below its min_size 2"),
        ({"desired_size": -1}, "desired_size -1, which is below 0"),
        ({"desired_size": 0, "max_size": 0}, "desired_size=0 and max_size=1"),
        ({"desired_size": "2"}, "must be a whole number, not '2'"),
        ({"desired_size": True}, "must be a whole number, not True"),
        ({"spot": "yes"}, "must be true or false"),
        ({"labels": {"a": 1}}, "must be an object of texts"),
        ({"labels": {"no space": "x"}}, "which Kubernetes does not take"),
        ({"taints": ["a=b:Sometimes"]}, "must be one of NoSchedule"),
        ({"taints": ["nonsense"]}, "is no taint"),
        ({"taints": [{"key": "a", "what": "b"}]}, "is no taint"),
        ({"taints": [7]}, "is no taint"),
        ({"gpu": Gpu(count=0)}, "has 0 GPUs a node"),
        ({"gpu": {"number": 1}}, "gpu of the node group must be a Gpu"),
        ({"tags": {"kpo-multicluster-run": "x"}}, "written by kpo-multicluster itself"),
        ({"options": {"cloud": "eks"}}, "must be EksNodes, GkeNodes or AksNodes"),
    ],
)
def test_what_no_cloud_could_make(given: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigurationError, match=match):
        NodeGroupSpec(**{"name": "gpu", "options": EKS, "machine_types": ("g5.xlarge",), **given})


@pytest.mark.parametrize(
    ("data", "match"),
    [
        ({"name": "g", "options": {"cloud": "eks"}, "desired": 1}, "unknown field desired; it takes name,"),
        (
            {"name": "g", "options": {"cloud": "eks", "instance_role": "x"}},
            "options has the unknown field instance_role",
        ),
        ({"name": "g", "options": {"cloud": "eks"}, "gpu": {"kind": "x"}}, "gpu has the unknown field kind"),
        ({"name": "g"}, "lacks the field options"),
        ({"name": "g", "options": {"cloud": "oci"}}, "name their cloud, eks, gke, aks"),
        ({"options": {"cloud": "eks"}}, "lacks the field name"),
        ({"name": "g", "options": {"cloud": "eks", "subnets": "subnet-a"}}, "must be a list of texts"),
        ({"name": "g", "options": {"cloud": "eks", "update_config": {"a": "1"}}}, "an object of whole numbers"),
    ],
)
def test_json_that_is_wrong(data: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigurationError, match=match):
        NodeGroupSpec.from_json(data)


def test_the_arguments_of_create_nodegroup() -> None:
    request = {
        "clusterName": "ml",
        "nodegroupName": "gpu",
        "scalingConfig": {"minSize": 0, "maxSize": 4, "desiredSize": 2},
        "amiType": "AL2023_x86_64_NVIDIA",
        "updateConfig": {"maxUnavailable": 1},
        "instanceTypes": ["g5.xlarge"],
        "capacityType": "SPOT",
        "nodeRole": ROLE,
        "subnets": ["subnet-a"],
        "taints": [{"key": "a", "value": "b", "effect": "NO_SCHEDULE"}],
        "labels": {"team": "ml"},
    }
    spec = spec_of_request(request, gpu=Gpu(1))

    options = EksNodes(ROLE, ("subnet-a",), "AL2023_x86_64_NVIDIA", {"maxUnavailable": 1})
    assert spec == NodeGroupSpec(
        "gpu", options, ("g5.xlarge",), 2, 0, 4, Gpu(1), True, None, {"team": "ml"}, (Taint("a", "b"),)
    )
    for wrong, match in (
        ({"remoteAccess": {}}, "no argument remoteAccess"),
        ({"scalingConfig": {"desired": 1}}, "scalingConfig has no argument desired"),
        ({"capacityType": "CHEAP"}, "one of ON_DEMAND"),
        ({"scalingConfig": {"maxSize": 1, "desiredSize": 2}}, "above its max_size"),
    ):
        with pytest.raises(ConfigurationError, match=match):
            spec_of_request({**request, **wrong})


@pytest.mark.parametrize(
    ("name", "changes", "given", "match"),
    [
        ("-gpu", {}, {}, "1 to 63 letters"),
        ("g" * 64, {}, {}, "1 to 63 letters"),
        ("gpu", {"node_role": ""}, {}, "has no node_role"),
        ("gpu", {"node_role": "nodes"}, {}, "not one like arn:aws:iam"),
        ("gpu", {"subnets": ()}, {}, "has no subnets"),
        ("gpu", {"subnets": ("a",)}, {}, "an id is like subnet-"),
        ("gpu", {}, {"machine_types": tuple(f"m{i}.large" for i in range(21))}, "at most 20"),
        ("gpu", {}, {"gpu": Gpu(type="a100")}, "EKS knows it by the machine type"),
        ("gpu", {}, {"gpu": Gpu(), "machine_types": ()}, "GPUs and no machine_types"),
        ("gpu", {"ami_type": "AL2023_x86_64_STANDARD"}, {"gpu": Gpu()}, "use AL2023_x86_64_NVIDIA"),
        ("gpu", {"update_config": {"maxUnavailable": 0}}, {}, "must be 1 to 100"),
        ("gpu", {"update_config": {"maxUnavailable": 1, "maxUnavailablePercentage": 1}}, {}, "exactly one of"),
        ("gpu", {"launch_template": {"id": "lt-1", "name": "x"}}, {}, "either id or name"),
        ("gpu", {"launch_template": {"id": "lt-1"}}, {"disk_gb": 10}, "put the disk into the template"),
        ("gpu", {"capacity_block": True}, {}, "needs a launch_template"),
        (
            "gpu",
            {"ami_type": "AL2_x86_64_GPU", "kubernetes_version": "1.33"},
            {"gpu": Gpu()},
            "no Amazon Linux 2 for Kubernetes 1.33: use ami_type='AL2023_x86_64_NVIDIA'",
        ),
    ],
)
def test_the_rules_of_eks(name: str, changes: dict[str, Any], given: dict[str, Any], match: str) -> None:
    options = EksNodes(**{"node_role": ROLE, "subnets": ("subnet-a",), **changes})
    refused(match, options, name, **{"machine_types": ("g5.xlarge",), **given})


@pytest.mark.parametrize(
    ("name", "changes", "given", "match"),
    [
        ("Gpu", {}, {}, "lower-case letters"),
        ("g" * 41, {}, {}, "1 to 40"),
        ("gpu-", {}, {}, "not ending with '-'"),
        ("gpu", {}, {"desired_size": 1001}, "at most 1000"),
        ("gpu", {}, {"machine_types": ("a", "b")}, "has one: name a single one"),
        ("gpu", {"zones": ("europe-west1",)}, {}, "a region is not a zone"),
        ("gpu", {"zones": ("us-east1-b", "us-east1-c")}, {}, "desired_size 1 in 2 zones"),
        ("gpu", {}, {"tags": {"Team": "ML"}}, "lower-case letters, digits"),
        ("gpu", {}, {"gpu": Gpu()}, "GPUs without a type"),
        ("gpu", {"driver_version": "535"}, {}, "one of default, latest, disabled"),
        ("gpu", {"gpu_partition_size": "1g.5gb"}, {}, "no gpu"),
    ],
)
def test_the_rules_of_gke(name: str, changes: dict[str, Any], given: dict[str, Any], match: str) -> None:
    refused(match, GkeNodes(**changes), name, **{"machine_types": ("g2-standard-4",), **given})


@pytest.mark.parametrize(
    ("name", "changes", "given", "match"),
    [
        ("gpu-a", {}, {}, "1 to 12 lower-case letters and digits"),
        ("1gpu", {}, {}, "beginning with a letter"),
        ("g" * 13, {}, {}, "1 to 12"),
        ("gpu", {}, {"desired_size": 1001}, "at most 1000"),
        ("gpu", {}, {"machine_types": ()}, "name a VM size"),
        ("gpu", {"subnet": "nodes"}, {}, "resource id"),
        ("gpu", {"zones": ("westeurope-1",)}, {}, "'1', '2' and '3'"),
        ("gpu", {"spot_max_price": 1.5}, {}, "without spot"),
        ("gpu", {}, {"gpu": Gpu(type="a100")}, "AKS knows it by the VM size"),
        ("gpu", {"gpu_driver": "Latest"}, {"gpu": Gpu()}, "one of Install, None"),
        ("gpu", {"gpu_instance_profile": "MIG9g"}, {"gpu": Gpu()}, "one of MIG1g"),
        ("gpu", {"gpu_driver": "None"}, {}, "no gpu"),
        ("gpu", {}, {"tags": {"a/b": "x"}}, "Azure takes no"),
    ],
)
def test_the_rules_of_aks(name: str, changes: dict[str, Any], given: dict[str, Any], match: str) -> None:
    refused(match, AksNodes(**changes), name, **{"machine_types": ("Standard_NC4as_T4_v3",), **given})


@pytest.mark.parametrize("kind", ["eks", "gke", "aks"])
def test_a_spec_for_another_cloud(kind: str) -> None:
    options: Any = GkeNodes() if kind != "gke" else AksNodes()
    spec = NodeGroupSpec("gpu", options, machine_types=("m",))
    with pytest.raises(ConfigurationError, match=f"options for {spec.cloud}, and its cluster is one of {kind.upper()}"):
        check_for(REFS[kind], spec)


def test_a_cluster_without_node_groups() -> None:
    with pytest.raises(ConfigurationError, match=r"kind 'in_cluster', which has no node groups.*eks\(\), gke\(\)"):
        open_cloud(in_cluster())
    with pytest.raises(ConfigurationError, match="no node groups"):
        check_for(in_cluster(), NodeGroupSpec("gpu", EKS))


@pytest.mark.parametrize("effect", EFFECTS)
@pytest.mark.parametrize("value", ["", "gpu"])
def test_taints_in_three_ways(effect: str, value: str) -> None:
    taint = Taint("nvidia.com/gpu", value, effect)
    assert Taint.from_object(taint.to_object()) == taint
    assert Taint.parse(taint.to_text()) == taint
    assert Taint.parse(str(taint)) == taint
    assert taint.toleration()["effect"] == effect
    assert taint.to_object()["effect"].replace("_", "").lower() == effect.lower()


@pytest.mark.parametrize(
    "run", [None, "d/r", "mein_dag/manual__2026-01-01T00:00:00.123+00:00", "größe/~x", "d" * 250 + "/r"]
)
def test_tags_hold_who_made_a_group(run: str | None) -> None:
    made = Ownership(1700000000.0, run, 1700003600.0)
    tags = made.tags()
    assert Ownership.of({**tags, "team": "ml"}) == made
    for key, value in tags.items():
        assert set(key + value) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_")
        assert len(value) <= 63


@pytest.mark.parametrize(
    "change",
    [
        {"kpo-multicluster": "other"},
        {"kpo-multicluster-created": "yesterday"},
        {"kpo-multicluster-run-0": "1"},
        {"kpo-multicluster-expires": ""},
    ],
)
def test_tags_that_someone_changed_are_not_ours(change: dict[str, str]) -> None:
    tags = Ownership(1700000000.0, "d/r").tags()
    assert Ownership.of({**tags, **change}) is None
    assert Ownership.of({}) is None


def test_a_run_of_a_long_name() -> None:
    with pytest.raises(ConfigurationError, match="1 to 600 bytes"):
        Ownership(0.0, "d" * 601).tags()
