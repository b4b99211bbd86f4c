"""An emulated Google Cloud: its token services and the Kubernetes Engine API, on loopback.

    with FakeGoogle() as google:
        account = google.add_service_account("airflow@my-project.iam.gserviceaccount.com")
        gpu = google.add_cluster("gpu", cluster=embedded)
        ref = gpu.ref(key_json=json.dumps(account.key()))

Official client libraries talk to it unmodified: `google.auth` follows the `token_uri` of a key, the `token_url` of a
federation's configuration and `$GCE_METADATA_HOST`; `google.cloud.container_v1` takes it as `api_endpoint` with
`transport="rest"`.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from kpo_multicluster.auth.gke_cluster import GkeName
from kpo_multicluster.clouds import gke
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.testing.clouds.emulated_cloud import EmulatedCloud
from kpo_multicluster.testing.clouds.google_container import ContainerApi
from kpo_multicluster.testing.clouds.google_tokens import (
    FederatedSubject,
    GoogleTokens,
    ServiceAccount,
    api_error,
    oauth_error,
)
from kpo_multicluster.testing.clouds.identity import Identity
from kpo_multicluster.testing.clouds.node_groups import NodeGroup
from kpo_multicluster.testing.clouds.node_plans import gke_nodes
from kpo_multicluster.testing.clouds.server import Request, Response
from kpo_multicluster.testing.clouds.tokens import TokenBook
from kpo_multicluster.testing.tls import Authority
from kpo_multicluster.testing.topology import NodeSpec

if TYPE_CHECKING:
    from kpo_multicluster.testing.cluster import EmbeddedCluster

__all__ = ["DEFAULT_LOCATION", "DEFAULT_PROJECT", "FakeGoogle", "GoogleCluster", "ServiceAccount"]

DEFAULT_PROJECT = "my-project"
DEFAULT_LOCATION = "europe-west1"
_STATUS_NAMES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
}


@dataclass(frozen=True)
class GoogleCluster:
    """A cluster of an emulated Google.

    Attributes:
        cloud: it is in.
        name: of it.
    """

    cloud: FakeGoogle
    name: GkeName

    @property
    def id(self) -> str:
        """Its resource name."""
        return self.name.resource_name

    def identify(self, token: str) -> Identity:
        """Tells whom a token stands for: any of Google's will do, as they have no audience.

        Raises:
            TokenRefused: it stands for no one.
        """
        return self.cloud.identify(token)

    def ref(self, **options: Any) -> ClusterRef:
        """How a DAG names it, with this emulator in place of Google.

        Args:
            **options: of `gke()`, such as the credentials.
        """
        place = {"project": self.name.project, "location": self.name.location}
        return gke(self.name.name, **{**place, **self.cloud.endpoints, **options})


class FakeGoogle(EmulatedCloud):
    """An emulated Google Cloud, while in its `with` block. Several may run in one process.

    Args:
        token_life_seconds: of the tokens it issues.
        clock: Unix time in seconds.

    Attributes:
        faults: to inject, aimed at `METHOD PATH`: `POST /token`, `POST .*:generateAccessToken`, `GET /v1/projects/`.
        tokens: that were issued: to whom, for which scopes, until when.
        node_groups: its node pools; how fast they become what they are to be, their troubles, and hooks.
    """

    def __init__(self, *, token_life_seconds: float = 3600.0, clock: Callable[[], float] = time.time) -> None:
        super().__init__(clock)
        self.tokens = TokenBook(self.now)
        self._issuer = GoogleTokens(self.tokens, self.now, lambda: self.url)
        self._issuer.life_seconds = token_life_seconds
        self._container = ContainerApi(self._issuer.for_api, self.node_groups, lambda: self.url)

    @property
    def endpoints(self) -> dict[str, str]:
        """The options of `gke()` that put it in Google's place."""
        return {"api_endpoint": self.url, "iam_endpoint": self.url}

    @property
    def metadata_host(self) -> str:
        """For `$GCE_METADATA_HOST`."""
        return urlsplit(self.url).netloc

    # -- identities ----------------------------------------------------------------------------------------------------

    @property
    def token_life_seconds(self) -> float:
        """How long the tokens it issues from now on last."""
        return self._issuer.life_seconds

    @token_life_seconds.setter
    def token_life_seconds(self, seconds: float) -> None:
        self._issuer.life_seconds = seconds

    @property
    def node_account(self) -> str | None:
        """Whose tokens the metadata server hands out; None for a machine that is none of Google's."""
        return self._issuer.node_account

    @node_account.setter
    def node_account(self, email: str | None) -> None:
        self._issuer.node_account = email

    def add_service_account(self, email: str, *, project: str = DEFAULT_PROJECT) -> ServiceAccount:
        """Adds a service account; for one that is there, replaces its key."""
        return self._issuer.add_account(email, project)

    def delete_key(self, email: str) -> None:
        """Refuses the key of a service account from now on; its tokens serve on until their end."""
        self._issuer.delete_key(email)

    def add_user(self, email: str, *, refresh_token: str) -> None:
        """Adds someone who logged in with gcloud."""
        self._issuer.add_user(email, refresh_token)

    def federate(self, *, audience: str, subject_token: str, principal: str) -> None:
        """Lets someone of another identity provider in.

        Args:
            audience: of the provider in a workload identity pool.
            subject_token: by which they prove who they are.
            principal: what Google calls them, `principal://iam.googleapis.com/...`.
        """
        self._issuer.add_subject(FederatedSubject(audience, subject_token, principal))

    def allow_impersonation(self, target: str, *, by: str) -> None:
        """Lets one identity (`*`: any) make tokens of a service account."""
        self._issuer.allow_impersonation(target, by=by)

    def identify(self, token: str) -> Identity:
        """Tells whom a token stands for, now: an e-mail address, or a number where the token lacks the scope for it.

        Raises:
            TokenRefused: it stands for no one.
        """
        return self.tokens.good(token).identity

    # -- clusters ------------------------------------------------------------------------------------------------------

    def add_cluster(
        self,
        name: str,
        *,
        project: str = DEFAULT_PROJECT,
        location: str = DEFAULT_LOCATION,
        cluster: EmbeddedCluster | None = None,
        ca_pem: str | None = None,
        **fields: Any,
    ) -> GoogleCluster:
        """Adds or replaces a cluster.

        Args:
            name: of it.
            project: it is in.
            location: its region or zone.
            cluster: whose API server is at its public endpoint; it runs, and takes Google's tokens from now on.
            ca_pem: CA of its API server; default that cluster's, or a new one.
            **fields: of `google.container.v1.Cluster` in JSON form; None leaves one out.
        """
        made = GkeName(project, location, name)
        endpoint = "203.0.113.7"
        if cluster is not None:
            endpoint, ca_pem = urlsplit(cluster.server).netloc, ca_pem or cluster.ca_pem
        ca_pem = ca_pem or Authority(name).pem
        given = {
            "endpoint": endpoint,
            "masterAuth": {"clusterCaCertificate": base64.b64encode(ca_pem.encode()).decode()},
        }
        self._container.add(made, {**given, **fields})
        handle = GoogleCluster(self, made)
        if cluster is not None:
            cluster.accept_tokens_of(handle)
        return handle

    def remove_cluster(self, cluster: GoogleCluster) -> None:
        """Takes a cluster away."""
        self._container.remove(cluster.name)

    # -- requests ------------------------------------------------------------------------------------------------------

    def _handle(self, request: Request) -> Response:
        path, method = request.path, request.method
        if path == "/" or path.startswith("/computeMetadata/"):
            return self._issuer.metadata(request)
        if (method, path) == ("POST", "/token"):
            return self._issuer.token(request)
        if (method, path) == ("POST", "/v1/token"):
            return self._issuer.exchange(request)
        if path.endswith(":generateAccessToken"):
            return self._issuer.impersonate(request)
        if path.startswith("/v1/projects/"):
            return self._container.handle(request)
        return api_error(404, "NOT_FOUND", f"Not found: {path}.")

    def _plan(self, group: NodeGroup) -> Sequence[NodeSpec]:
        return gke_nodes(group, self._container.zones_of(group))

    def _refuse(self, request: Request, status: int, code: str, message: str) -> Response:
        if request.path in ("/token", "/v1/token"):
            return oauth_error(status, code or ("server_error" if status >= 500 else "invalid_request"), message)
        return api_error(status, code or _STATUS_NAMES.get(status, "INTERNAL"), message)
