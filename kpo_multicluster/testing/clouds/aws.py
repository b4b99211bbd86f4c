"""An emulated AWS: STS and EKS, on loopback.

    with FakeAws() as aws:
        user = aws.add_user("airflow", account="111111111111")
        role = aws.add_role("arn:aws:iam::222222222222:role/airflow-pods", trusted=(user.arn,), external_id="team-7")
        gpu = aws.add_cluster("gpu", account="222222222222", cluster=embedded)
        gpu.add_user(role.arn, username="airflow")
        ref = gpu.ref(conn_id="aws_remote", role_arn=role.arn, external_id="team-7")

boto3 talks to it unmodified, with `endpoint_url` or `$AWS_ENDPOINT_URL_EKS` and `$AWS_ENDPOINT_URL_STS`. EKS itself is
moto's, and so is what its clusters and node groups look like; moto is imported when the first of these starts. What
moto keeps belongs to the process, so only one of these can run in it at a time.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kpo_multicluster.clouds import eks
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.testing.clouds.aws_eks import AwsName, EksApi
from kpo_multicluster.testing.clouds.aws_sts import AwsRole, AwsUser, SecurityTokens, eks_error, sts_error
from kpo_multicluster.testing.clouds.emulated_cloud import EmulatedCloud
from kpo_multicluster.testing.clouds.identity import Identity, TokenRefused
from kpo_multicluster.testing.clouds.node_groups import NodeGroup
from kpo_multicluster.testing.clouds.node_plans import eks_nodes
from kpo_multicluster.testing.clouds.server import Request, Response
from kpo_multicluster.testing.clouds.tokens import TokenBook
from kpo_multicluster.testing.clouds.verify_eks import TOKEN_LIFE_SECONDS, AccessKey, EksTokenVerifier
from kpo_multicluster.testing.clouds.verify_eks_users import EksUser, EksUsers
from kpo_multicluster.testing.tls import Authority
from kpo_multicluster.testing.topology import NodeSpec

if TYPE_CHECKING:
    from typing_extensions import Self

    from kpo_multicluster.testing.cluster import EmbeddedCluster

__all__ = ["DEFAULT_ACCOUNT", "DEFAULT_REGION", "AwsCluster", "AwsName", "AwsRole", "AwsUser", "FakeAws"]

DEFAULT_ACCOUNT = "111111111111"
DEFAULT_REGION = "us-east-2"
_ROLE_ARN = re.compile(r"arn:[\w-]+:iam::\d{12}:role/[\w+=,.@/-]+")


@dataclass(frozen=True)
class AwsCluster:
    """A cluster of an emulated AWS.

    Attributes:
        cloud: it is in.
        name: where it is.
        users: whom it knows: principals with an access entry, or listed in its ConfigMap aws-auth.
    """

    cloud: FakeAws
    name: AwsName
    users: EksUsers = field(repr=False)

    @property
    def id(self) -> str:
        """Its ARN."""
        return self.name.arn

    def identify(self, token: str) -> Identity:
        """Tells the user of the cluster whose token it is.

        Raises:
            TokenRefused: the token is not good, or the cluster does not know whom it speaks for.
        """
        return self.users.identify(token)

    def add_user(self, principal_arn: str, *, username: str = "", groups: tuple[str, ...] = ()) -> None:
        """Gives an IAM user or role an access entry.

        Args:
            principal_arn: of it.
            username: that it has in the cluster; default what EKS chooses: the ARN, of a role that of its session.
            groups: that it is in there.
        """
        self.users.add(EksUser(principal_arn, username, groups))

    def ref(self, **options: Any) -> ClusterRef:
        """How a DAG names it, with this emulator in place of AWS.

        Args:
            **options: of `eks()`, such as the credentials.
        """
        return eks(self.name.name, **{"region": self.name.region, **self.cloud.endpoints, **options})


class FakeAws(EmulatedCloud):
    """An emulated AWS, while in its `with` block. Only one may run in a process at a time.

    Args:
        token_life_seconds: for which clusters take a token from its signing; 15 minutes on real ones.
        clock: Unix time in seconds.

    Attributes:
        faults: to inject, aimed at `METHOD PATH ACTION`: `POST / AssumeRole`, `GET /clusters/gpu$`.
        node_groups: the node groups; how fast they become what they are to be, their troubles, and hooks.
        token_life_seconds: as given; may be changed at any time.
    """

    def __init__(
        self, *, token_life_seconds: float = TOKEN_LIFE_SECONDS, clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__(clock)
        self.token_life_seconds = token_life_seconds
        self._sts = SecurityTokens(self.now)
        self._eks: EksApi | None = None
        self._clusters: dict[AwsName, AwsCluster] = {}
        self._revoked: set[str] = set()

    def start(self) -> Self:
        """Starts it.

        Raises:
            ConfigurationError: moto is not installed.
        """
        if self._eks is None:
            self._eks = EksApi(self.node_groups, self._entries)
        return super().start()

    def stop(self) -> None:
        """Stops it. Harmless when it is not running."""
        try:
            super().stop()
        finally:
            if self._eks is not None:
                self._eks.stop()
                self._eks = None

    @property
    def endpoints(self) -> dict[str, str]:
        """The options of `eks()` that put it in AWS's place."""
        return {"eks_endpoint_url": self.url, "sts_endpoint_url": self.url}

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which boto3 finds it."""
        return {"AWS_ENDPOINT_URL_EKS": self.url, "AWS_ENDPOINT_URL_STS": self.url}

    # -- identities ----------------------------------------------------------------------------------------------------

    @property
    def sessions(self) -> TokenBook:
        """The sessions that were made of roles, by their access key ids: whose, until when."""
        return self._sts.sessions

    @property
    def session_seconds(self) -> float:
        """How long a role's session lasts at most, whatever is asked for."""
        return self._sts.session_seconds

    @session_seconds.setter
    def session_seconds(self, seconds: float) -> None:
        self._sts.session_seconds = seconds

    def add_user(self, name: str, *, account: str = DEFAULT_ACCOUNT) -> AwsUser:
        """Adds an IAM user with an access key."""
        return self._sts.add_user(f"arn:aws:iam::{account}:user/{name}")

    def delete_key(self, access_key: str) -> None:
        """Refuses an access key from now on."""
        self._sts.delete_key(access_key)

    def add_role(
        self,
        arn: str,
        *,
        trusted: tuple[str, ...] = ("*",),
        external_id: str | None = None,
        web_identity_tokens: tuple[str, ...] = (),
    ) -> AwsRole:
        """Adds or replaces a role.

        Args:
            arn: of it.
            trusted: ARNs of users and roles that may assume it; `*` for anyone with credentials.
            external_id: that they must give.
            web_identity_tokens: by which someone of an OIDC provider may assume it, as with IRSA.

        Raises:
            ConfigurationError: it is not the ARN of a role.
        """
        if not _ROLE_ARN.fullmatch(arn):
            raise ConfigurationError(f"{arn!r} is not the ARN of a role, such as arn:aws:iam::123456789012:role/name.")
        role = AwsRole(arn, trusted, external_id, web_identity_tokens)
        self._sts.add_role(role)
        return role

    def access_key(self, access_key: str) -> AccessKey | None:
        """What AWS knows of an access key, by its id; None for one that it does not know or no longer takes."""
        return self._sts.access_key(access_key)

    def revoke(self, token: str) -> None:
        """Refuses one token of a cluster from now on."""
        self._revoked.add(token)

    def identify(self, token: str) -> Identity:
        """Tells the ARN that a token for any of the clusters speaks for.

        Raises:
            TokenRefused: it speaks for no one.
        """
        refusal = TokenRefused("there is no cluster")
        for name in self._clusters:
            try:
                return self.identify_for(name, token)
            except TokenRefused as found:
                refusal = found
        raise refusal

    def identify_for(self, name: AwsName, token: str) -> Identity:
        """Tells the ARN that a token for one cluster speaks for.

        Raises:
            TokenRefused: it speaks for no one.
        """
        if token in self._revoked:
            raise TokenRefused("it was revoked")
        verifier = EksTokenVerifier(self.access_key, name.name, clock=self.now, life_seconds=self.token_life_seconds)
        return verifier.identify(token)

    # -- clusters ------------------------------------------------------------------------------------------------------

    def add_cluster(
        self,
        name: str,
        *,
        account: str = DEFAULT_ACCOUNT,
        region: str = DEFAULT_REGION,
        cluster: EmbeddedCluster | None = None,
        ca_pem: str | None = None,
        **fields: Any,
    ) -> AwsCluster:
        """Adds or replaces a cluster.

        Args:
            name: of it.
            account: it is in.
            region: it is in.
            cluster: whose API server it is; it runs, and takes this one's tokens from now on.
            ca_pem: CA of its API server; default that cluster's, or a new one.
            **fields: that DescribeCluster gives, in the API's form, such as `status`; None leaves one out.

        Raises:
            ConfigurationError: this AWS is not running.
        """
        made = AwsName(account, region, name)
        endpoint = f"https://{name}.{region}.eks.example"
        if cluster is not None:
            endpoint, ca_pem = cluster.server, ca_pem or cluster.ca_pem
        ca_pem = ca_pem or Authority(name).pem
        authority = {"data": base64.b64encode(ca_pem.encode()).decode()}
        given = {"endpoint": endpoint, "certificateAuthority": authority, "version": "1.34"}
        self._running().add(made, {**given, **fields})
        users = EksUsers(_Tokens(self, made))
        handle = self._clusters[made] = AwsCluster(self, made, users)
        if cluster is not None:
            cluster.accept_tokens_of(handle)
        return handle

    def remove_cluster(self, cluster: AwsCluster) -> None:
        """Takes a cluster away.

        Raises:
            ConfigurationError: this AWS is not running.
        """
        self._running().remove(cluster.name)
        self._clusters.pop(cluster.name, None)

    def _entries(self, name: AwsName) -> list[str]:
        cluster = self._clusters.get(name)
        users = cluster.users.users if cluster is not None else ()
        return [user.principal_arn for user in users if not user.in_config_map]

    def _running(self) -> EksApi:
        if self._eks is None:
            raise ConfigurationError("The emulated AWS is not running: use it in a with block, or call start().")
        return self._eks

    # -- requests ------------------------------------------------------------------------------------------------------

    def _handle(self, request: Request) -> Response:
        if request.action:
            return self._sts.handle(request)
        caller = self._sts.caller(request)
        return caller if isinstance(caller, Response) else self._running().handle(request, caller)

    def _plan(self, group: NodeGroup) -> Sequence[NodeSpec]:
        return eks_nodes(group)

    def _refuse(self, request: Request, status: int, code: str, message: str) -> Response:
        if request.action:
            return sts_error(status, code or "InternalFailure", message)
        return eks_error(status, code or "ServerException", message)

    def _action(self, request: Request) -> str:
        return request.form.get("Action", "") if request.path == "/" else ""


@dataclass(frozen=True)
class _Tokens:
    """Tells the ARNs that tokens for one cluster speak for."""

    cloud: FakeAws
    name: AwsName

    def identify(self, token: str) -> Identity:
        return self.cloud.identify_for(self.name, token)
