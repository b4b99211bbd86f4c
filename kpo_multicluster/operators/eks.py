"""`EksPodOperator`: runs a task in a pod of a cluster of Amazon EKS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kpo_multicluster.clouds import eks
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.operators.cloud import CloudPodOperator
from kpo_multicluster.operators.pod import KubernetesPodOperator

__all__ = ["EksPodOperator"]

_DEFAULT_CONN_ID = "aws_default"


class EksPodOperator(CloudPodOperator):
    """Runs a task in a pod of a cluster of Amazon EKS.

    It takes the arguments of the amazon provider's operator of that name, and those of `KubernetesPodOperator` that do
    not name a cluster. Tokens are made in this process and renewed for as long as the pod runs.

    Args:
        cluster_name: name of the cluster, or its ARN, which names the region as well. (templated)
        in_cluster: False; True is refused. (templated)
        namespace: of the pod. (templated)
        pod_name: the same as `name`. (templated)
        aws_conn_id: a connection of type `aws`. None, or the default one where it does not exist, leaves it to boto3
            whose credentials are used. (templated)
        region: of the cluster; default that of the ARN, else of the connection or of boto3. (templated)
        on_finish_action: what becomes of the pod; None means `delete_pod`.
        cluster_options: further options of `kpo_multicluster.clouds.eks()`, such as
            `{"role_arn": "arn:aws:iam::222222222222:role/airflow-pods"}`. (templated)
        **kwargs: of `KubernetesPodOperator`.

    Raises:
        ConfigurationError: an argument cannot work, when the DAG is parsed or once it is rendered.
    """

    _function = "eks"
    _conn_id_argument = "aws_conn_id"
    _default_conn_id = _DEFAULT_CONN_ID
    _arguments_of_options = {"region": "region"}
    _naming = ("cluster_name", "region", "aws_conn_id")
    template_fields: Sequence[str] = (
        *KubernetesPodOperator.template_fields,
        *_naming,
        "in_cluster",
        "pod_name",
        "cluster_options",
    )

    def __init__(
        self,
        *,
        cluster_name: str,
        in_cluster: bool = False,
        namespace: str = "default",
        pod_name: str | None = None,
        aws_conn_id: str | None = _DEFAULT_CONN_ID,
        region: str | None = None,
        on_finish_action: str | None = None,
        **kwargs: Any,
    ) -> None:
        name = kwargs.pop("name", None)
        if name is not None and pod_name is not None and name != pod_name:
            raise ConfigurationError(
                f"EksPodOperator got name={name!r} and pod_name={pod_name!r}, which mean the same: leave one out."
            )
        super().__init__(
            in_cluster=in_cluster,
            namespace=namespace,
            name=pod_name if name is None else name,
            on_finish_action=on_finish_action,
            **kwargs,
        )
        self.cluster_name = cluster_name
        self.pod_name = pod_name
        self.aws_conn_id = aws_conn_id
        self.region = region
        self._check_naming()

    def _reference(self, conn_id: str | None, options: Mapping[str, Any]) -> ClusterRef:
        named: dict[str, Any] = {"region": self.region or None, "conn_id": conn_id}
        return eks(self.cluster_name, **{**named, **options})

    @staticmethod
    def _credential_options() -> frozenset[str]:
        return frozenset({"profile"})
