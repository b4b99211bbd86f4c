"""An emulated Azure: Microsoft Entra, managed identities and Azure Resource Manager's side of AKS, on loopback.

    with FakeAzure() as azure:
        azure.add_application("my-client", secret="s3cret")
        gpu = azure.add_cluster("gpu", cluster=embedded)
        ref = gpu.ref(tenant_id=azure.tenant, client_id="my-client", client_secret="env:AKS_SECRET")

Azure's own libraries insist on https for logins: whoever talks to this Azure must trust `ca_pem`, by their
`connection_verify` or, for this package, by `$REQUESTS_CA_BUNDLE`, as behind any proxy that inspects TLS.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kpo_multicluster.clouds import aks
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.testing.clouds.azure_aks import AzureName, ManagedCluster, ResourceManager, arm_error
from kpo_multicluster.testing.clouds.azure_entra import Application, EntraTokens, entra_error
from kpo_multicluster.testing.clouds.emulated_cloud import EmulatedCloud
from kpo_multicluster.testing.clouds.identity import Identity, TokenRefused
from kpo_multicluster.testing.clouds.node_groups import NodeGroup
from kpo_multicluster.testing.clouds.node_plans import aks_nodes
from kpo_multicluster.testing.clouds.server import Request, Response
from kpo_multicluster.testing.clouds.tokens import Jwt, TokenBook
from kpo_multicluster.testing.tls import Authority
from kpo_multicluster.testing.topology import NodeSpec

if TYPE_CHECKING:
    from typing_extensions import Self

    from kpo_multicluster.testing.cluster import EmbeddedCluster

__all__ = [
    "DEFAULT_GROUP",
    "DEFAULT_SUBSCRIPTION",
    "DEFAULT_TENANT",
    "SERVER_ID",
    "AzureCluster",
    "AzureName",
    "FakeAzure",
]

SERVER_ID = "6dae42f8-4368-4678-94ff-3960e28e3630"
"""The application of every AKS server in Entra."""
DEFAULT_TENANT = "72f988bf-86f1-41af-91ab-2d7cd011db47"
DEFAULT_SUBSCRIPTION = "00000000-1111-2222-3333-444444444444"
DEFAULT_GROUP = "ml"
_KUBELOGIN_CLIENT = "80faf920-1908-4b52-b5ef-a8e7bedfc67a"
_ENTRA_CODES = {400: 900144, 401: 7000215, 500: 90033, 503: 90033}


@dataclass(frozen=True)
class AzureCluster:
    """A cluster of an emulated Azure.

    Attributes:
        cloud: it is in.
        name: where it is.
        server_id: the application that its tokens are for; empty where it takes none of Entra's.
        tenant: whose tokens it takes.
    """

    cloud: FakeAzure
    name: AzureName
    server_id: str
    tenant: str

    @property
    def id(self) -> str:
        """Its resource id."""
        return self.name.id

    def identify(self, token: str) -> Identity:
        """Tells whom a token stands for, if it is for a cluster like this.

        Raises:
            TokenRefused: it stands for no one.
        """
        if not self.server_id:
            raise TokenRefused("the cluster has no integration with Microsoft Entra")
        identity = self.cloud.identify(token, audience=self.server_id)
        tenant = Jwt.parse(token).claims.get("tid")
        if tenant != self.tenant:
            raise TokenRefused(f"its tenant is {tenant}, and the cluster trusts {self.tenant}")
        return identity

    def ref(self, **options: Any) -> ClusterRef:
        """How a DAG names it, with this emulator in place of Azure.

        Args:
            **options: of `aks()`, such as the credentials.
        """
        place = {"subscription": self.name.subscription, "resource_group": self.name.resource_group}
        return aks(self.name.name, **{**place, **self.cloud.endpoints, **options})


class FakeAzure(EmulatedCloud):
    """An emulated Azure, while in its `with` block. Several may run in one process.

    Args:
        tenant: of Entra, that it begins with.
        token_life_seconds: of the tokens it issues; whole seconds.
        clock: Unix time in seconds.

    Attributes:
        tenant: the one it began with.
        faults: to inject, aimed at `METHOD PATH`: `POST .*/oauth2/v2.0/token`, `GET .*/managedClusters/gpu$`.
        record: what was asked, of both of its servers.
        tokens: that were issued: to whom, for what, until when.
        node_groups: its agent pools; how fast they become what they are to be, their troubles, and hooks.
        ca_pem: CA of its https server.
    """

    def __init__(
        self,
        *,
        tenant: str = DEFAULT_TENANT,
        token_life_seconds: int = 3600,
        clock: Callable[[], float] = time.time,
    ) -> None:
        authority = Authority("azure")
        super().__init__(clock, authority.server_context())
        self.tenant = tenant
        self.ca_pem = authority.pem
        self.tokens = TokenBook(self.now)
        self._entra = EntraTokens(self.tokens, self.now, lambda: self.url)
        self._entra.life_seconds = token_life_seconds
        self._arm = ResourceManager(self.tokens, self.node_groups, lambda: self.url)
        # The machine's own metadata service speaks http.
        self._machine = self._make_server()

    def start(self) -> Self:
        """Starts it."""
        self._machine.start()
        return super().start()

    def stop(self) -> None:
        """Stops it. Harmless when it is not running."""
        self._machine.stop()
        super().stop()

    @property
    def machine_url(self) -> str:
        """Base URL of the machine's own services: http."""
        return self._machine.url

    @property
    def endpoints(self) -> dict[str, str]:
        """The options of `aks()` that put it in Azure's place."""
        return {"authority_host": self.url, "arm_endpoint": self.url}

    @property
    def app_service_environment(self) -> dict[str, str]:
        """The variables by which a process finds its managed identity as on App Service."""
        return {"IDENTITY_ENDPOINT": f"{self.machine_url}/msi/token", "IDENTITY_HEADER": self._entra.identity_header}

    # -- identities ----------------------------------------------------------------------------------------------------

    @property
    def token_life_seconds(self) -> int:
        """How long the tokens it issues from now on last."""
        return self._entra.life_seconds

    @token_life_seconds.setter
    def token_life_seconds(self, seconds: int) -> None:
        self._entra.life_seconds = seconds

    def add_application(
        self, client_id: str, *, secret: str | None = None, groups: tuple[str, ...] = (), tenant: str | None = None
    ) -> Identity:
        """Adds or replaces an application; gives what clusters know it as.

        Args:
            client_id: of it.
            secret: that proves it.
            groups: object ids of the groups it is in.
            tenant: it is in; default the one this Azure began with.
        """
        made = Application(client_id, tenant or self.tenant, groups, secret)
        self._entra.add_application(made)
        return made.identity

    def add_certificate(self, client_id: str, pem: bytes | str) -> None:
        """Registers a certificate with an application.

        Raises:
            KeyError: there is no such application.
        """
        self._entra.add_certificate(client_id, pem)

    def federate(self, client_id: str, subject_token: str) -> None:
        """Lets the holder of another identity provider's token be an application.

        Raises:
            KeyError: there is no such application.
        """
        self._entra.application(client_id).federated_tokens.add(subject_token)

    def expire_secret(self, client_id: str) -> None:
        """Refuses the secret of an application from now on, as one that has expired.

        Raises:
            KeyError: there is no such application.
        """
        self._entra.application(client_id).secret_expired = True

    def add_managed_identity(self, client_id: str, *, groups: tuple[str, ...] = (), default: bool = False) -> Identity:
        """Gives the machine an identity.

        Args:
            client_id: of it.
            groups: object ids of the groups it is in.
            default: it is the one that is meant when none is named.
        """
        return self._entra.add_managed_identity(self.tenant, client_id, groups, default=default)

    def issue(self, client_id: str, audience: str) -> str:
        """A token of an application, as someone who logged in elsewhere would have one.

        Raises:
            KeyError: there is no such application.
        """
        return self._entra.issue(self._entra.application(client_id), audience)

    def identify(self, token: str, *, audience: str = SERVER_ID) -> Identity:
        """Tells whom a token stands for, now: an object id, with the groups it is in.

        Args:
            token: of Entra.
            audience: what it must be for.

        Raises:
            TokenRefused: it stands for no one.
        """
        issued = self.tokens.good(token)
        if issued.audience != audience:
            raise TokenRefused(f"it is for {issued.audience}, not for {audience}")
        return issued.identity

    # -- clusters ------------------------------------------------------------------------------------------------------

    def add_cluster(
        self,
        name: str | AzureName,
        *,
        cluster: EmbeddedCluster | None = None,
        server_id: str = SERVER_ID,
        server: str = "https://gpu.hcp.example:443",
        ca_pem: str | None = None,
        user: Mapping[str, Any] | None = None,
        admin: Mapping[str, Any] | None = None,
        **properties: Any,
    ) -> AzureCluster:
        """Adds or replaces a cluster.

        Args:
            name: of it, or that with its subscription and resource group in place of the default ones.
            cluster: whose API server it is; it runs, and takes this one's tokens from now on. Its administrator is the
                local account.
            server_id: the application its tokens are for.
            server: URL of its API server, where no cluster is given.
            ca_pem: CA of its API server; default that cluster's, or this Azure's own.
            user: of the kubeconfig that Azure writes, in place of one that calls kubelogin.
            admin: the user of the kubeconfig that Azure writes for the local account.
            **properties: of a managed cluster in JSON form; None leaves one out.
        """
        where = AzureName(DEFAULT_SUBSCRIPTION, DEFAULT_GROUP, name) if isinstance(name, str) else name
        if cluster is not None:
            server, ca_pem = cluster.server, ca_pem or cluster.ca_pem
            admin = admin or cluster.kubeconfig(certificate=True)["users"][0]["user"]
        whole = {
            "provisioningState": "Succeeded",
            "powerState": {"code": "Running"},
            "kubernetesVersion": "1.34",
            "fqdn": server.partition("://")[2].partition(":")[0],
            "aadProfile": {"managed": True, "enableAzureRBAC": False, "tenantID": self.tenant},
            **properties,
        }
        whole = {key: value for key, value in whole.items() if value is not None}
        profile, ca_pem = whole.get("aadProfile"), ca_pem or self.ca_pem
        kubeconfigs = {"User": _kubeconfig(where.name, server, ca_pem, user or self._kubelogin(server_id))}
        if admin is not None:
            kubeconfigs["Admin"] = _kubeconfig(where.name, server, ca_pem, admin)
        self._arm.add(ManagedCluster(where, "westeurope", whole, kubeconfigs))
        tenant = str(profile.get("tenantID")) if isinstance(profile, dict) else ""
        handle = AzureCluster(self, where, server_id if profile else "", tenant)
        if cluster is not None:
            cluster.accept_tokens_of(handle)
        return handle

    def set_kubeconfig(self, cluster: AzureCluster, kind: str, kubeconfig: Mapping[str, Any]) -> None:
        """Lets Azure write another kubeconfig of a cluster.

        Args:
            cluster: of this Azure.
            kind: `User` or `Admin`.
            kubeconfig: the whole of it.

        Raises:
            KeyError: there is no such cluster.
        """
        self._arm.set_kubeconfig(cluster.name, kind, kubeconfig)

    def remove_cluster(self, cluster: AzureCluster) -> None:
        """Takes a cluster away."""
        self._arm.remove(cluster.name)

    def _kubelogin(self, server_id: str) -> dict[str, Any]:
        arguments = ["get-token", "--environment", "AzurePublicCloud", "--server-id", server_id]
        arguments += ["--client-id", _KUBELOGIN_CLIENT, "--tenant-id", self.tenant, "--login", "devicecode"]
        entry = {"apiVersion": "client.authentication.k8s.io/v1beta1", "command": "kubelogin", "args": arguments}
        return {"exec": {**entry, "env": None, "provideClusterInfo": False}}

    # -- requests ------------------------------------------------------------------------------------------------------

    def _handle(self, request: Request) -> Response:
        path = request.path
        if path.endswith("/.well-known/openid-configuration"):
            return self._entra.discovery(request)
        if path.endswith("/oauth2/v2.0/token") and request.method == "POST":
            return self._entra.token(request)
        if path in ("/msi/token", "/metadata/identity/oauth2/token"):
            return self._entra.managed(request)
        if path.lower().startswith("/subscriptions/"):
            return self._arm.handle(request)
        return arm_error(404, "NotFound", f"{path} was not found.")

    def _plan(self, group: NodeGroup) -> Sequence[NodeSpec]:
        return aks_nodes(group)

    def _refuse(self, request: Request, status: int, code: str, message: str) -> Response:
        if request.path.endswith("/token"):
            return entra_error(status, code or "invalid_request", _ENTRA_CODES.get(status, 90033), message)
        return arm_error(status, code or "InternalServerError", message)


def _kubeconfig(name: str, server: str, ca_pem: str, user: Mapping[str, Any]) -> dict[str, Any]:
    ca = base64.b64encode(ca_pem.encode()).decode()
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "contexts": [{"name": name, "context": {"cluster": name, "user": f"clusterUser_{name}"}}],
        "clusters": [{"name": name, "cluster": {"server": server, "certificate-authority-data": ca}}],
        "users": [{"name": f"clusterUser_{name}", "user": dict(user)}],
    }
