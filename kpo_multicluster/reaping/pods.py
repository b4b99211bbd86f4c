"""The pods of a cluster that were made here, known by their annotations: upstream's operator has the same labels."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from functools import partial
from typing import Any

from kpo_multicluster.api.client import ApiClient
from kpo_multicluster.errors import ForbiddenError
from kpo_multicluster.pods.labels import ATTEMPT_ANNOTATION, POD_CHECKED_KEY, POD_CHECKED_VALUE, RUN_ANNOTATION
from kpo_multicluster.pods.resources import all_pods_path, pods_path
from kpo_multicluster.pods.submission import delete_pod
from kpo_multicluster.reaping.leftovers import Leftover

KIND = "pod"
_PAGE = 500


async def pods_of(api: ApiClient, *, where: str, namespace: str | None = None) -> list[Leftover]:
    """All pods that were made here.

    Args:
        api: of the cluster.
        where: the cluster, a phrase for messages.
        namespace: to look in; None for all.

    Raises:
        ForbiddenError: who asks may not list pods there.
        CredentialError: who asks was refused.
        ConnectError: the cluster cannot be reached.
    """
    return [_leftover(api, pod, where) async for pod in _listed(api, namespace) if _is_ours(pod)]


async def _listed(api: ApiClient, namespace: str | None) -> AsyncIterator[dict[str, Any]]:
    path = all_pods_path() if namespace is None else pods_path(namespace)
    params = {"labelSelector": "kubernetes_pod_operator=True", "limit": str(_PAGE)}
    while True:
        try:
            page = await api.request("GET", path, params=params)
        except ForbiddenError as error:
            if namespace is None:
                error.args = (f"{error} Name a namespace in which pods may be listed, or have a ClusterRole grant it.",)
            raise
        for pod in page.get("items") or ():
            yield pod
        following = (page.get("metadata") or {}).get("continue")
        if not following:
            return
        params = {**params, "continue": following}


def _is_ours(pod: dict[str, Any]) -> bool:
    return ATTEMPT_ANNOTATION in (pod["metadata"].get("annotations") or {})


def _leftover(api: ApiClient, pod: dict[str, Any], where: str) -> Leftover:
    metadata, status = pod["metadata"], pod.get("status") or {}
    created = datetime.fromisoformat(metadata["creationTimestamp"].replace("Z", "+00:00"))
    return Leftover(
        KIND,
        f"{metadata['namespace']}/{metadata['name']}",
        where,
        str(status.get("phase") or "Unknown"),
        created.timestamp(),
        partial(delete_pod, api, pod),
        run=metadata["annotations"].get(RUN_ANNOTATION),
        leaving="deletionTimestamp" in metadata,
        kept=(metadata.get("labels") or {}).get(POD_CHECKED_KEY) == POD_CHECKED_VALUE,
    )
