"""Whom an EKS cluster takes an IAM principal for: its access entries, and its ConfigMap kube-system/aws-auth.

Source: Amazon EKS, "Create access entries" and "Grant IAM users access to Kubernetes with a ConfigMap";
aws-iam-authenticator, `pkg/arn` and `pkg/server`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from kpo_multicluster.testing.clouds.identity import Identifier, Identity, TokenRefused

_SESSION = re.compile(
    r"arn:(?P<partition>[\w-]+):sts::(?P<account>\d{12}):assumed-role/(?P<role>.+)/(?P<session>[^/]+)"
)
_ROLE = re.compile(r"arn:(?P<partition>[\w-]+):iam::(?P<account>\d{12}):role/(?P<path>.*/)?(?P<role>[^/]+)")


@dataclass(frozen=True)
class EksUser:
    """A principal that a cluster knows.

    Attributes:
        principal_arn: of an IAM user or role.
        username: in Kubernetes; `{{SessionName}}`, `{{SessionNameRaw}}` and `{{AccountID}}` are filled in. Default what
            EKS chooses: the ARN of a user, the ARN of a role's session.
        groups: in Kubernetes.
        in_config_map: listed in the ConfigMap aws-auth rather than by an access entry. There the ARN of a role counts
            only without its path, which the session of the role does not tell.
    """

    principal_arn: str
    username: str = ""
    groups: tuple[str, ...] = ()
    in_config_map: bool = False

    def covers(self, principal: str) -> bool:
        """Whether this is the principal of that canonical ARN."""
        return principal == (self.principal_arn if self.in_config_map else _without_path(self.principal_arn))


class EksUsers:
    """Tells the users of a cluster by their tokens.

    Args:
        verifier: tells the ARN that a token speaks for.
        users: whom the cluster knows.
    """

    def __init__(self, verifier: Identifier, users: Iterable[EksUser] = ()) -> None:
        self._verifier = verifier
        self._users = tuple(users)

    @property
    def users(self) -> tuple[EksUser, ...]:
        """Whom the cluster knows."""
        return self._users

    def add(self, user: EksUser) -> None:
        """Lets the cluster know one more principal, from now on."""
        self._users = (*self._users, user)

    def remove(self, principal_arn: str) -> None:
        """Lets the cluster forget a principal, from now on."""
        self._users = tuple(user for user in self._users if user.principal_arn != principal_arn)

    def identify(self, token: str) -> Identity:
        """The user whose token it is. Access entries go before the ConfigMap.

        Raises:
            TokenRefused: the token is not good, or the cluster does not know the one it speaks for.
        """
        arn = self._verifier.identify(token).name
        principal = canonical_arn(arn)
        known = [user for user in self._users if user.covers(principal)]
        if not known:
            raise TokenRefused(f"{arn} is not mapped to a user of the cluster")
        user = min(known, key=lambda user: user.in_config_map)
        return Identity(_filled(user.username or arn, arn), user.groups)


def canonical_arn(arn: str) -> str:
    """The ARN of the principal behind a caller: of a role's session, the role."""
    match = _SESSION.fullmatch(arn)
    return f"arn:{match['partition']}:iam::{match['account']}:role/{match['role']}" if match else arn


def _without_path(arn: str) -> str:
    match = _ROLE.fullmatch(arn)
    return f"arn:{match['partition']}:iam::{match['account']}:role/{match['role']}" if match else arn


def _filled(template: str, arn: str) -> str:
    match = _SESSION.fullmatch(arn)
    session = match["session"] if match else ""
    account = arn.split(":")[4]
    values = {"SessionName": session.replace("@", "-"), "SessionNameRaw": session, "AccountID": account}
    return re.sub(r"\{\{(\w+)\}\}", lambda found: values.get(found[1], found[0]), template)
