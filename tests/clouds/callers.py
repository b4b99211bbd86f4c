"""The clouds, each with a cluster and with those who call it, behind one interface."""

from __future__ import annotations

import base64
import json
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.testing.clouds.aws import FakeAws
from kpo_multicluster.testing.clouds.azure import SERVER_ID, FakeAzure
from kpo_multicluster.testing.clouds.google import FakeGoogle
from kpo_multicluster.testing.clouds.identity import Identifier, Identity, TokenRefused
from kpo_multicluster.testing.clouds.webhook import TokenReviewer

from .servers import Server

TEAM = "0a1b2c3d-team"
ACCOUNT_A, ACCOUNT_B = "111111111111", "222222222222"
EXTERNAL_ID = "team-7"


@dataclass(frozen=True)
class Caller:
    """Someone with credentials of a cloud.

    Attributes:
        user: whom the cluster takes them for.
        ref: names the cluster, with their credentials.
        shown: what messages call them.
    """

    user: str
    ref: ClusterRef = field(repr=False)
    shown: str


class Cloud(ABC):
    """A cloud with one cluster.

    Attributes:
        name: as in the kind of a ref.
        group: that members of a team are in, as the cluster knows it; empty where a cloud tells no groups.
    """

    name: str
    group = ""

    def __init__(self, set_variable: Callable[[str, str], None]) -> None:
        # Keys are named by a ref rather than held by it, so that a deferred task may use it too.
        self._set_variable = set_variable

    @abstractmethod
    def put_cluster(self, server: Server, url: str | None = None, **fields: Any) -> TokenReviewer:
        """Makes a cluster of a new name of an API server, which trusts this cloud from now on.

        Args:
            server: the API server.
            url: where it is said to be, if not where it is.
            **fields: of the cluster, as the cloud's API has them.
        """

    @abstractmethod
    def caller(self, who: str, *, in_team: bool = False) -> Caller:
        """Someone whom both the cloud and the cluster know; their rights are still to be given."""

    @abstractmethod
    def stranger(self) -> Caller:
        """Someone whom the cloud knows and the cluster does not."""

    @abstractmethod
    def set_life(self, seconds: int) -> None:
        """How long a token is good from now on."""


class Google(Cloud):
    """GKE takes the token of any account that Google knows; a stranger's was disabled after it was issued."""

    name = "gke"

    def __init__(self, google: FakeGoogle, set_variable: Callable[[str, str], None]) -> None:
        super().__init__(set_variable)
        self._google = google

    def put_cluster(self, server: Server, url: str | None = None, **fields: Any) -> TokenReviewer:
        given = {"endpoint": (url or server.url).removeprefix("https://"), "ca_pem": server.ca_pem, **fields}
        self._cluster = self._google.add_cluster(f"gpu-{uuid.uuid4().hex[:8]}", **given)
        return server.trust(_AllBut("stranger", self._cluster))

    def caller(self, who: str, *, in_team: bool = False) -> Caller:
        email = f"{who}@my-project.iam.gserviceaccount.com"
        self._set_variable(f"KEY_OF_{who}", json.dumps(self._google.add_service_account(email).key()))
        return Caller(email, self._cluster.ref(key_json=f"env:KEY_OF_{who}"), email)

    def stranger(self) -> Caller:
        return self.caller("stranger")

    def set_life(self, seconds: int) -> None:
        self._google.token_life_seconds = seconds


class Aws(Cloud):
    """EKS in account B, for roles of that account, which a user of account A assumes; a stranger's is not mapped.

    Attributes:
        user: of account A, whose keys this process has.
        cluster: the cluster.
        server: its API server.
    """

    name = "eks"
    group = "team:pods"

    def __init__(self, aws: FakeAws, set_variable: Callable[[str, str], None]) -> None:
        super().__init__(set_variable)
        self._aws, self.user = aws, aws.add_user("airflow", account=ACCOUNT_A)
        set_variable("AWS_ACCESS_KEY_ID", self.user.access_key)
        set_variable("AWS_SECRET_ACCESS_KEY", self.user.secret_key)

    def put_cluster(self, server: Server, url: str | None = None, **fields: Any) -> TokenReviewer:
        given = {"account": ACCOUNT_B, "endpoint": url or server.url, "ca_pem": server.ca_pem, **fields}
        self.server, self.cluster = server, self._aws.add_cluster(f"gpu-{uuid.uuid4().hex[:8]}", **given)
        return server.trust(self.cluster)

    @property
    def endpoints(self) -> dict[str, str]:
        """The options of `eks()` that put the emulator in AWS's place."""
        return self._aws.endpoints

    def caller(self, who: str, *, in_team: bool = False) -> Caller:
        made = self._made(who)
        self.cluster.add_user(self.role(who), groups=(self.group,) if in_team else ())
        return made

    def stranger(self) -> Caller:
        return self._made("stranger")

    def set_life(self, seconds: int) -> None:
        self._aws.token_life_seconds = seconds

    def role(self, who: str) -> str:
        """The ARN of someone's role."""
        return f"arn:aws:iam::{ACCOUNT_B}:role/{who}"

    def _made(self, who: str) -> Caller:
        self._aws.add_role(self.role(who), trusted=(self.user.arn,), external_id=EXTERNAL_ID)
        ref = self.cluster.ref(role_arn=self.role(who), external_id=EXTERNAL_ID, session_name="dag")
        arn = f"arn:aws:sts::{ACCOUNT_B}:assumed-role/{who}/dag"
        return Caller(arn, ref, arn)


class _AllBut:
    """All tokens of a cloud but those of one account."""

    def __init__(self, name: str, identifier: Identifier) -> None:
        self._name, self._identifier = name, identifier

    def identify(self, token: str) -> Identity:
        identity = self._identifier.identify(token)
        if identity.name.startswith(f"{self._name}@"):
            raise TokenRefused(f"{identity.name} is disabled")
        return identity


class Azure(Cloud):
    """AKS takes tokens of its own tenant, and knows object ids of users and groups; a stranger is of another tenant."""

    name = "aks"
    group = TEAM

    def __init__(self, azure: FakeAzure, set_variable: Callable[[str, str], None]) -> None:
        super().__init__(set_variable)
        self._azure = azure

    def put_cluster(self, server: Server, url: str | None = None, **fields: Any) -> TokenReviewer:
        made = self._azure.add_cluster(f"gpu-{uuid.uuid4().hex[:8]}", **{"server": url or server.url, **fields})
        self._azure.set_kubeconfig(made, "User", _kubeconfig(url or server.url, server.ca_pem))
        self._cluster = made
        return server.trust(made)

    def caller(self, who: str, *, in_team: bool = False) -> Caller:
        return self._made(who, (TEAM,) if in_team else (), self._azure.tenant)

    def stranger(self) -> Caller:
        return self._made("stranger", (), "another-tenant")

    def _made(self, client_id: str, groups: tuple[str, ...], tenant: str) -> Caller:
        identity = self._azure.add_application(client_id, secret="s3cr3t-value", groups=groups, tenant=tenant)
        self._set_variable("CLIENT_SECRET", "s3cr3t-value")
        ref = self._cluster.ref(tenant_id=tenant, client_id=client_id, client_secret="env:CLIENT_SECRET")
        return Caller(identity.name, ref, f"{client_id} (object id {identity.name})")

    def set_life(self, seconds: int) -> None:
        self._azure.token_life_seconds = seconds


def _kubeconfig(url: str, ca_pem: str) -> dict[str, Any]:
    ca = base64.b64encode(ca_pem.encode()).decode()
    user = {"exec": {"command": "kubelogin", "args": ["get-token", "--server-id", SERVER_ID]}}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "gpu",
        "contexts": [{"name": "gpu", "context": {"cluster": "gpu", "user": "u"}}],
        "clusters": [{"name": "gpu", "cluster": {"server": url, "certificate-authority-data": ca}}],
        "users": [{"name": "u", "user": user}],
    }
