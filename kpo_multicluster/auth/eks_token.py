"""Tokens of EKS: a signed request to STS that says who one is, made here and sent by the API server.

Source: aws-iam-authenticator, "How does it work?" and `pkg/token`. No network is used. The server takes a token for 15
minutes from its signing, only for an STS host of its own AWS partition, and only with the cluster's name signed.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from kpo_multicluster.auth.access import Token
from kpo_multicluster.auth.aws_logins import aws_endpoints
from kpo_multicluster.auth.aws_session import AwsKeys, AwsSession
from kpo_multicluster.errors import ConfigurationError, CredentialError

_PREFIX = "k8s-aws-v1."
_CLUSTER_HEADER = "x-k8s-aws-id"
# The server's limit is 15 minutes; the clients of AWS leave one for clocks that differ.
TOKEN_LIFE_SECONDS = 14 * 60.0
_TOKEN_LIMIT_BYTES = 4096
# Written into the request and ignored by every server; it must be there, and at most 900.
_LEGACY_EXPIRES_SECONDS = 60
# Asked for another token sooner than this before the last one's end, that one was refused.
_RENEWAL_WINDOW_SECONDS = 120.0
_GLOBAL_HOST = "sts.amazonaws.com"
_GLOBAL_REGION = "us-east-1"
_GLOBAL_PARTITION = "aws"


@dataclass(frozen=True)
class StsHost:
    """Where tokens are signed for.

    Attributes:
        name: of the host.
        region: in whose name requests to it are signed.
    """

    name: str
    region: str


def sts_host(region: str, asked: str | None, *, source: str) -> StsHost:
    """The STS host that an EKS cluster of a region accepts in tokens.

    It has nothing to do with where this process calls STS: an endpoint that overrides that one is refused by EKS.

    Args:
        region: of the cluster.
        asked: a host to use in place of the region's own; None for that.
        source: what asked, for messages.

    Raises:
        ConfigurationError: the region is none of AWS's, or EKS would refuse the host.
    """
    own = _host(region)
    if own is None:
        raise ConfigurationError(
            f"There is no AWS region {region!r} ({source}) as far as the installed botocore knows: correct the region, "
            "or update botocore if it is new."
        )
    if asked is None or asked == own:
        return StsHost(own, region)
    others = [_host(region, fips=fips, dual_stack=dual) for fips, dual in ((False, True), (True, False), (True, True))]
    if asked in others:
        return StsHost(asked, region)
    accepted = {own: None, **{host: None for host in others if host is not None}}
    if _partition(region) == _GLOBAL_PARTITION:
        accepted[_GLOBAL_HOST] = None
        if asked == _GLOBAL_HOST:
            return StsHost(asked, _GLOBAL_REGION)
    raise ConfigurationError(
        f"Tokens signed for the STS host {asked!r} ({source}) are refused by EKS in {region}, which accepts "
        f"{', '.join(accepted)}. Drop sts_host; to call STS elsewhere, set sts_endpoint_url."
    )


def sign_token(keys: AwsKeys, *, cluster_name: str, host: StsHost) -> str:
    """A token for a cluster.

    Args:
        keys: of AWS.
        cluster_name: of the cluster; no other one accepts the token.
        host: of STS.

    Raises:
        CredentialError: the token is longer than any API server accepts.
    """
    from botocore.auth import SigV4QueryAuth
    from botocore.awsrequest import AWSRequest

    request = AWSRequest(
        method="GET",
        url=f"https://{host.name}/?Action=GetCallerIdentity&Version=2011-06-15",
        headers={_CLUSTER_HEADER: cluster_name},
    )
    SigV4QueryAuth(keys, "sts", host.region, expires=_LEGACY_EXPIRES_SECONDS).add_auth(request)
    token = _PREFIX + base64.urlsafe_b64encode(request.url.encode()).decode().rstrip("=")
    if len(token) > _TOKEN_LIMIT_BYTES:
        raise CredentialError(
            f"The token for EKS cluster {cluster_name!r} would be {len(token)} bytes long, and API servers accept "
            f"{_TOKEN_LIMIT_BYTES}: the AWS session token in it is too long. Use a role with fewer or shorter session "
            "tags and policies."
        )
    return token


class EksTokens:
    """Makes the tokens of one cluster.

    Args:
        session: whose credentials sign.
        cluster_name: of the cluster.
        host: of STS.
        clock: Unix time in seconds.
    """

    def __init__(
        self, session: AwsSession, *, cluster_name: str, host: StsHost, clock: Callable[[], float] = time.time
    ) -> None:
        self._session = session
        self._cluster_name = cluster_name
        self._host = host
        self._clock = clock
        self._good_until = 0.0

    def fetch(self) -> Token:
        """A new token; by a new session where the last one was refused, as its keys may have been revoked or replaced.

        Raises:
            CredentialError: AWS gave no credentials.
        """
        now = self._clock()
        if now < self._good_until - _RENEWAL_WINDOW_SECONDS:
            self._session.discard()
        keys = self._session.keys()
        token = sign_token(keys, cluster_name=self._cluster_name, host=self._host)
        end = now + TOKEN_LIFE_SECONDS
        self._good_until = end if keys.expires_at is None else min(end, keys.expires_at)
        return Token(token, self._good_until)


def _partition(region: str) -> str | None:
    from botocore.exceptions import BotoCoreError

    try:
        return str(_endpoints().get_partition_for_region(region))
    except BotoCoreError:
        return None


@lru_cache(maxsize=64)
def _host(region: str, *, fips: bool = False, dual_stack: bool = False) -> str | None:
    """The STS host of a region and its variants; None where botocore knows of none."""
    from botocore.exceptions import BotoCoreError

    if _partition(region) is None:
        return None
    try:
        found = _endpoints().construct_endpoint(
            "sts", region, use_fips_endpoint=fips, use_dualstack_endpoint=dual_stack
        )
    except BotoCoreError:
        return None
    return str(found["hostname"]) if found else None


@lru_cache(maxsize=1)
def _endpoints() -> Any:
    # Not asked of a client: one takes long to make, and heeds settings that have no say in what EKS accepts.
    return aws_endpoints()
