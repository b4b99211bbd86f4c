"""`AksPodOperator`: runs a task in a pod of a cluster of Azure Kubernetes Service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kpo_multicluster.clouds import aks
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.operators.cloud import CloudPodOperator
from kpo_multicluster.operators.pod import KubernetesPodOperator

__all__ = ["AksPodOperator"]

_DEFAULT_CONN_ID = "azure_default"


class AksPodOperator(CloudPodOperator):
    """Runs a task in a pod of a cluster of Azure Kubernetes Service.

    It takes the arguments of `KubernetesPodOperator` that do not name a cluster. Tokens of Microsoft Entra are made in
    this process, without `kubelogin`, and renewed for as long as the pod runs.

    Args:
        cluster_name: name of the cluster, or its resource id. (templated)
        resource_group: of the cluster; default that of the resource id. (templated)
        subscription_id: of the cluster; default that of the resource id, else of the connection. (templated)
        azure_conn_id: a connection of type `azure`. None, or the default one where it does not exist, means
            `DefaultAzureCredential`. (templated)
        use_admin_credential: be the cluster's local administrator, in place of a user of Entra. (templated)
        use_private_endpoint: reach the API server by its private name. (templated)
        on_finish_action: what becomes of the pod; None means `delete_pod`.
        cluster_options: further options of `kpo_multicluster.clouds.aks()`, such as
            `{"login": "workload-identity"}`. (templated)
        **kwargs: of `KubernetesPodOperator`.

    Raises:
        ConfigurationError: an argument cannot work, when the DAG is parsed or once it is rendered.
    """

    _function = "aks"
    _conn_id_argument = "azure_conn_id"
    _default_conn_id = _DEFAULT_CONN_ID
    _arguments_of_options = {"resource_group": "resource_group", "subscription": "subscription_id"}
    _flags = ("in_cluster", "use_admin_credential", "use_private_endpoint")
    _naming = (
        "cluster_name",
        "resource_group",
        "subscription_id",
        "azure_conn_id",
        "use_admin_credential",
        "use_private_endpoint",
    )
    template_fields: Sequence[str] = (*KubernetesPodOperator.template_fields, *_naming, "cluster_options")

    def __init__(
        self,
        *,
        cluster_name: str,
        resource_group: str | None = None,
        subscription_id: str | None = None,
        azure_conn_id: str | None = _DEFAULT_CONN_ID,
        use_admin_credential: bool = False,
        use_private_endpoint: bool = False,
        on_finish_action: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(on_finish_action=on_finish_action, **kwargs)
        self.cluster_name = cluster_name
        self.resource_group = resource_group
        self.subscription_id = subscription_id
        self.azure_conn_id = azure_conn_id
        self.use_admin_credential = use_admin_credential
        self.use_private_endpoint = use_private_endpoint
        self._check_naming()

    def _reference(self, conn_id: str | None, options: Mapping[str, Any]) -> ClusterRef:
        named: dict[str, Any] = {
            "resource_group": self.resource_group or None,
            "subscription": self.subscription_id or None,
            "conn_id": conn_id,
            "credential": "admin" if self.use_admin_credential else None,
            "endpoint": "private" if self.use_private_endpoint else None,
        }
        return aks(self.cluster_name, **{**named, **options})

    @staticmethod
    def _credential_options() -> frozenset[str]:
        return frozenset(
            {"login", "tenant_id", "client_id", "client_secret", "certificate_file", "federated_token_file"}
        )
