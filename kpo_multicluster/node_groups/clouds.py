"""Finds the cloud of a cluster."""

from __future__ import annotations

from kpo_multicluster.auth.connections import OUTSIDE_AIRFLOW, Connections
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.node_groups import aks_rules, eks_rules, gke_rules
from kpo_multicluster.node_groups.group import Cloud
from kpo_multicluster.node_groups.spec import NodeGroupSpec

KINDS = ("eks", "gke", "aks")
_CHECKS = {"eks": eks_rules.check, "gke": gke_rules.check, "aks": aks_rules.check}


def check_for(ref: ClusterRef, spec: NodeGroupSpec) -> None:
    """Refuses what can be known to be wrong without asking anyone, as a DAG is parsed.

    Raises:
        ConfigurationError: the cluster has no node groups, or the spec breaks the rules of its cloud.
    """
    _check_kind(ref)
    _CHECKS[ref.kind](spec)


def open_cloud(ref: ClusterRef, connections: Connections = OUTSIDE_AIRFLOW) -> Cloud:
    """The cloud of a cluster, with the credentials that the ref names. May block.

    Args:
        ref: of the cluster; of kind `eks`, `gke` or `aks`.
        connections: where Airflow connections are looked up; in the calling thread, before this returns.

    Raises:
        ConfigurationError: the ref cannot work, or is of a kind without node groups.
        MissingExtraError: the cloud's library is not installed.
        CredentialError: there are no credentials.
    """
    _check_kind(ref)
    if ref.kind == "eks":
        from kpo_multicluster.node_groups.eks import EksCloud

        return EksCloud(ref, connections)
    if ref.kind == "gke":
        from kpo_multicluster.node_groups.gke import GkeCloud

        return GkeCloud(ref, connections)
    from kpo_multicluster.node_groups.aks import AksCloud

    return AksCloud(ref, connections)


def _check_kind(ref: ClusterRef) -> None:
    if ref.kind not in KINDS:
        raise ConfigurationError(
            f"The cluster from {ref.source} is of kind {ref.kind!r}, which has no node groups to make: name it as one "
            "of its cloud, by eks(), gke() or aks()."
        )
