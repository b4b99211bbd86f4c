"""The token services of an emulated Google: OAuth, workload identity federation, impersonation, metadata server.

Sources: "Using OAuth 2.0 for Server to Server Applications" (JWT grant), the Security Token Service API v1, the IAM
Service Account Credentials API v1, "View and query VM metadata".
"""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa

from kpo_multicluster.testing.clouds.identity import Identity, TokenRefused
from kpo_multicluster.testing.clouds.server import Request, Response
from kpo_multicluster.testing.clouds.tokens import IssuedToken, Jwt, TokenBook, private_pem, rsa_key

CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"
USERINFO_EMAIL = "https://www.googleapis.com/auth/userinfo.email"
IAM_SCOPE = "https://www.googleapis.com/auth/iam"
_AUDIENCE = "https://oauth2.googleapis.com/token"
_JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
_LONGEST_JWT_SECONDS = 3600.0
_SKEW_SECONDS = 300.0
_SKEWED = (
    "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and exp "
    "values in the JWT claim."
)


@dataclass(frozen=True)
class ServiceAccount:
    """A service account and its only key.

    Attributes:
        email: of it.
        project: it is in.
        token_uri: where its key is exchanged for tokens.
        key_id: of the key.
        private_key: the key.
    """

    email: str
    project: str
    token_uri: str
    key_id: str
    private_key: rsa.RSAPrivateKey = field(repr=False)

    @property
    def unique_id(self) -> str:
        """The number Google knows it by."""
        return unique_id(self.email)

    def key(self, **other: Any) -> dict[str, Any]:
        """The content of a key file.

        Args:
            **other: fields to put in place of its own.
        """
        return {
            "type": "service_account",
            "project_id": self.project,
            "private_key_id": self.key_id,
            "private_key": private_pem(self.private_key),
            "client_email": self.email,
            "client_id": self.unique_id,
            "token_uri": self.token_uri,
            **other,
        }


@dataclass(frozen=True)
class FederatedSubject:
    """Someone of another identity provider whom a workload identity pool lets in.

    Attributes:
        audience: of the pool's provider, `//iam.googleapis.com/projects/...`.
        subject_token: by which they prove who they are.
        principal: what Google calls them.
    """

    audience: str
    subject_token: str = field(repr=False)
    principal: str


def unique_id(email: str) -> str:
    """The number of an account."""
    return str(10**20 + int(hashlib.sha256(email.encode()).hexdigest()[:15], 16))


class GoogleTokens:
    """Answers the requests of the token services.

    Args:
        book: where tokens are noted.
        clock: Google's time: Unix time in seconds.
        url: gives the base URL of the emulator.

    Attributes:
        life_seconds: of tokens issued from now on.
        node_account: whose tokens the metadata server hands out; None where there is none, as on no machine of
            Google's.
    """

    def __init__(self, book: TokenBook, clock: Callable[[], float], url: Callable[[], str]) -> None:
        self.life_seconds = 3600.0
        self.node_account: str | None = None
        self._book, self._clock, self._url = book, clock, url
        self._lock = threading.Lock()
        self._number = 0
        self._accounts: dict[str, ServiceAccount] = {}
        self._users: dict[str, str] = {}
        self._subjects: list[FederatedSubject] = []
        self._impersonators: set[tuple[str, str]] = set()

    # -- who there is --------------------------------------------------------------------------------------------------

    def add_account(self, email: str, project: str) -> ServiceAccount:
        """Adds a service account, or gives the one that is there a new key."""
        with self._lock:
            self._number += 1
            made = ServiceAccount(email, project, f"{self._url()}/token", f"key-{self._number}", rsa_key())
            self._accounts[email] = made
        return made

    def delete_key(self, email: str) -> None:
        """Refuses the key of a service account from now on; tokens that are out serve on, as Google's do."""
        with self._lock:
            self._accounts.pop(email, None)

    def add_user(self, email: str, refresh_token: str) -> None:
        """Adds someone who logged in with gcloud."""
        self._users[refresh_token] = email

    def add_subject(self, subject: FederatedSubject) -> None:
        """Lets someone of another identity provider in."""
        self._subjects.append(subject)

    def allow_impersonation(self, target: str, *, by: str) -> None:
        """Grants `roles/iam.serviceAccountTokenCreator` on an account; `by` may be `*` for anyone."""
        self._impersonators.add((by, target))

    # -- requests ------------------------------------------------------------------------------------------------------

    def token(self, request: Request) -> Response:
        """`POST /token`: a JWT grant, or a user's refresh token."""
        form = request.form
        grant = form.get("grant_type")
        if grant == "refresh_token":
            email = self._users.get(form.get("refresh_token", ""))
            if email is None:
                return oauth_error(400, "invalid_grant", "Token has been expired or revoked.")
            return self._granted(email, form.get("scope") or f"{CLOUD_PLATFORM} {USERINFO_EMAIL}")
        if grant != _JWT_BEARER:
            return oauth_error(400, "unsupported_grant_type", f"Invalid grant_type: {grant}")
        try:
            claims = self._verified(form.get("assertion", ""))
        except TokenRefused as refusal:
            return oauth_error(400, "invalid_grant", refusal.reason)
        if claims.get("aud") not in (_AUDIENCE, f"{self._url()}/token"):
            return oauth_error(400, "invalid_grant", "Invalid JWT: Failed audience check.")
        if not claims.get("scope"):
            return oauth_error(400, "invalid_scope", "Invalid OAuth scope or ID token audience provided.")
        return self._granted(str(claims["iss"]), str(claims["scope"]))

    def for_api(self, bearer: str) -> IssuedToken:
        """Whom a bearer token stands for at one of Google's own APIs.

        They also take a JWT that a service account signed itself, which its client library may send in place of a
        token. No cluster does.

        Raises:
            TokenRefused: it stands for no one.
        """
        if bearer.count(".") != 2:  # not a JWT
            return self._book.good(bearer)
        claims = self._verified(bearer)
        scopes = str(claims.get("scope") or CLOUD_PLATFORM)
        return IssuedToken(bearer, Identity(str(claims["iss"])), scopes, float(claims["iat"]), float(claims["exp"]))

    def _verified(self, text: str) -> Mapping[str, Any]:
        """The claims of a JWT that a service account signed; refuses it with what the token endpoint says."""
        try:
            jwt = Jwt.parse(text)
        except TokenRefused:
            raise TokenRefused("Invalid JWT: Failed to parse.") from None
        account = self._accounts.get(str(jwt.claims.get("iss")))
        if account is None:
            raise TokenRefused("Invalid grant: account not found")
        if jwt.header.get("kid") != account.key_id:
            raise TokenRefused("Invalid JWT Signature.")
        try:
            jwt.verify(account.private_key.public_key())
        except TokenRefused:
            raise TokenRefused("Invalid JWT Signature.") from None
        issued, ends, now = jwt.claims.get("iat"), jwt.claims.get("exp"), self._clock()
        if not isinstance(issued, int | float) or not isinstance(ends, int | float):
            raise TokenRefused("Invalid JWT: iat and exp are required.")
        if issued > now + _SKEW_SECONDS or ends < now - _SKEW_SECONDS or ends - issued > _LONGEST_JWT_SECONDS + 1:
            raise TokenRefused(_SKEWED)
        return jwt.claims

    def _granted(self, email: str, scopes: str) -> Response:
        value = self._issue(email, scopes, self.life_seconds)
        return Response(200, {"access_token": value, "expires_in": self._whole_life(), "token_type": "Bearer"})

    def exchange(self, request: Request) -> Response:
        """`POST /v1/token`: workload identity federation."""
        form = request.form
        if form.get("grant_type") != _TOKEN_EXCHANGE:
            return oauth_error(400, "unsupported_grant_type", "Invalid value for grant_type.")
        for subject in self._subjects:
            if (form.get("audience"), form.get("subject_token")) == (subject.audience, subject.subject_token):
                value = self._issue(subject.principal, form.get("scope", CLOUD_PLATFORM), self.life_seconds)
                return Response(
                    200,
                    {
                        "access_token": value,
                        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
                        "token_type": "Bearer",
                        "expires_in": self._whole_life(),
                    },
                )
        return oauth_error(400, "invalid_grant", "The given credential is rejected by the attribute condition.")

    def metadata(self, request: Request) -> Response:
        """`GET /computeMetadata/v1/...`: the identity of the machine."""
        flavour = {"Metadata-Flavor": "Google", "Server": "Metadata Server for VM"}
        email, path = self.node_account, request.path
        if request.headers.get("metadata-flavor") != "Google" and path.strip("/"):
            return Response(403, b"Missing Metadata-Flavor:Google header.", {**flavour, "Content-Type": "text/html"})
        if email is None:
            return Response(404, b"not found", {"Content-Type": "text/html"})
        text = {**flavour, "Content-Type": "application/text"}
        if path.endswith("/project/project-id"):
            return Response(200, email.partition("@")[2].partition(".")[0].encode(), text)
        if path.endswith("/token"):
            scopes = request.query.get("scopes", f"{CLOUD_PLATFORM},{USERINFO_EMAIL}").replace(",", " ")
            granted = self._granted(email, scopes)
            return Response(200, granted.body, flavour)
        if "/service-accounts/" in path:
            scopes_of_it = [CLOUD_PLATFORM, USERINFO_EMAIL]
            return Response(200, {"email": email, "scopes": scopes_of_it, "aliases": ["default"]}, flavour)
        return Response(200, b"computeMetadata/\n", text)

    def impersonate(self, request: Request) -> Response:
        """`POST /v1/projects/-/serviceAccounts/EMAIL:generateAccessToken`: along a chain of delegates."""
        target = request.path.rpartition("/")[2].removesuffix(":generateAccessToken")
        try:
            caller = self.for_api(request.bearer).identity.name
        except TokenRefused as refusal:
            return api_error(401, "UNAUTHENTICATED", f"Request had invalid authentication credentials: {refusal}.")
        body = request.json
        delegates = [str(name).rpartition("/")[2] for name in body.get("delegates") or ()]
        chain = [caller, *delegates, target]
        for by, whom in itertools.pairwise(chain):
            if not self._may_impersonate(by, whom):
                return api_error(
                    403,
                    "PERMISSION_DENIED",
                    "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist).",
                )
        life = min(self.life_seconds, float(str(body.get("lifetime", "3600s")).rstrip("s")))
        value = self._issue(target, " ".join(body.get("scope") or ()), life)
        end = datetime.fromtimestamp(self._clock() + life, timezone.utc)
        return Response(200, {"accessToken": value, "expireTime": end.strftime("%Y-%m-%dT%H:%M:%SZ")})

    def _may_impersonate(self, by: str, whom: str) -> bool:
        # A token without the scope for the address tells the number alone.
        callers = [name for name, target in self._impersonators if target == whom]
        return "*" in callers or any(by in (name, unique_id(name)) for name in callers)

    def _issue(self, email: str, scopes: str, life_seconds: float) -> str:
        with self._lock:
            self._number += 1
            value = f"ya29.{self._number}-{hashlib.sha256(f'{self._url()}{self._number}'.encode()).hexdigest()[:24]}"
        # Without the scope for it, Kubernetes is not told the address but the number.
        named = USERINFO_EMAIL in scopes.split() or not email.endswith(".gserviceaccount.com")
        identity = Identity(email if named else unique_id(email))
        self._book.issue(value, identity, audience=scopes, life_seconds=life_seconds)
        return value

    def _whole_life(self) -> int | float:
        return int(self.life_seconds) if self.life_seconds == int(self.life_seconds) else self.life_seconds


def oauth_error(status: int, error: str, description: str) -> Response:
    """An error as token endpoints give it."""
    return Response(status, {"error": error, "error_description": description})


def api_error(status: int, code: str, message: str) -> Response:
    """An error as Google's APIs give it."""
    return Response(status, {"error": {"code": status, "message": message, "status": code}})
