"""`GKEStartPodOperator`: runs a task in a pod of a cluster of Google Kubernetes Engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kpo_multicluster.airflow_names import conf
from kpo_multicluster.clouds import gke
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.operators.cloud import CloudPodOperator
from kpo_multicluster.operators.pod import KubernetesPodOperator

__all__ = ["GKEStartPodOperator"]

_DEFAULT_CONN_ID = "google_cloud_default"


class GKEStartPodOperator(CloudPodOperator):
    """Runs a task in a pod of a cluster of Google Kubernetes Engine.

    It takes the arguments of the google provider's operator of that name, and those of `KubernetesPodOperator` that do
    not name a cluster. Tokens are made in this process and renewed for as long as the pod runs.

    Args:
        location: region or zone of the cluster. (templated)
        cluster_name: name of the cluster, or its path `projects/P/locations/L/clusters/C`. (templated)
        use_internal_ip: reach the API server at its private address. (templated)
        use_dns_endpoint: reach it by its DNS name, whatever `use_internal_ip` says. With neither, it is the first of
            its public address, its DNS name and its private address that there is. (templated)
        project_id: of the cluster; default that of the connection or key. (templated)
        gcp_conn_id: a connection of type `google_cloud_platform`. None, or the default one where it does not exist,
            means Application Default Credentials. (templated)
        impersonation_chain: service account to impersonate, or several, each of which may impersonate the next.
            (templated)
        on_finish_action: what becomes of the pod; None means `delete_pod`.
        deferrable: as for `KubernetesPodOperator`.
        cluster_options: further options of `kpo_multicluster.clouds.gke()`, such as
            `{"endpoint": "connect-gateway"}`, which goes before the two `use_` arguments. (templated)
        **kwargs: of `KubernetesPodOperator`.

    Raises:
        ConfigurationError: an argument cannot work, when the DAG is parsed or once it is rendered.
    """

    _function = "gke"
    _conn_id_argument = "gcp_conn_id"
    _default_conn_id = _DEFAULT_CONN_ID
    _arguments_of_options = {
        "location": "location",
        "project": "project_id",
        "impersonation_chain": "impersonation_chain",
    }
    _flags = ("in_cluster", "use_internal_ip", "use_dns_endpoint")
    _naming = (
        "cluster_name",
        "location",
        "project_id",
        "gcp_conn_id",
        "impersonation_chain",
        "use_internal_ip",
        "use_dns_endpoint",
    )
    template_fields: Sequence[str] = (
        *KubernetesPodOperator.template_fields,
        *_naming,
        "deferrable",
        "cluster_options",
    )

    def __init__(  # noqa: PLR0913 - the google provider's signature
        self,
        *,
        location: str,
        cluster_name: str,
        use_internal_ip: bool = False,
        use_dns_endpoint: bool = False,
        project_id: str | None = None,
        gcp_conn_id: str | None = _DEFAULT_CONN_ID,
        impersonation_chain: str | Sequence[str] | None = None,
        on_finish_action: str | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(on_finish_action=on_finish_action, deferrable=deferrable, **kwargs)
        self.location = location
        self.cluster_name = cluster_name
        self.use_internal_ip = use_internal_ip
        self.use_dns_endpoint = use_dns_endpoint
        self.project_id = project_id
        self.gcp_conn_id = gcp_conn_id
        self.impersonation_chain = impersonation_chain
        self._check_naming()

    def _reference(self, conn_id: str | None, options: Mapping[str, Any]) -> ClusterRef:
        endpoint = "dns" if self.use_dns_endpoint else "private" if self.use_internal_ip else None
        named: dict[str, Any] = {
            "location": self.location or None,
            "project": self.project_id or None,
            "conn_id": conn_id,
            "impersonation_chain": self.impersonation_chain or None,
            "endpoint": endpoint,
        }
        return gke(self.cluster_name, **{**named, **options})

    @staticmethod
    def _credential_options() -> frozenset[str]:
        return frozenset({"key_file", "key_json", "credential_config_file"})
