"""Who is who in an emulated AWS: users, roles, sessions, the Security Token Service, and signatures of requests.

Sources: the AWS STS API (AssumeRole, AssumeRoleWithWebIdentity, GetCallerIdentity); AWS Signature Version 4. moto's own
STS looks at no trust policy, no external id, no signature and no end of a session, which is what errors come of.
"""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from xml.sax.saxutils import escape

from kpo_multicluster.testing.clouds.identity import Identity
from kpo_multicluster.testing.clouds.server import Request, Response
from kpo_multicluster.testing.clouds.tokens import TokenBook
from kpo_multicluster.testing.clouds.verify_eks import AccessKey

_SKEW_SECONDS = 300.0
_DEFAULT_SESSION_SECONDS = 3600.0
_ROLE = re.compile(r"arn:(?P<partition>[\w-]+):iam::(?P<account>\d{12}):role/(?:.*/)?(?P<name>[^/]+)")
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/]+)/\d{8}/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request, ?"
    r"SignedHeaders=(?P<headers>[^,]+), ?Signature=(?P<signature>[0-9a-f]{64})"
)
_CODES = {
    "unknown": {"sts": "InvalidClientTokenId", "eks": "UnrecognizedClientException"},
    "expired": {"sts": "ExpiredToken", "eks": "ExpiredTokenException"},
    "signature": {"sts": "SignatureDoesNotMatch", "eks": "InvalidSignatureException"},
    "missing": {"sts": "MissingAuthenticationToken", "eks": "MissingAuthenticationTokenException"},
}


@dataclass(frozen=True)
class AwsUser:
    """An IAM user and its access key.

    Attributes:
        arn: of it.
        access_key: its id.
        secret_key: the secret.
    """

    arn: str
    access_key: str
    secret_key: str = field(repr=False)


@dataclass(frozen=True)
class AwsRole:
    """A role, and who may assume it.

    Attributes:
        arn: of it.
        trusted: ARNs of users and roles; `*` for anyone with credentials.
        external_id: that its trust policy asks for.
        web_identity_tokens: by which someone of an OIDC provider may assume it.
    """

    arn: str
    trusted: tuple[str, ...] = ("*",)
    external_id: str | None = None
    web_identity_tokens: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Caller:
    """Who signed a request.

    Attributes:
        arn: as GetCallerIdentity tells it.
        region: that the request is signed for.
        service: that it is signed for.
    """

    arn: str
    region: str
    service: str

    @property
    def account(self) -> str:
        """The account it is in."""
        return self.arn.split(":")[4]


class SecurityTokens:
    """Answers the requests of STS, and tells who signed any request.

    Args:
        clock: AWS's time: Unix time in seconds.

    Attributes:
        sessions: that were made of roles, by their access key ids: whose, until when.
        session_seconds: how long a session lasts at most, whatever is asked for.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.sessions = TokenBook(clock)
        self.session_seconds = 12 * 3600.0
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: dict[str, AccessKey] = {}
        self._roles: dict[str, AwsRole] = {}

    def add_user(self, arn: str) -> AwsUser:
        """Adds a user with an access key."""
        user = AwsUser(arn, f"AKIA{secrets.token_hex(8).upper()}", secrets.token_urlsafe(30))
        with self._lock:
            self._keys[user.access_key] = AccessKey(arn, user.secret_key)
        return user

    def delete_key(self, access_key: str) -> None:
        """Refuses an access key from now on."""
        with self._lock:
            self._keys.pop(access_key, None)

    def add_role(self, role: AwsRole) -> None:
        """Adds or replaces a role."""
        self._roles[role.arn] = role

    def access_key(self, access_key: str) -> AccessKey | None:
        """What AWS knows of an access key; None for one that it does not know, or that it no longer takes."""
        with self._lock:
            key = self._keys.get(access_key)
        if key is None or key.session_token is None:
            return key
        session = self.sessions.find(access_key)
        return None if session is None or session.revoked else key

    # -- signatures ----------------------------------------------------------------------------------------------------

    def caller(self, request: Request) -> Caller | Response:
        """Who signed a request, or what it is refused with."""
        match = _AUTHORIZATION.fullmatch(request.headers.get("authorization", ""))
        if match is None:
            return _refused("missing", "sts" if request.action else "eks", "Request is missing Authentication Token")
        service, key = match["service"], self.access_key(match["key"])
        if key is None or request.headers.get("x-amz-security-token") != key.session_token:
            return _refused("unknown", service, "The security token included in the request is invalid.")
        if key.expires_at is not None and self._clock() >= key.expires_at:
            return _refused("expired", service, "The security token included in the request is expired")
        date = request.headers.get("x-amz-date", "")
        try:
            signed_at = datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc).timestamp()
        except ValueError:
            signed_at = 0.0
        if abs(self._clock() - signed_at) > _SKEW_SECONDS:
            return _refused("signature", service, f"Signature expired or not yet current: {date}")
        if _signature(request, match, key) != match["signature"]:
            text = "The request signature we calculated does not match the signature you provided."
            return _refused("signature", service, text)
        return Caller(key.arn, match["region"], service)

    # -- requests ------------------------------------------------------------------------------------------------------

    def handle(self, request: Request) -> Response:
        """Answers a request of STS."""
        if request.action == "AssumeRoleWithWebIdentity":
            return self._assume_with_web_identity(request.form)
        caller = self.caller(request)
        if isinstance(caller, Response):
            return caller
        if request.action == "GetCallerIdentity":
            fields = {"Arn": caller.arn, "UserId": "AIDAEXAMPLE", "Account": caller.account}
            return _answer(request.action, "".join(_tag(name, value) for name, value in fields.items()))
        if request.action == "AssumeRole":
            return self._assume(caller, request.form)
        return sts_error(400, "InvalidAction", f"Could not find operation {request.action}.")

    def _assume(self, caller: Caller, form: Mapping[str, str]) -> Response:
        role = self._roles.get(form.get("RoleArn", ""))
        # Of a session, its role is what policies trust.
        known = {"*", caller.arn, _role_of(caller.arn)}
        if role is None or not known & set(role.trusted) or role.external_id not in (None, form.get("ExternalId")):
            text = f"User: {caller.arn} is not authorized to perform: sts:AssumeRole on resource: {form.get('RoleArn')}"
            return sts_error(403, "AccessDenied", text)
        return _answer("AssumeRole", self._session(role, form))

    def _assume_with_web_identity(self, form: Mapping[str, str]) -> Response:
        role = self._roles.get(form.get("RoleArn", ""))
        if role is None or form.get("WebIdentityToken") not in role.web_identity_tokens:
            text = "Not authorized to perform sts:AssumeRoleWithWebIdentity"
            return sts_error(403, "AccessDenied", text)
        return _answer("AssumeRoleWithWebIdentity", self._session(role, form))

    def _session(self, role: AwsRole, form: Mapping[str, str]) -> str:
        name = form.get("RoleSessionName", "session")
        life = min(float(form.get("DurationSeconds", _DEFAULT_SESSION_SECONDS)), self.session_seconds)
        match = _ROLE.fullmatch(role.arn)
        assert match is not None
        arn = f"arn:{match['partition']}:sts::{match['account']}:assumed-role/{match['name']}/{name}"
        key_id, token = f"ASIA{secrets.token_hex(8).upper()}", secrets.token_urlsafe(120)
        end = self._clock() + life
        key = AccessKey(arn, secrets.token_urlsafe(30), token, end)
        self.sessions.issue(key_id, Identity(arn), audience="sts", life_seconds=life)
        with self._lock:
            self._keys[key_id] = key
        credentials = {
            "AccessKeyId": key_id,
            "SecretAccessKey": key.secret_key,
            "SessionToken": token,
            "Expiration": datetime.fromtimestamp(end, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        }
        inner = "".join(_tag(tag, value) for tag, value in credentials.items())
        user = _tag("AssumedRoleId", f"AROAEXAMPLE:{name}") + _tag("Arn", arn)
        return f"<Credentials>{inner}</Credentials><AssumedRoleUser>{user}</AssumedRoleUser>"


def sts_error(status: int, code: str, message: str) -> Response:
    """An error as STS gives it."""
    error = _tag("Type", "Sender") + _tag("Code", code) + _tag("Message", message)
    text = f"<ErrorResponse><Error>{error}</Error>{_tag('RequestId', 'emulated')}</ErrorResponse>"
    return Response(status, text.encode(), {"Content-Type": "text/xml"})


def eks_error(status: int, code: str, message: str) -> Response:
    """An error as EKS gives it."""
    return Response(status, {"message": message}, {"x-amzn-ErrorType": code})


def _refused(why: str, service: str, message: str) -> Response:
    if service == "sts":
        return sts_error(403, _CODES[why]["sts"], message)
    return eks_error(403, _CODES[why]["eks"], message)


def _signature(request: Request, match: re.Match[str], key: AccessKey) -> str:
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    names = match["headers"].split(";")
    url = f"http://{request.headers.get('host', '')}{request.target}"
    headers = {name: request.headers.get(name, "") for name in names}
    signed = AWSRequest(method=request.method, url=url, headers=headers, data=request.body)
    signed.context["timestamp"] = request.headers.get("x-amz-date", "")
    auth = SigV4Auth(Credentials(match["key"], key.secret_key, key.session_token), match["service"], match["region"])
    text = auth.string_to_sign(signed, auth.canonical_request(signed))
    return str(auth.signature(text, signed))


def _role_of(arn: str) -> str:
    match = re.fullmatch(r"arn:([\w-]+):sts::(\d{12}):assumed-role/([^/]+)/.*", arn)
    return f"arn:{match[1]}:iam::{match[2]}:role/{match[3]}" if match else arn


def _answer(action: str, inner: str) -> Response:
    space = "https://sts.amazonaws.com/doc/2011-06-15/"
    result = f"<{action}Result>{inner}</{action}Result>"
    metadata = f"<ResponseMetadata>{_tag('RequestId', 'emulated')}</ResponseMetadata>"
    text = f'<{action}Response xmlns="{space}">{result}{metadata}</{action}Response>'
    return Response(200, text.encode(), {"Content-Type": "text/xml"})


def _tag(name: str, value: str) -> str:
    return f"<{name}>{escape(value)}</{name}>"
