"""Tells whose an EKS token is, as an EKS cluster does: by its authenticator's rules and a signature worked out anew.

Source: aws-iam-authenticator, `pkg/token`, for what is looked at in a token; AWS Signature Version 4, "Create a signed
AWS API request", for the signature, which STS checks on a real cluster's behalf.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from urllib.parse import SplitResult, parse_qsl, quote, urlsplit

from kpo_multicluster.testing.clouds.identity import Identity, TokenRefused

_PREFIX = "k8s-aws-v1."
_LIMIT_BYTES = 4096
_CLUSTER_HEADER = "x-k8s-aws-id"
TOKEN_LIFE_SECONDS = 15 * 60.0
_MOST_EXPIRES_SECONDS = 900
# STS takes signatures of clocks that are ahead by no more than this.
_AHEAD_SECONDS = 5 * 60.0
_PARAMETERS = frozenset(
    {
        "action",
        "version",
        "x-amz-algorithm",
        "x-amz-credential",
        "x-amz-date",
        "x-amz-expires",
        "x-amz-security-token",
        "x-amz-signature",
        "x-amz-signedheaders",
    }
)
_GLOBAL_HOST, _GLOBAL_REGION, _GLOBAL_PARTITION = "sts.amazonaws.com", "us-east-1", "aws"
_HOST = re.compile(r"sts(?:-fips)?\.(?P<region>[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)\.(?P<domain>.+)")
# How the names of a partition's regions begin, and the domains of its hosts; any other region is of `aws`.
_PARTITIONS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "aws-cn": ("cn-", ("amazonaws.com.cn", "api.amazonwebservices.com.cn")),
    "aws-us-gov": ("us-gov-", ("amazonaws.com", "api.aws")),
    "aws-iso": ("us-iso-", ("c2s.ic.gov",)),
    "aws-iso-b": ("us-isob-", ("sc2s.sgov.gov",)),
    "aws-iso-e": ("eu-isoe-", ("cloud.adc-e.uk",)),
    "aws-iso-f": ("us-isof-", ("csp.hci.ic.gov",)),
    "aws-eusc": ("eusc-", ("amazonaws.eu", "api.amazonwebservices.eu")),
    _GLOBAL_PARTITION: ("", ("amazonaws.com", "api.aws")),
}


@dataclass(frozen=True)
class AccessKey:
    """What AWS knows of an access key.

    Attributes:
        arn: whom it speaks for, as GetCallerIdentity tells it.
        secret_key: the secret.
        session_token: that belongs to it, if it is temporary.
        expires_at: Unix time in seconds; None when it does not end.
    """

    arn: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    expires_at: float | None = None


class EksTokenVerifier:
    """Tells the tokens of one cluster.

    Args:
        keys: gives what AWS knows of an access key by its id; None for one that it does not know.
        cluster_name: of the cluster; a token that was signed with another's is refused.
        partition: of AWS that the cluster is in; tokens signed for hosts of another are refused.
        clock: Unix time in seconds.
        life_seconds: for which a token is good from its signing; 15 minutes on every real cluster.
    """

    def __init__(
        self,
        keys: Callable[[str], AccessKey | None],
        cluster_name: str,
        *,
        partition: str = _GLOBAL_PARTITION,
        clock: Callable[[], float] = time.time,
        life_seconds: float = TOKEN_LIFE_SECONDS,
    ) -> None:
        self._keys = keys
        self._cluster_name = cluster_name
        self._partition = partition
        self._clock = clock
        self._life_seconds = life_seconds

    def identify(self, token: str) -> Identity:
        """The ARN that a token speaks for; in no group, as the cluster's own lists of users add those.

        Raises:
            TokenRefused: with what is wrong with it.
        """
        url = urlsplit(_decoded(token))
        region = self._region(url)
        query = _query(url)
        signed_at = self._signing_time(query)
        return Identity(self._answer(_Signed(url, region, query, signed_at)))

    def _region(self, url: SplitResult) -> str:
        """The region that requests to the host are signed for."""
        if url.scheme != "https" or url.path != "/":
            raise TokenRefused(f"unexpected scheme {url.scheme!r} or path {url.path!r} in the signed URL")
        if url.netloc == _GLOBAL_HOST:
            if self._partition != _GLOBAL_PARTITION:
                raise TokenRefused(f"the global host is not supported in the partition {self._partition}")
            return _GLOBAL_REGION
        match = _HOST.fullmatch(url.netloc)
        _, domains = _PARTITIONS[self._partition]
        if match is None or _partition_of(match["region"]) != self._partition or match["domain"] not in domains:
            raise TokenRefused(f"unexpected host {url.netloc!r} in the signed URL, for the partition {self._partition}")
        return match["region"]

    def _signing_time(self, query: Mapping[str, str]) -> float:
        if query.get("action") != "GetCallerIdentity":
            raise TokenRefused("unexpected action in the signed URL")
        if _CLUSTER_HEADER not in query.get("x-amz-signedheaders", "").lower().split(";"):
            raise TokenRefused(f"the client did not sign the header {_CLUSTER_HEADER}")
        expires = query.get("x-amz-expires", "")
        if not expires.isdecimal() or int(expires) > _MOST_EXPIRES_SECONDS:
            raise TokenRefused(f"X-Amz-Expires is {expires!r}, not 0 to {_MOST_EXPIRES_SECONDS}")
        signed_at = _unix_time(query.get("x-amz-date", ""))
        if self._clock() > signed_at + self._life_seconds:
            raise TokenRefused(f"expired: X-Amz-Date is more than {self._life_seconds:g} s old")
        return signed_at

    def _answer(self, signed: _Signed) -> str:
        """The ARN that STS gives for the request, sent with the name of this cluster."""
        access_key_id, _, scope = signed.query.get("x-amz-credential", "").partition("/")
        key = self._keys(access_key_id)
        if key is None:
            raise TokenRefused("STS: InvalidClientTokenId, the access key is not known")
        if signed.query.get("x-amz-security-token") != key.session_token:
            raise TokenRefused("STS: InvalidClientTokenId, the session token is not that of the access key")
        if key.expires_at is not None and self._clock() >= key.expires_at:
            raise TokenRefused("STS: ExpiredToken, the session has ended")
        if signed.signed_at > self._clock() + _AHEAD_SECONDS:
            raise TokenRefused("STS: SignatureDoesNotMatch, signature not yet current")
        expected = signed.signature(key.secret_key, self._cluster_name)
        given = signed.query.get("x-amz-signature", "")
        if scope != signed.scope or not hmac.compare_digest(expected.encode(), given.encode()):
            raise TokenRefused("STS: SignatureDoesNotMatch")
        return key.arn


@dataclass(frozen=True)
class _Signed:
    """A signed request: its URL, the region of its host, its query by lower-case name, and when it was signed."""

    url: SplitResult
    region: str
    query: Mapping[str, str]
    signed_at: float

    @property
    def scope(self) -> str:
        return f"{self.query['x-amz-date'][:8]}/{self.region}/sts/aws4_request"

    def signature(self, secret_key: str, cluster_name: str) -> str:
        """What the signature of a GET must be."""
        pairs = [pair for pair in parse_qsl(self.url.query, keep_blank_values=True) if pair[0] != "X-Amz-Signature"]
        encoded = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in pairs)
        headers = {"host": self.url.netloc, _CLUSTER_HEADER: cluster_name, "accept": "application/json"}
        names = self.query["x-amz-signedheaders"]
        canonical = "\n".join(
            (
                "GET",
                "/",
                "&".join(f"{name}={value}" for name, value in encoded),
                *(f"{name}:{headers.get(name, '')}" for name in names.split(";")),
                "",
                names,
                hashlib.sha256(b"").hexdigest(),
            )
        )
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{self.query['x-amz-date']}\n{self.scope}\n{digest}"
        key = f"AWS4{secret_key}".encode()
        for part in self.scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        return hmac.digest(key, text.encode(), "sha256").hex()


def _decoded(token: str) -> str:
    if len(token) > _LIMIT_BYTES:
        raise TokenRefused("the token is too large")
    if not token.startswith(_PREFIX):
        raise TokenRefused(f"the token lacks the prefix {_PREFIX!r}")
    text = token.removeprefix(_PREFIX)
    # Without padding: an authenticator's decoder takes none.
    if not re.fullmatch(r"[\w-]+", text, re.ASCII) or len(text) % 4 == 1:
        raise TokenRefused("the token is not raw base64url")
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except UnicodeDecodeError:
        raise TokenRefused("the token holds no URL") from None


def _query(url: SplitResult) -> Mapping[str, str]:
    pairs = parse_qsl(url.query, keep_blank_values=True)
    query = {name.lower(): value for name, value in pairs}
    if len(query) != len(pairs):
        raise TokenRefused("a query parameter occurs twice")
    extra = sorted(set(query) - _PARAMETERS)
    if extra:
        raise TokenRefused(f"query parameters that are not allowed: {', '.join(extra)}")
    return query


def _unix_time(date: str) -> float:
    try:
        if re.fullmatch(r"\d{8}T\d{6}Z", date, re.ASCII):
            return datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc).timestamp()
    except ValueError:  # no such day
        pass
    raise TokenRefused("X-Amz-Date is missing or malformed")


def _partition_of(region: str) -> str:
    return next(name for name, (prefix, _) in _PARTITIONS.items() if region.startswith(prefix))
