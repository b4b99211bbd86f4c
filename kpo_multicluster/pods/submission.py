"""A pod is created once and removed once, whatever becomes of the answers.

Its name is fixed before it is asked for and an annotation names the attempt that asks, so that a request whose answer
was lost can be sent again: the conflict it then meets is read, and recognised. A deletion is pinned by the pod's uid.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from kpo_multicluster.api.client import ApiClient
from kpo_multicluster.errors import ConflictError, ForbiddenError, KpoMulticlusterError, NotFoundError
from kpo_multicluster.pods.labels import ATTEMPT_ANNOTATION
from kpo_multicluster.pods.patience import Patience
from kpo_multicluster.pods.resources import pod_path, pods_path
from kpo_multicluster.pods.status import name_of, uid_of

# For a namesake to end, and for a quota that is counted anew.
_CONFLICT_SECONDS = 30.0
_CONFLICT_PAUSE_SECONDS = 0.5
_SUBMITTED_PAUSE_SECONDS = 0.3


async def create_pod(api: ApiClient, manifest: dict[str, Any], patience: Patience) -> dict[str, Any]:
    """Creates a pod, or finds that an earlier try of this very request has.

    Raises:
        ConflictError: another pod has that name.
        KpoMulticlusterError: the request was refused or not answered; `in_doubt` where there may be a pod all the same,
            which the message then names.
    """
    try:
        return await _create(api, manifest, patience)
    except KpoMulticlusterError as error:
        if error.in_doubt:
            error.args = (f"{error} Pod {name_of(manifest)} may have been created all the same.",)
        raise


async def _create(api: ApiClient, manifest: dict[str, Any], patience: Patience) -> dict[str, Any]:
    metadata, loop, in_doubt = manifest["metadata"], asyncio.get_running_loop(), False
    deadline = loop.time() + _CONFLICT_SECONDS

    async def post() -> dict[str, Any]:
        nonlocal in_doubt
        try:
            return await api.request("POST", pods_path(metadata["namespace"]), body=manifest)
        except KpoMulticlusterError as error:
            in_doubt = error.in_doubt = in_doubt or error.in_doubt
            raise

    async def existing() -> dict[str, Any] | None:
        try:
            return await read_pod(api, metadata["namespace"], metadata["name"])
        except KpoMulticlusterError as error:
            error.in_doubt = in_doubt
            raise

    while True:
        try:
            return await patience.insist(post)
        except ConflictError as conflict:
            found = await patience.insist(existing)
            if found is not None and _is_of(found, manifest):
                return found
            if found is not None and "deletionTimestamp" not in found["metadata"]:
                raise _foreign(conflict) from conflict
            if loop.time() >= deadline:
                raise
        # A pod of that name is about to go, or something else stood in the way, such as a quota being counted.
        await asyncio.sleep(_CONFLICT_PAUSE_SECONDS)


async def find_submitted(api: ApiClient, manifest: dict[str, Any], *, tries: int = 3) -> dict[str, Any] | None:
    """The pod that a request of unknown fate created, recognised by the attempt it carries; None if there is none.

    Raises:
        KpoMulticlusterError: the cluster did not answer, or does not let pods be read.
    """
    metadata = manifest["metadata"]
    for left in reversed(range(tries)):
        pod = await read_pod(api, metadata["namespace"], metadata["name"])
        if pod is not None:
            return pod if _is_of(pod, manifest) else None
        # The request may still be on its way through a proxy or an admission webhook.
        await asyncio.sleep(_SUBMITTED_PAUSE_SECONDS if left else 0)
    return None


async def read_pod(api: ApiClient, namespace: str, name: str) -> dict[str, Any] | None:
    """A pod by its name, read by whichever of the verbs get, list and watch is granted; None if there is none.

    Raises:
        ForbiddenError: none of the three is.
        KpoMulticlusterError: the cluster did not answer.
    """
    try:
        return await api.request("GET", pod_path({"metadata": {"namespace": namespace, "name": name}}))
    except NotFoundError:
        return None
    except ForbiddenError as error:
        refused = error
    path, selecting = pods_path(namespace), {"fieldSelector": f"metadata.name={name}"}
    with contextlib.suppress(ForbiddenError):
        found: list[dict[str, Any]] = (await api.request("GET", path, params=selecting)).get("items") or []
        return found[0] if found else None
    # A watch from no version on begins with what is there.
    watch = api.watch(path, resource_version="", params=selecting, timeout_seconds=1, reconnect=False)
    try:
        async with contextlib.aclosing(watch) as events:
            async for event in events:
                return event.object
    except ForbiddenError:
        raise refused from None
    return None


async def delete_pod(api: ApiClient, pod: dict[str, Any], *, grace_seconds: float | None = None) -> None:
    """Asks for a pod's deletion, pinned by its uid; one that is already gone is fine.

    Raises:
        KpoMulticlusterError: the request was refused or not answered.
    """
    options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid_of(pod)}}
    if grace_seconds is not None:
        options["gracePeriodSeconds"] = int(grace_seconds)
    with contextlib.suppress(NotFoundError, ConflictError):
        await api.request("DELETE", pod_path(pod), body=options)


def _is_of(pod: dict[str, Any], manifest: dict[str, Any]) -> bool:
    """Whether the pod was created by the attempt that the manifest names; not if it names none."""
    return _attempt(manifest) is not None and _attempt(pod) == _attempt(manifest)


def _attempt(pod: dict[str, Any]) -> str | None:
    value = (pod["metadata"].get("annotations") or {}).get(ATTEMPT_ANNOTATION)
    return None if value is None else str(value)


def _foreign(conflict: ConflictError) -> ConflictError:
    return ConflictError(
        conflict.status,
        request=conflict.request,
        reason=conflict.reason,
        body=conflict.body,
        detail=f"{conflict.detail}. It was not created by this attempt of this task: use random_name_suffix=True, "
        "or another name, or delete it",
    )
