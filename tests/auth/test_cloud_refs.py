from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from kpo_multicluster.auth import registry
from kpo_multicluster.clouds import aks, aks_id, eks, eks_name, gke, gke_path
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.errors import ConfigurationError

ROLE = "arn:aws:iam::222222222222:role/team/airflow-pods"
EKS_ARN = "arn:aws:eks:eu-west-1:111111111111:cluster/gpu"
GKE_PATH = "projects/p/locations/europe-west1/clusters/gpu"
AKS_ID = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerService/managedClusters/gpu"
PLACE = {"resource_group": "g", "subscription": "s"}

REFS: list[Callable[[], ClusterRef]] = [
    lambda: eks("gpu", region="us-east-2", conn_id="aws_remote", role_arn=ROLE, external_id="x", namespace="pods"),
    lambda: eks("gpu", endpoint="https://gpu.example", ca_data="LS0t", region="cn-north-1"),
    lambda: eks(EKS_ARN, profile="gpu", role_arn=ROLE, session_name="dag"),
    lambda: gke("gpu", location="europe-west1", project="p", impersonation_chain=("a@p", "b@p"), endpoint="dns"),
    lambda: gke(GKE_PATH, key_json="env:KEY"),
    lambda: gke("gpu", endpoint="connect-gateway", membership="projects/1/locations/global/memberships/gpu"),
    lambda: gke("gpu", endpoint="https://gke.example"),
    lambda: aks("gpu", resource_group="g", subscription="s", login="managed-identity", client_id="i"),
    lambda: aks("gpu", resource_group="g", conn_id="azure"),
    lambda: aks(AKS_ID, client_id="i", tenant_id="t", client_secret="env:SECRET", cloud="china"),
    lambda: aks("gpu", endpoint="https://aks.example", ca_data="LS0t", login="azure-cli"),
]


@pytest.mark.parametrize("make", REFS)
def test_a_ref_is_stored_and_comes_back(make: Callable[[], ClusterRef]) -> None:
    ref = make()
    assert ref.portable
    written = json.loads(json.dumps(ref.to_json()))
    assert len(json.dumps(written)) < 1000
    assert ClusterRef.from_json(written) == ref
    assert copy.deepcopy(ref) == ref
    assert pickle.loads(pickle.dumps(ref)) == ref
    assert {ref: 1}[make()] == 1
    registry.check_kind(ref)


def test_unset_options_leave_no_trace() -> None:
    assert eks("gpu", region=None, role_arn=None) == eks("gpu")
    assert dict(eks("gpu").options) == {"cluster_name": "gpu"}
    assert eks("gpu", namespace="pods").namespace == "pods"


@pytest.mark.parametrize(
    ("make", "secret"),
    [
        (lambda: gke("gpu", location="l", key_json='{"private_key": "SECRET"}'), "SECRET"),
        (lambda: aks("gpu", **PLACE, client_id="i", tenant_id="t", client_secret="SECRET"), "SECRET"),
        (lambda: aks("gpu", **PLACE, certificate_file="/c", certificate_password="SECRET"), "SECRET"),
    ],
)
def test_an_inline_secret_is_not_stored(make: Callable[[], ClusterRef], secret: str) -> None:
    ref = make()
    assert not ref.portable
    assert secret not in repr(ref) + ref.describe()
    with pytest.raises(ConfigurationError, match=r"holds .* inline, which must not be stored") as caught:
        ref.to_json()
    assert secret not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: eks(""), "names no cluster"),
        (lambda: eks("gpu", conn_id="a", profile="b"), "has conn_id and profile, which name different credentials"),
        (lambda: eks("gpu", external_id="x"), "has external_id without role_arn"),
        (lambda: eks("gpu", session_name="x"), "has session_name without role_arn"),
        (lambda: eks("gpu", endpoint="https://x"), "has endpoint without ca_data"),
        (lambda: eks("gpu", ca_data="x"), "has ca_data without endpoint"),
        (lambda: eks("gpu", endpoint="http://x", ca_data="x"), "needs an https URL as endpoint"),
        (lambda: eks("gpu", sts_endpoint_url="sts.local"), "needs an https URL as sts_endpoint_url"),
        (lambda: eks("gpu", role_arn="airflow-pods"), "'airflow-pods', which is not like arn:aws:iam::"),
        (lambda: eks(EKS_ARN, region="us-east-2"), "region 'us-east-2', but the cluster's ARN names 'eu-west-1'"),
        (lambda: eks("gpu", region=7), "needs text as region, not int"),  # type: ignore[arg-type]
        (lambda: gke("gpu"), "names no location"),
        (lambda: gke("gpu", location="l", conn_id="c", key_file="k"), "has conn_id and key_file"),
        (lambda: gke("gpu", location="l", key_file="k", key_json="env:K"), "has key_file and key_json"),
        (lambda: gke("gpu", location="l", endpoint="internal"), "must be one of public, private, dns, connect-gat"),
        (lambda: gke("gpu", location="l", endpoint="dns", ca_data="x"), "has ca_data without the URL it belongs to"),
        (lambda: gke("gpu", location="l", membership="m"), "has a membership but not endpoint='connect-gateway'"),
        (lambda: gke("gpu", endpoint="http://x"), "needs an https URL as endpoint"),
        (lambda: gke("gpu", location="l", impersonation_chain=[1]), "needs a service account"),  # type: ignore[list-item]
        (lambda: gke(GKE_PATH, project="q"), "project 'q', but the cluster's path names 'p'"),
        (lambda: gke(GKE_PATH, location="l"), "location 'l', but the cluster's path names 'europe-west1'"),
        (lambda: aks("gpu", subscription="s"), "names no resource_group"),
        (lambda: aks("gpu", resource_group="g"), "names no subscription"),
        (lambda: aks("gpu", **PLACE, login="kubelogin"), "must be one of service-principal, managed-identity"),
        (lambda: aks("gpu", **PLACE, cloud="moon"), "must be one of public, china, usgov"),
        (lambda: aks("gpu", **PLACE, credential="root"), "must be one of user, admin"),
        (lambda: aks("gpu", **PLACE, conn_id="c", client_id="i"), "has conn_id and client_id"),
        (lambda: aks("gpu", **PLACE, client_secret="env:S", certificate_file="f"), "client_secret and certificate_f"),
        (lambda: aks("gpu", **PLACE, certificate_password="env:S"), "certificate_password without certificate_file"),
        (
            lambda: aks("gpu", **PLACE, login="azure-cli", client_secret="env:S"),
            "has client_secret, which login='azure-cli' does not use: use login='service-principal'",
        ),
        (
            lambda: aks("gpu", endpoint="https://x", ca_data="x", credential="admin"),
            "has credential='admin', which Azure has to",
        ),
        (lambda: aks("gpu", **PLACE, endpoint="dns"), "must be one of public, private, an https URL"),
        (lambda: aks("gpu", **PLACE, ca_data="x"), "has ca_data without the URL it belongs to"),
        (lambda: aks(AKS_ID, resource_group="other"), "resource_group 'other', but the cluster's resource id names"),
        (lambda: aks("gpu", **PLACE, authority_host="login.local"), "needs an https URL as authority_host"),
    ],
)
def test_what_contradicts_itself_is_refused_at_once(make: Callable[[], ClusterRef], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make()
    assert message in str(caught.value)
    assert "from the cluster= argument" in str(caught.value)


def test_an_unknown_option_is_a_mistake_in_code() -> None:
    with pytest.raises(TypeError, match=r"eks\(\) has no option regoin; it takes ca_data, conn_id"):
        eks("gpu", regoin="us-east-2")  # type: ignore[call-arg]


@pytest.mark.parametrize("kind", ["eks", "gke", "aks"])
def test_a_ref_written_by_hand_is_checked_as_well(kind: str) -> None:
    ref = ClusterRef.from_json({"kind": kind, "options": {"cluster_name": "gpu", "nam": "x"}, "source": "trigger"})
    with pytest.raises(ConfigurationError, match=f"The {kind.upper()} cluster from trigger has the unknown option nam"):
        registry.resolve(ref)
    with pytest.raises(ConfigurationError, match="names no cluster"):
        registry.resolve(ClusterRef(kind))


def test_names() -> None:
    assert eks_name(eks(EKS_ARN)) == ("gpu", "eu-west-1")
    assert gke_path(gke(GKE_PATH)) == ("p", "europe-west1", "gpu")
    assert gke_path(gke(GKE_PATH.replace("locations", "zones"))) == ("p", "europe-west1", "gpu")
    assert aks_id(aks(AKS_ID)) == ("s", "g", "gpu")
    assert aks_id(aks(AKS_ID.lower())) == ("s", "g", "gpu")


def test_naming_a_cluster_imports_nothing_heavy() -> None:
    script = (
        "import sys; from kpo_multicluster.clouds import eks, gke, aks\n"
        "eks('a'), gke('a', location='b'), aks('a', resource_group='b', subscription='c')\n"
        "heavy = {'boto3', 'botocore', 'google.auth', 'azure', 'requests', 'aiohttp', 'airflow', 'yaml'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.strip() == "[]"


def test_a_resolver_of_another_distribution_is_given_no_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    from kpo_multicluster.auth.access import ClusterAccess

    class Resolver:
        def resolve(self, ref: ClusterRef) -> ClusterAccess:
            return ClusterAccess("https://x", "test")

    class Point:
        value = "x"

        def load(self) -> Any:
            return Resolver

    monkeypatch.setattr(registry, "_entry_points", lambda: {"other": Point()})
    assert registry.resolve(ClusterRef("other"), connections=None).server == "https://x"
    nothing: Any = object()
    assert registry.resolve(ClusterRef("other"), connections=nothing).server == "https://x"
