"""What only one of the clouds does."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kpo_multicluster.errors import ConfigurationError, NodeGroupFailedError
from kpo_multicluster.node_groups.spec import Gpu
from kpo_multicluster.node_groups.taints import Taint
from kpo_multicluster.testing.clouds.node_groups import ChangeKind, Trouble

from .conftest import LIMIT_SECONDS, Bed

TAINT = Taint("nvidia.com/gpu", "present")


def asked(bed: Bed, name: str = "gpu") -> dict[str, Any]:
    """What the cloud was asked for."""
    found = bed.emulated(name)
    assert found is not None
    return dict(found.spec)


async def made(bed: Bed, **given: Any) -> None:
    groups = bed.open()
    ensured = await groups.ensure(bed.spec(**given))
    await groups.until_active(ensured.change, timeout_seconds=LIMIT_SECONDS)


# -- EKS ---------------------------------------------------------------------------------------------------------------


async def test_the_request_to_eks(eks_bed: Bed) -> None:
    options = eks_bed.options(update_config={"maxUnavailable": 1}, subnets=("subnet-a", "subnet-b"))
    await made(eks_bed, options=options, desired_size=1, max_size=4, taints=(TAINT,), spot=True, disk_gb=200)

    sent = asked(eks_bed)
    assert sent["amiType"] == "AL2023_x86_64_NVIDIA"
    assert sent["scalingConfig"] == {"minSize": 0, "maxSize": 4, "desiredSize": 1}
    assert sent["taints"] == [{"key": "nvidia.com/gpu", "value": "present", "effect": "NO_SCHEDULE"}]
    assert (sent["capacityType"], sent["diskSize"], sent["instanceTypes"]) == ("SPOT", 200, ["g5.xlarge"])
    assert sent["updateConfig"] == {"maxUnavailable": 1}
    assert sent["tags"]["kpo-multicluster"] == "node-group"


async def test_there_is_no_al2_for_newer_kubernetes(eks_bed: Bed) -> None:
    options = eks_bed.options(ami_type="AL2_x86_64_GPU")
    with pytest.raises(ConfigurationError, match=r"Kubernetes 1.34: use ami_type='AL2023_x86_64_NVIDIA'"):
        await eks_bed.open().ensure(eks_bed.spec(options=options))
    assert eks_bed.emulated() is None

    eks_bed.fake.add_cluster("ml", status="ACTIVE", version="1.32")
    await made(eks_bed, options=options)
    assert asked(eks_bed)["amiType"] == "AL2_x86_64_GPU"


async def test_an_ami_type_that_eks_does_not_have(eks_bed: Bed) -> None:
    options = eks_bed.options(ami_type="UBUNTU_NVIDIA")
    with pytest.raises(ConfigurationError, match=r"which EKS does not have; it has .*AL2023_x86_64_NVIDIA"):
        await eks_bed.open().ensure(eks_bed.spec(options=options))
    assert eks_bed.emulated() is None


# -- GKE ---------------------------------------------------------------------------------------------------------------


async def test_the_request_to_gke(gke_bed: Bed) -> None:
    options = gke_bed.options(reservation="ours", driver_version="latest", zones=("europe-west1-b", "europe-west1-c"))
    await made(gke_bed, options=options, desired_size=4, taints=(TAINT,), spot=True, gpu=Gpu(2, "nvidia-l4"))

    sent = asked(gke_bed)
    assert (sent["initialNodeCount"], sent["locations"]) == (2, ["europe-west1-b", "europe-west1-c"])
    config = sent["config"]
    assert config["accelerators"] == [
        {
            "acceleratorCount": "2",
            "acceleratorType": "nvidia-l4",
            "gpuDriverInstallationConfig": {"gpuDriverVersion": "LATEST"},
        }
    ]
    assert config["taints"] == [{"key": "nvidia.com/gpu", "value": "present", "effect": "NO_SCHEDULE"}]
    assert config["spot"] is True
    assert config["reservationAffinity"]["values"] == ["ours"]
    found = await gke_bed.open().describe("gpu")
    assert found is not None
    assert found.desired_size == 4


async def test_zones_are_given_the_same_number(gke_bed: Bed) -> None:
    zones = [f"europe-west1-{letter}" for letter in "bcd"]
    gke_bed.fake.add_cluster("ml", locations=zones)
    groups = gke_bed.open()
    with pytest.raises(ConfigurationError, match=r"desired_size 1 in 3 zones \(europe-west1-b, .*name one zone"):
        await groups.ensure(gke_bed.spec())
    assert gke_bed.emulated() is None

    await made(gke_bed, options=gke_bed.options(zones=zones[:2]), desired_size=2)
    with pytest.raises(ConfigurationError, match="is in 2 zones"):
        await groups.scale("gpu", 3)


async def test_autopilot_makes_its_own_nodes(gke_bed: Bed) -> None:
    gke_bed.fake.add_cluster("ml", autopilot={"enabled": True})
    with pytest.raises(ConfigurationError, match="in Autopilot mode"):
        await gke_bed.open().ensure(gke_bed.spec())


# -- AKS ---------------------------------------------------------------------------------------------------------------


async def test_the_request_to_aks(aks_bed: Bed) -> None:
    options = aks_bed.options(gpu_driver="None", zones=("1",), spot_max_price=0.5)
    await made(aks_bed, options=options, desired_size=2, taints=(TAINT,), spot=True, labels={"team": "ml"})

    sent = asked(aks_bed)
    assert (sent["count"], sent["vmSize"], sent["mode"]) == (2, "Standard_NC4as_T4_v3", "User")
    assert sent["nodeTaints"] == ["nvidia.com/gpu=present:NoSchedule"]
    assert (sent["scaleSetPriority"], sent["spotMaxPrice"]) == ("Spot", 0.5)
    assert sent["gpuProfile"] == {"driver": "None"}
    found = await aks_bed.open().describe("gpu")
    assert found is not None
    assert "kubernetes.azure.com/scalesetpriority=spot:NoSchedule" in [str(taint) for taint in found.taints]
    # What was read is written back, without what only Azure may write.
    groups = aks_bed.open()
    await groups.until_active(await groups.scale("gpu", 3), timeout_seconds=LIMIT_SECONDS)
    again = asked(aks_bed)
    assert {key: again[key] for key in sent} == {**sent, "count": 3}
    assert not {"provisioningState", "eTag"} & set(again)


async def test_a_quota_of_google(gke_bed: Bed) -> None:
    text = 'Insufficient regional quota to satisfy request: resource "NVIDIA_L4_GPUS": request requires 1.0'
    gke_bed.fake.faults.refuse("POST .*/nodePools$", 403, "PERMISSION_DENIED", text)
    with pytest.raises(NodeGroupFailedError, match=r"Insufficient regional quota.* quota there raised"):
        await gke_bed.open().ensure(gke_bed.spec())


async def test_a_quota_of_azure(aks_bed: Bed) -> None:
    code, text = "ErrCode_InsufficientVCPUQuota", "Insufficient vcpu quota requested 4, remaining 0"
    aks_bed.fake.faults.refuse("PUT .*/agentPools/gpu$", 400, code, text)
    with pytest.raises(NodeGroupFailedError, match="Insufficient vcpu quota") as caught:
        await aks_bed.open().ensure(aks_bed.spec())
    assert caught.value.code == code


async def test_a_pool_that_changed_since_it_was_read(aks_bed: Bed) -> None:
    await made(aks_bed)
    groups = aks_bed.open()
    fault = aks_bed.fake.faults.refuse("PUT .*/agentPools/gpu$", 412, "PreconditionFailed", "the etag is another")
    with fault:
        scaling = asyncio.create_task(groups.scale("gpu", 2))
        await asyncio.to_thread(fault.wait, hits=2, timeout_seconds=LIMIT_SECONDS)
    await groups.until_active(await scaling, timeout_seconds=LIMIT_SECONDS)
    assert aks_bed.count() == 2


# -- more than one of them ---------------------------------------------------------------------------------------------


REFUSALS = [
    ("eks", "InvalidParameterException", "The following supplied instance types do not exist: [g5.tiny]"),
    ("eks", "InvalidParameterException", "The role with name nodes cannot be found"),
    ("eks", "InvalidRequestException", "The subnet 'subnet-a' does not exist"),
    ("gke", "INVALID_ARGUMENT", "Machine type with name 'g2-tiny' does not exist in zone 'europe-west1-b'"),
    ("gke", "INVALID_ARGUMENT", "Accelerator type 'nvidia-l4' does not exist in zone 'europe-west1-b'"),
    ("gke", "INVALID_ARGUMENT", "Service account 'nodes@my-project.iam.gserviceaccount.com' does not exist"),
    ("aks", "VMSizeNotSupported", "The VM size 'Standard_Tiny' is not allowed in location 'westeurope'"),
    ("aks", "InvalidResourceReference", "The subnet 'nodes' was not found"),
]


@pytest.mark.parametrize(("kind", "code", "message"), REFUSALS)
async def test_what_only_the_cloud_knows_to_be_wrong(
    request: pytest.FixtureRequest, kind: str, code: str, message: str
) -> None:
    bed: Bed = request.getfixturevalue(f"{kind}_bed")
    place = {"eks": "POST .*/node-groups$", "gke": "POST .*/nodePools$", "aks": "PUT .*/agentPools/gpu$"}[kind]
    bed.fake.faults.refuse(place, 400, code, message)
    with pytest.raises(ConfigurationError, match=rf"{code}: {re.escape(message)}.* Correct what {kind.upper()[:1]}"):
        await bed.open().ensure(bed.spec())
    assert bed.emulated() is None


async def test_a_quota_of_eks(eks_bed: Bed) -> None:
    code, text = "ResourceLimitExceededException", "Nodegroup limit exceeded"
    eks_bed.fake.faults.refuse("POST .*/node-groups$", 400, code, text)
    with pytest.raises(NodeGroupFailedError, match=f"{code}: {text}.*Have the quota of EKS raised"):
        await eks_bed.open().ensure(eks_bed.spec())


async def test_a_machine_type_that_is_found_out_late(eks_bed: Bed) -> None:
    groups = eks_bed.open()
    trouble = Trouble("Ec2InstanceTypeDoesNotExist", "One or more of your instance types do not exist")
    eks_bed.fake.node_groups.fail_next(ChangeKind.CREATE, trouble)
    ensured = await groups.ensure(eks_bed.spec(), run="d/1")
    with pytest.raises(NodeGroupFailedError, match=r"no such machine type.*correct machine_types"):
        await groups.until_active(ensured.change, timeout_seconds=LIMIT_SECONDS)


@pytest.mark.parametrize(("version", "differs"), [("$Latest", False), ("$Default", False), ("7", False), ("6", True)])
async def test_eks_tells_a_launch_templates_version_by_its_number(eks_bed: Bed, version: str, differs: bool) -> None:
    spec = eks_bed.spec(options=eks_bed.options(launch_template={"name": "gpus", "version": version}))
    await eks_bed.open().ensure(eks_bed.spec())
    group = await eks_bed.open().describe("gpu")
    assert group is not None
    numbered = {"id": "lt-0a1b", "name": "gpus", "version": "7"}
    there = replace(group, raw={**group.raw, "launchTemplate": numbered})
    assert bool(eks_bed.open().cloud.differences(spec, there)) is differs


@pytest.mark.parametrize("kind", ["gke", "aks"])
async def test_the_clouds_own_autoscaler(request: pytest.FixtureRequest, kind: str) -> None:
    bed: Bed = request.getfixturevalue(f"{kind}_bed")
    await made(bed, options=bed.options(autoscale=True), max_size=5)

    groups = bed.open()
    group = await groups.describe("gpu")
    assert group is not None
    assert (group.autoscaled, group.min_size, group.max_size) == (True, 0, 5)
    with pytest.raises(ConfigurationError, match="decided by its cloud's autoscaler"):
        await groups.scale("gpu", 3)
    # Its size is not ours to change.
    await groups.ensure(bed.spec(options=bed.options(autoscale=True), desired_size=4, max_size=5))
    assert bed.count() == 1


@pytest.mark.parametrize("kind", ["gke", "aks"])
async def test_a_token_that_was_revoked_is_renewed(request: pytest.FixtureRequest, kind: str) -> None:
    bed: Bed = request.getfixturevalue(f"{kind}_bed")
    groups = bed.open()
    assert await groups.all() == []
    bed.fake.tokens.revoke_all()
    assert await groups.describe("gpu") is None


# -- the document ------------------------------------------------------------------------------------------------------


def test_the_documents_dag() -> None:
    text = (Path(__file__).parents[2] / "docs" / "node-groups.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {"__name__": "document"}
    block = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)[0]
    exec(block.replace("max_active_runs=1):", "max_active_runs=1) as dag:"), names)
    assert set(names["dag"].task_ids) == {"train", "train-gpu_create", "train-gpu_delete", "train-gpu_done"}
    train = names["dag"].get_task("train")
    assert train.node_selector == {"eks.amazonaws.com/nodegroup": "train-gpu"}
    assert train.upstream_task_ids == {"train-gpu_create"}
    assert train.downstream_task_ids == {"train-gpu_delete"}
    assert names["dag"].get_task("train-gpu_done").upstream_task_ids == {"train-gpu_delete"}
