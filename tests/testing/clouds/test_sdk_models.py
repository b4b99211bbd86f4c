"""What the emulators answer, held against the models of the clouds' own libraries: nothing in it is made up."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import pytest

from kpo_multicluster.testing.clouds import FakeAws, FakeAzure, FakeGoogle
from kpo_multicluster.testing.clouds.azure import DEFAULT_SUBSCRIPTION, SERVER_ID
from kpo_multicluster.testing.clouds.google_container import CONDITION_CODES
from kpo_multicluster.testing.clouds.node_groups import ChangeKind, Pace, Trouble

Ask = Callable[..., Any]

STEP_SECONDS = 60


def take_time(cloud: FakeAws | FakeAzure | FakeGoogle) -> None:
    """From now on changes last until the next `settle`."""
    cloud.node_groups.pace = Pace(STEP_SECONDS, STEP_SECONDS, STEP_SECONDS)


def settle(cloud: FakeAws | FakeAzure | FakeGoogle) -> None:
    # Less than the difference of clocks that signatures and logins are forgiven.
    cloud.skew_seconds += STEP_SECONDS
    cloud.node_groups.advance()


# -- AWS: botocore's description of the services -----------------------------------------------------------------------


def made_up(shape: Any, value: Any, path: str = "") -> list[str]:
    """Members and values that a shape of botocore's does not have."""
    if shape.type_name == "structure":
        unknown = [f"{path}.{name}" for name in value if name not in shape.members]
        known = [name for name in value if name in shape.members]
        return unknown + [
            fault for name in known for fault in made_up(shape.members[name], value[name], f"{path}.{name}")
        ]
    if shape.type_name == "list":
        return [fault for item in value for fault in made_up(shape.member, item, f"{path}[]")]
    return [f"{path} is {value!r}"] if shape.type_name == "string" and value not in (shape.enum or [value]) else []


@pytest.fixture
def ask_eks(aws: FakeAws) -> Ask:
    """Asks EKS through boto3, which checks the question; the answer is checked here."""
    import boto3

    user = aws.add_user("airflow")
    cluster = aws.add_cluster("gpu", accessConfig={"authenticationMode": "API"})
    cluster.add_user(user.arn)
    keys = {"aws_access_key_id": user.access_key, "aws_secret_access_key": user.secret_key}
    client = boto3.client("eks", region_name="us-east-2", endpoint_url=aws.url, **keys)
    found: list[str] = []

    def check(http_response: Any, model: Any, **_: Any) -> None:
        found.extend(made_up(model.output_shape, json.loads(http_response.text)))

    client.meta.events.register("after-call.eks", check)

    def ask(operation: str, **arguments: Any) -> Any:
        answer = getattr(client, operation)(**arguments)
        assert found == [], operation
        return answer

    return ask


def test_eks(aws: FakeAws, ask_eks: Ask) -> None:
    assert ask_eks("describe_cluster", name="gpu")["cluster"]["status"] == "ACTIVE"
    assert ask_eks("list_clusters")["clusters"] == ["gpu"]
    assert ask_eks("list_access_entries", clusterName="gpu")["accessEntries"] == [
        "arn:aws:iam::111111111111:user/airflow"
    ]
    group = {"clusterName": "gpu", "nodegroupName": "gpus"}

    def status() -> str:
        return str(ask_eks("describe_nodegroup", **group)["nodegroup"]["status"])

    take_time(aws)
    scaling = {"minSize": 0, "maxSize": 9, "desiredSize": 1}
    role = "arn:aws:iam::111111111111:role/node"
    made = ask_eks("create_nodegroup", **group, subnets=["subnet-a"], nodeRole=role, scalingConfig=scaling)
    assert made["nodegroup"]["status"] == status() == "CREATING"
    settle(aws)
    assert status() == "ACTIVE"
    aws.node_groups.fail_next(ChangeKind.RESIZE, Trouble("AsgInstanceLaunchFailures", "no capacity"))
    update = ask_eks("update_nodegroup_config", **group, scalingConfig={"desiredSize": 2})["update"]
    asked = {"name": "gpu", "nodegroupName": "gpus", "updateId": update["id"]}
    assert (update["status"], status()) == ("InProgress", "UPDATING")
    settle(aws)
    assert (ask_eks("describe_update", **asked)["update"]["status"], status()) == ("Failed", "DEGRADED")
    aws.node_groups.fail_next(ChangeKind.DELETE, Trouble("AccessDenied", "may not"))
    assert ask_eks("delete_nodegroup", **group)["nodegroup"]["status"] == status() == "DELETING"
    settle(aws)
    assert status() == "DELETE_FAILED"
    ask_eks("delete_nodegroup", **group)
    settle(aws)
    assert ask_eks("list_nodegroups", clusterName="gpu")["nodegroups"] == []


def test_sts(aws: FakeAws) -> None:
    import boto3
    from botocore.model import ServiceModel

    user = aws.add_user("airflow")
    role = aws.add_role("arn:aws:iam::222222222222:role/r", web_identity_tokens=("eyJ.jwt.signature",))
    keys = {"aws_access_key_id": user.access_key, "aws_secret_access_key": user.secret_key}
    client = boto3.client("sts", region_name="us-east-2", endpoint_url=aws.url, **keys)
    model: ServiceModel = client.meta.service_model
    session = {"RoleArn": role.arn, "RoleSessionName": "dag"}
    answers = {
        "GetCallerIdentity": client.get_caller_identity(),
        "AssumeRole": client.assume_role(**session),
        "AssumeRoleWithWebIdentity": client.assume_role_with_web_identity(
            **session, WebIdentityToken="eyJ.jwt.signature"
        ),
    }
    required = {
        "GetCallerIdentity": {"Arn", "UserId", "Account"},
        "AssumeRole": {"Credentials", "AssumedRoleUser"},
        "AssumeRoleWithWebIdentity": {"Credentials", "AssumedRoleUser"},
    }
    for operation, answer in answers.items():
        shape = model.operation_model(operation).output_shape
        assert set(answer) - {"ResponseMetadata"} == required[operation] <= set(shape.members)
        for name in required[operation]:
            if isinstance(answer[name], dict):
                assert set(shape.members[name].required_members) <= set(answer[name])


# -- Google: the messages of google.container.v1 -----------------------------------------------------------------------


@pytest.fixture
def container() -> Any:
    return pytest.importorskip("google.cloud.container_v1", reason="google-cloud-container is not installed")


def test_gke(google: FakeGoogle, container: Any) -> None:
    from requests import Session

    service_account: Any = import_module("google.oauth2.service_account")

    account = google.add_service_account("airflow@my-project.iam.gserviceaccount.com")
    scopes = ["https://www.googleapis.com/auth/cloud-platform"]
    credentials = service_account.Credentials.from_service_account_info(account.key(), scopes=scopes)
    client = container.ClusterManagerClient(
        credentials=credentials, transport="rest", client_options={"api_endpoint": google.url}
    )
    path = google.add_cluster("gpu").name.resource_name
    pool_path, place = f"{path}/nodePools/gpus", path.partition("/clusters")[0]
    statuses = container.NodePool.Status

    def strict(message: Any, of: str) -> Any:
        """The answer, read by the model, which knows each of its fields."""
        with Session() as session:
            token = client.transport._credentials.token
            text = session.get(f"{google.url}/v1/{of}", headers={"Authorization": f"Bearer {token}"}).text
        return message.from_json(text, ignore_unknown_fields=False)

    assert client.get_cluster(name=path).status is container.Cluster.Status.RUNNING
    assert strict(container.Cluster, path).endpoint == "203.0.113.7"
    take_time(google)
    pool = container.NodePool(name="gpus", initial_node_count=1, config={"machine_type": "a2-highgpu-1g", "spot": True})
    operation = client.create_node_pool(parent=path, node_pool=pool)
    assert operation.operation_type is container.Operation.Type.CREATE_NODE_POOL
    assert client.get_node_pool(name=pool_path).status is statuses.PROVISIONING
    settle(google)
    found = strict(container.NodePool, pool_path)
    assert (found.status, found.config) == (statuses.RUNNING, pool.config)
    assert strict(container.Operation, f"{place}/operations/{operation.name}").status is container.Operation.Status.DONE
    google.node_groups.fail_next(ChangeKind.RESIZE, Trouble("GCE_STOCKOUT", "no capacity"))
    operation = client.set_node_pool_size(request={"name": pool_path, "node_count": 3})
    settle(google)
    ended = strict(container.Operation, f"{place}/operations/{operation.name}")
    assert (ended.status, ended.error.code) == (container.Operation.Status.DONE, 8)
    found = strict(container.NodePool, pool_path)
    assert found.status is statuses.RUNNING_WITH_ERROR
    assert found.conditions[0].code is container.StatusCondition.Code.GCE_STOCKOUT
    client.set_node_pool_autoscaling(request={"name": pool_path, "autoscaling": {"enabled": True, "max_node_count": 4}})
    settle(google)
    assert strict(container.Cluster, path).node_pools[0].autoscaling.max_node_count == 4
    assert len(strict(container.ListNodePoolsResponse, f"{path}/nodePools").node_pools) == 1
    assert len(strict(container.ListOperationsResponse, f"{place}/operations").operations) == 3
    client.delete_node_pool(name=pool_path)
    assert client.get_node_pool(name=pool_path).status is statuses.STOPPING
    settle(google)
    assert client.list_node_pools(parent=path).node_pools == []
    assert len(strict(container.ListClustersResponse, "projects/my-project/locations/-/clusters").clusters) == 1


def test_codes_of_gke(container: Any) -> None:
    assert set(CONDITION_CODES) <= {code.name for code in container.StatusCondition.Code}


# -- Azure: the models of azure-mgmt-containerservice ------------------------------------------------------------------


def foreign(model: Any, value: Mapping[str, Any], path: str = "") -> list[str]:
    """Fields that a model does not have."""
    model()  # what fields it has is known from its first instance on
    fields = {field._rest_name: field for field in model._attr_to_rest_field.values()}
    found = []
    for name, inner in value.items():
        if name not in fields:
            found.append(f"{path}.{name}")
        elif isinstance(inner, dict) and hasattr(fields[name]._class_type, "_attr_to_rest_field"):
            found += foreign(fields[name]._class_type, inner, f"{path}.{name}")
    return found


def test_aks(azure: FakeAzure, azure_ca: str) -> None:
    service = pytest.importorskip("azure.mgmt.containerservice", reason="azure-mgmt-containerservice is not installed")
    from azure.identity import ClientSecretCredential

    models = service.models
    azure.add_application("client", secret="s3cret")
    azure.add_cluster("gpu", disableLocalAccounts=True)
    take_time(azure)
    login = {"authority": azure.url, "disable_instance_discovery": True, "connection_verify": azure_ca}
    scopes = [f"{azure.url}/.default"]
    with (
        ClientSecretCredential(azure.tenant, "client", "s3cret", **login) as credential,
        service.ContainerServiceClient(
            credential,
            DEFAULT_SUBSCRIPTION,
            base_url=azure.url,
            connection_verify=azure_ca,
            credential_scopes=scopes,
            polling_interval=0.01,
        ) as client,
    ):
        cluster = client.managed_clusters.get("ml", "gpu")
        assert foreign(models.ManagedCluster, cluster.as_dict()) == []
        assert cluster.properties.disable_local_accounts
        assert [found.name for found in client.managed_clusters.list()] == ["gpu"]
        credentials = client.managed_clusters.list_cluster_user_credentials("ml", "gpu", format="exec")
        assert SERVER_ID in credentials.kubeconfigs[0].value.decode()
        pool = {"properties": {"count": 1, "vmSize": "Standard_NC4as_T4_v3", "mode": "User"}}
        pools, gpus = client.agent_pools, ("ml", "gpu", "gpus")
        poller = pools.begin_create_or_update(*gpus, pool)
        assert pools.get(*gpus).properties.provisioning_state == "Creating"
        settle(azure)
        made = poller.result()
        assert foreign(models.AgentPool, made.as_dict()) == []
        assert (made.properties.provisioning_state, made.properties.count) == ("Succeeded", 1)
        azure.node_groups.fail_next(ChangeKind.RESIZE, Trouble("QuotaExceeded", "no quota"))
        made.properties.count = 3
        poller = pools.begin_create_or_update(*gpus, made)
        settle(azure)
        with pytest.raises(Exception, match=r"\(QuotaExceeded\) no quota"):
            poller.result()
        assert pools.get(*gpus).properties.provisioning_state == "Failed"
        assert len(client.managed_clusters.get("ml", "gpu").properties.agent_pool_profiles) == 1
        poller = pools.begin_delete(*gpus)
        settle(azure)
        poller.result()
        assert list(pools.list("ml", "gpu")) == []
