"""The clusters that the triggers of one event loop wait on: one client and one set of watches each, while in use."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, TypeVar

from asgiref.sync import sync_to_async

from kpo_multicluster.auth.diagnose import attach_findings
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.errors import ConfigurationError, KpoMulticlusterError, NodeGroupError, PodRunError
from kpo_multicluster.hooks.kubernetes import KubernetesHook
from kpo_multicluster.triggers.leases import Leases

if TYPE_CHECKING:
    from kpo_multicluster.pods.hub import PodHub

T = TypeVar("T")

# Of the hook, beside `cluster`: what names a cluster only together with a connection that may hold what is secret.
_HOOK_ARGUMENTS = ("conn_id", "in_cluster", "config_file", "cluster_context", "disable_verify_ssl")
# What a client needs takes a second to import: not on the loop.
_IMPORTED = "kpo_multicluster.pods.attend"


def stored_cluster(hook: KubernetesHook) -> dict[str, Any]:
    """How a triggerer finds the cluster of a hook: by its reference, or by the connection that holds it.

    Raises:
        ConfigurationError: an argument holds inline what must not be stored.
    """
    ref = hook.cluster_ref
    if ref.portable:
        return {"ref": ref.to_json()}
    if hook.cluster is not None or hook.config_dict or not hook.conn_id:
        # Says what is held inline, and what to name instead.
        return ref.to_json()
    given = {name: getattr(hook, name) for name in _HOOK_ARGUMENTS}
    return {"hook": {name: value for name, value in given.items() if value is not None}}


def hook_of(stored: Mapping[str, Any]) -> KubernetesHook:
    """The hook of a cluster that `stored_cluster` wrote down.

    Raises:
        ConfigurationError: it was written otherwise.
    """
    if isinstance(stored.get("ref"), Mapping):
        return KubernetesHook(None, None, cluster=ClusterRef.from_json(stored["ref"]))
    given = stored.get("hook")
    if not isinstance(given, Mapping) or not set(given) <= set(_HOOK_ARGUMENTS):
        raise ConfigurationError("The record of a deferred task names no cluster: clear the task.")
    return KubernetesHook(**{"kubernetes_conn_id": None, **given})


async def off_loop(work: Callable[[], T]) -> T:
    """Does what may block, or asks Airflow, in a thread from which Airflow can be asked."""
    return await sync_to_async(work, thread_sensitive=False)()


async def explain(error: KpoMulticlusterError, stored: Mapping[str, Any], hub: PodHub) -> None:
    """Adds to an error why the cluster refused a request of this triggerer, as far as that can be found out.

    Args:
        error: to add to, if it is a refusal.
        stored: the cluster, by `stored_cluster`.
        hub: of the cluster.
    """
    with contextlib.suppress(KpoMulticlusterError):
        ref = await off_loop(lambda: hook_of(stored).cluster_ref)
        await asyncio.to_thread(attach_findings, error, ref, hub.api.access)


def placed(failure: KpoMulticlusterError) -> KpoMulticlusterError:
    """A failure that says where it happened, if that is neither the pod nor the node group."""
    place = f" (In the triggerer on host {socket.gethostname()}.)"
    # All who wait for one thing are given one error.
    if not isinstance(failure, PodRunError | NodeGroupError) and place not in str(failure):
        failure.args = (f"{failure}{place}",)
    return failure


@contextlib.asynccontextmanager
async def hub_of(stored: Mapping[str, Any]) -> AsyncIterator[PodHub]:
    """The hub of a cluster, one for all triggers of this event loop that wait on it. A changed connection is another.

    Args:
        stored: by `stored_cluster`.

    Raises:
        ConfigurationError: the reference, or the connection, cannot work here.
        CredentialError: a credential could not be made.
        ConnectError: a cloud cannot be reached.
    """
    hook = hook_of(stored)
    # Only a connection has to be looked up.
    ref = hook.cluster if hook.cluster is not None else await off_loop(lambda: hook.cluster_ref)
    async with hubs.lease(ref, partial(_open, hook)) as hub:
        yield hub


async def _open(hook: KubernetesHook) -> PodHub:
    await asyncio.to_thread(import_module, _IMPORTED)
    from kpo_multicluster.api.client import ApiClient
    from kpo_multicluster.pods.hub import PodHub

    access = await off_loop(lambda: hook.access)
    # Here, as who has it opened may leave before it is. Tokens that are made later are not told: Airflow keeps each for
    # as long as the process runs, and with a hundred of them a further one takes a tenth of a second to add.
    await hook.credential_mask.tell_airflow_async()
    return PodHub(ApiClient(access))


async def _close(hub: PodHub) -> None:
    await hub.api.close()


# By reference.
hubs: Final[Leases[PodHub]] = Leases(_close)
