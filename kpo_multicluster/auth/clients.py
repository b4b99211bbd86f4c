"""The official `kubernetes` client for any cluster, for users' own code.

    from kubernetes import client
    from kpo_multicluster.auth.clients import api_client
    from kpo_multicluster.cluster import kubeconfig

    with api_client(kubeconfig(context="gpu")) as gpu:
        print(client.CoreV1Api(gpu).list_namespace())

The asyncio client likewise, where the extra `async` is installed:

    from kubernetes_asyncio import client
    from kpo_multicluster.auth.clients import async_api_client

    async with await async_api_client(kubeconfig(context="gpu")) as gpu:
        print(await client.CoreV1Api(gpu).list_namespace())

Each client has a configuration of its own: the process-wide default is neither read nor written, so any number of
clusters can be used side by side, from any number of threads.
"""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from typing import TYPE_CHECKING

from kpo_multicluster.auth.access import ClusterAccess
from kpo_multicluster.auth.connections import Connections
from kpo_multicluster.auth.registry import resolve
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.errors import MissingExtraError

if TYPE_CHECKING:
    from kubernetes.client import ApiClient
    from kubernetes_asyncio.client import ApiClient as AsyncApiClient


def api_client(cluster: ClusterRef | ClusterAccess, *, connections: Connections | None = None) -> ApiClient:
    """An `ApiClient` of the official library, releases 36 and 37.

    The credential is renewed before it ends, whichever thread asks. A request, or the handshake of `kubernetes.stream`,
    that is refused with 401 is sent once more with a new one. No credential or CA is written to a disk. A request
    without a timeout of its own waits 10 s to connect and without end for the answer.

    Two things `kubernetes.stream` cannot do are refused rather than done wrongly: it sends no impersonation headers,
    and it knows no proxies but http ones. It also needs `memfd_create`, which Linux has.

    Args:
        cluster: its reference, or access that is already resolved.
        connections: where to look up a connection that the reference names; in a task,
            `kpo_multicluster.hooks.connections.AirflowConnections()`.

    Returns:
        The client. Close it, or use it in a `with` statement.

    Raises:
        ConfigurationError: the reference, the TLS material or the proxy cannot work.
        CredentialError: the credential could not be made.
        ConnectError: the cluster is not up, or its cloud cannot be reached.
    """
    from kpo_multicluster.auth.renewing_client import RenewingApiClient

    access = resolve(cluster, connections=connections) if isinstance(cluster, ClusterRef) else cluster
    return RenewingApiClient(access)


async def async_api_client(
    cluster: ClusterRef | ClusterAccess, *, connections: Connections | None = None, websockets: bool = False
) -> AsyncApiClient:
    """An `ApiClient` of the official asyncio library, `kubernetes_asyncio`, for use on the running loop.

    The credential is renewed before it ends, off the loop. A request, or the handshake of a WebSocket, that is refused
    with 401 is sent once more with a new one. No credential or CA is written to a disk. A request without a timeout of
    its own waits 10 s to connect and without end for the answer.

    Args:
        cluster: its reference, or access that is already resolved. Resolving may ask a cloud, on another thread.
        connections: where to look up a connection that the reference names, on that thread. In a task of Airflow, which
            may be asked on one thread only, give `KubernetesHook(...).access` as the cluster instead.
        websockets: whether the client is for `exec`, `attach` and `portforward`, as the library's `WsApiClient` is, in
            place of requests.

    Returns:
        The client. Close it, or use it in an `async with` statement.

    Raises:
        MissingExtraError: `kubernetes_asyncio` is not installed.
        ConfigurationError: the reference, the TLS material or the proxy cannot work.
        CredentialError: the credential could not be made.
        ConnectError: the cluster is not up, or its cloud cannot be reached.
    """
    if find_spec("kubernetes_asyncio") is None:
        raise MissingExtraError("async_api_client", "async")
    from kpo_multicluster.auth.renewing_async import make_client

    if isinstance(cluster, ClusterRef):
        cluster = await asyncio.to_thread(resolve, cluster, connections=connections)
    return await make_client(cluster, websockets=websockets)
