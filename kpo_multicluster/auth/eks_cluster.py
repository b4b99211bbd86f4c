"""Looks an EKS cluster up: its endpoint, its CA, its state.

Source: `DescribeCluster` of the Amazon EKS API.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kpo_multicluster.auth.aws_errors import call_error, code_of, is_aws_error, said
from kpo_multicluster.auth.aws_session import AwsSession
from kpo_multicluster.auth.tls import pem_from_base64
from kpo_multicluster.errors import ConfigurationError, ConnectError, CredentialError

_USABLE_STATES = ("ACTIVE", "UPDATING")
_SHOWN = 10


@dataclass(frozen=True)
class EksCluster:
    """What EKS says of a cluster.

    Attributes:
        name: of it.
        arn: of it; names region and account.
        endpoint: https URL of its API server.
        ca_pem: CA of that server.
        authentication_mode: `API`, `API_AND_CONFIG_MAP` or `CONFIG_MAP`: where its users are listed.
        public: whether the endpoint can be reached from outside its VPC.
    """

    name: str
    arn: str
    endpoint: str
    ca_pem: str = field(repr=False)
    authentication_mode: str | None = None
    public: bool = True


def describe(session: AwsSession, name: str) -> EksCluster:
    """The cluster of that name in the session's region.

    Raises:
        ConfigurationError: there is none, or it is of a kind without an endpoint of its own.
        CredentialError: AWS refused the credentials, or the call to them.
        ConnectError: AWS cannot be reached, or the cluster is not up.
    """
    doing = f"Describing the EKS cluster {name!r} in {session.region}"
    try:
        cluster = session.client("eks").describe_cluster(name=name)["cluster"]
    except Exception as error:
        if not is_aws_error(error):
            raise
        if code_of(error) == "ResourceNotFoundException":
            raise ConfigurationError(not_found(session, name)) from None
        raise call_error(error, doing=doing, source=session.source, now=session.clock()) from None
    return _read(cluster, session)


def not_found(session: AwsSession, name: str) -> str:
    """The message for a cluster that is not there: whose account was looked in, and what there is."""
    account, seen = caller_account(session), _names(session)
    where = f"in {session.region} of account {account}" if account else f"in {session.region}"
    there = f"Clusters seen: {seen}." if seen else ""
    return (
        f"There is no EKS cluster {name!r} {where}, as seen by {session.source}. {there} Correct the name or the "
        "region, or use credentials of the account that the cluster is in, such as a role_arn there."
    ).replace("  ", " ")


def caller_account(session: AwsSession) -> str | None:
    """The account that the session's credentials belong to; None where AWS does not say."""
    try:
        return str(session.client("sts").get_caller_identity()["Account"])
    except CredentialError:
        return None
    except Exception as error:
        if not is_aws_error(error):
            raise
        return None


def _names(session: AwsSession) -> str | None:
    try:
        names = session.client("eks").list_clusters()["clusters"]
    except CredentialError:
        return None
    except Exception as error:
        if not is_aws_error(error):
            raise
        return f"none, as they may not be listed ({said(error)})"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) or "none") + more


def _read(cluster: Mapping[str, Any], session: AwsSession) -> EksCluster:
    name, status = cluster["name"], cluster.get("status", "unknown")
    endpoint = cluster.get("endpoint")
    ca_pem = pem_from_base64((cluster.get("certificateAuthority") or {}).get("data") or "")
    if status not in _USABLE_STATES or not endpoint or not ca_pem:
        issues = "; ".join(
            f"{issue.get('code')}: {issue.get('message')}" for issue in (cluster.get("health") or {}).get("issues", [])
        )
        raise ConnectError(
            f"The EKS cluster {name!r} in {session.region} is {status}"
            + ("" if endpoint and ca_pem else " and has no endpoint")
            + (f" ({issues})" if issues else "")
            + ". Wait until it is ACTIVE, or see in the EKS console what holds it up."
        )
    return EksCluster(
        name=name,
        arn=cluster.get("arn", ""),
        endpoint=endpoint.rstrip("/"),
        ca_pem=ca_pem,
        authentication_mode=(cluster.get("accessConfig") or {}).get("authenticationMode"),
        public=(cluster.get("resourcesVpcConfig") or {}).get("endpointPublicAccess", True),
    )
