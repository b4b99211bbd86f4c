"""A link from a task to its pod, for clouds whose console has a page that shows it."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote, urlencode

from kpo_multicluster.airflow_names import BaseOperator, BaseOperatorLink
from kpo_multicluster.clouds import aks_id, eks_name, gke_path
from kpo_multicluster.cluster import ClusterRef

__all__ = ["PodConsoleLink", "console_url", "has_console"]

# The host of an EKS API server names its region.
_EKS_HOST = re.compile(r"\.(?P<region>[a-z]{2}(?:-[a-z]+)+-\d+)\.eks\.amazonaws\.com(?:\.cn)?(?::\d+)?$")
_AWS_DOMAINS = {"cn-": "amazonaws.cn", "us-gov-": "amazonaws-us-gov.com"}
_AZURE_PORTALS = {None: "portal.azure.com", "china": "portal.azure.cn", "usgov": "portal.azure.us"}


class PodConsoleLink(BaseOperatorLink):
    """Leads to the pod in the console of EKS or GKE; to the workloads of its cluster in the portal of AKS.

    It is there from the moment the pod is created.
    """

    name = "Pod"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """The address, in a process that ran the task; elsewhere Airflow reads what that one has left."""
        pod, session = getattr(operator, "pod", None), getattr(operator, "_session", None)
        if pod is None or session is None:
            return ""
        metadata = pod["metadata"]
        ref: ClusterRef = operator._cluster_hook.cluster_ref
        return console_url(ref, session.access.server, metadata["namespace"], metadata["name"])


def has_console(ref: ClusterRef | None) -> bool:
    """Whether pods of a cluster can be linked to."""
    return ref is not None and ref.kind in ("eks", "gke", "aks")


def console_url(ref: ClusterRef, server: str, namespace: str, name: str) -> str:
    """The address of a pod's page; empty where none is known.

    Args:
        ref: of its cluster.
        server: URL of the cluster's API server.
        namespace: of the pod.
        name: of the pod.
    """
    if ref.kind == "eks":
        return _of_eks(ref, server, namespace, name)
    if ref.kind == "gke":
        return _of_gke(ref, namespace, name)
    return _of_aks(ref) if ref.kind == "aks" else ""


def _of_eks(ref: ClusterRef, server: str, namespace: str, name: str) -> str:
    cluster, region = eks_name(ref)
    found = _EKS_HOST.search(server)
    region = region or ref.options.get("region") or (found["region"] if found else None)
    if not region:
        return ""
    domain = next((_AWS_DOMAINS[start] for start in _AWS_DOMAINS if region.startswith(start)), "aws.amazon.com")
    query = urlencode({"namespace": namespace, "region": region})
    return f"https://{quote(region)}.console.{domain}/eks/clusters/{quote(cluster)}/pods/{quote(name)}?{query}"


def _of_gke(ref: ClusterRef, namespace: str, name: str) -> str:
    project, location, cluster = gke_path(ref)
    project, location = project or ref.options.get("project"), location or ref.options.get("location")
    if not (project and location):
        return ""
    path = "/".join(quote(part) for part in (location, cluster, namespace, name))
    return f"https://console.cloud.google.com/kubernetes/pod/{path}/details?{urlencode({'project': project})}"


def _of_aks(ref: ClusterRef) -> str:
    subscription, group, cluster = aks_id(ref)
    subscription, group = subscription or ref.options.get("subscription"), group or ref.options.get("resource_group")
    portal = _AZURE_PORTALS.get(ref.options.get("cloud"), _AZURE_PORTALS[None])
    if not (subscription and group):
        return ""
    return (
        f"https://{portal}/#resource/subscriptions/{quote(subscription)}/resourceGroups/{quote(group)}"
        f"/providers/Microsoft.ContainerService/managedClusters/{quote(cluster)}/workloads"
    )


def push_link(operator: BaseOperator, ti: Any) -> None:
    """Leaves the link of a pod where Airflow's interface reads it, while the pod runs; once it has ended, Airflow does.

    Args:
        operator: of the task.
        ti: its task instance.
    """
    for link in operator.operator_extra_links:
        if isinstance(link, PodConsoleLink):
            ti.xcom_push(key=link.xcom_key, value=link.get_link(operator, ti_key=ti))
