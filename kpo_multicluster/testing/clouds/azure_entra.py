"""Microsoft Entra and the managed identities of an emulated Azure.

Sources: "Microsoft identity platform and the OAuth 2.0 client credentials flow" (secret, certificate, federated
credential), "How to use managed identities on an Azure VM", "Use managed identities for App Service".
"""

from __future__ import annotations

import base64
import itertools
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from kpo_multicluster.testing.clouds.identity import Identity, TokenRefused
from kpo_multicluster.testing.clouds.server import Request, Response
from kpo_multicluster.testing.clouds.tokens import Jwt, TokenBook, rsa_key, sign_jwt

_SKEW_SECONDS = 300.0
_SIGNING_KEY = 1
_TAIL = " Trace ID: 1-2-3 Correlation ID: 4-5-6 Timestamp: 2026-01-01 00:00:00Z"
_MANAGED = "managed identity"


@dataclass
class Application:
    """An application of Entra, and its service principal; or a managed identity.

    Attributes:
        client_id: of it.
        tenant: it is in.
        groups: object ids of the Entra groups it is in.
        secret: that proves it; None for none.
        secret_expired: whether that has expired.
        certificates: that prove it, each by its SHA-256.
        federated_tokens: of other identity providers, that prove it.
    """

    client_id: str
    tenant: str
    groups: tuple[str, ...] = ()
    secret: str | None = field(default=None, repr=False)
    secret_expired: bool = False
    certificates: dict[str, x509.Certificate] = field(default_factory=dict)
    federated_tokens: set[str] = field(default_factory=set, repr=False)

    @property
    def object_id(self) -> str:
        """The id that its tokens and Kubernetes know it by."""
        return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{self.tenant}/{self.client_id}"))

    @property
    def identity(self) -> Identity:
        """As a cluster sees it."""
        return Identity(self.object_id, self.groups)


class EntraTokens:
    """Answers the requests of the token services.

    Args:
        book: where tokens are noted.
        clock: Azure's time: Unix time in seconds.
        url: gives the base URL of the login service.

    Attributes:
        life_seconds: of tokens issued from now on.
        identity_header: the secret that managed identities of App Service ask with.
    """

    def __init__(self, book: TokenBook, clock: Callable[[], float], url: Callable[[], str]) -> None:
        self.life_seconds = 3600
        self.identity_header = "header-secret"
        self._book, self._clock, self._url = book, clock, url
        self._numbers = itertools.count(1)
        self._applications: dict[str, Application] = {}
        self._managed: dict[str, Application] = {}

    # -- who there is --------------------------------------------------------------------------------------------------

    def add_application(self, application: Application) -> None:
        """Adds or replaces an application."""
        self._applications[application.client_id] = application

    def application(self, client_id: str) -> Application:
        """The application of that id.

        Raises:
            KeyError: there is none.
        """
        return self._applications[client_id]

    def add_certificate(self, client_id: str, pem: bytes | str) -> None:
        """Registers a certificate with an application."""
        made = x509.load_pem_x509_certificate(pem if isinstance(pem, bytes) else pem.encode())
        self.application(client_id).certificates[made.fingerprint(hashes.SHA256()).hex()] = made

    def add_managed_identity(self, tenant: str, client_id: str, groups: tuple[str, ...], *, default: bool) -> Identity:
        """Gives the machine an identity; the default one is its own, for which it asks by no id."""
        made = Application(client_id, tenant, groups)
        self._managed[client_id] = made
        if default:
            self._managed[""] = made
        return made.identity

    # -- requests ------------------------------------------------------------------------------------------------------

    def discovery(self, request: Request) -> Response:
        """`GET /TENANT/v2.0/.well-known/openid-configuration`."""
        base = f"{self._url()}/{request.path.split('/')[1]}"
        return Response(
            200,
            {
                "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                "token_endpoint": f"{base}/oauth2/v2.0/token",
                "issuer": f"{base}/v2.0",
            },
        )

    def token(self, request: Request) -> Response:
        """`POST /TENANT/oauth2/v2.0/token`: the client credentials flow."""
        tenant, form = request.path.split("/")[1], request.form
        if form.get("grant_type") != "client_credentials":
            return entra_error(400, "unsupported_grant_type", 70003, "The app requested an unsupported grant type.")
        if tenant not in {application.tenant for application in self._applications.values()}:
            return entra_error(400, "invalid_request", 90002, f"Tenant '{tenant}' not found.")
        application = self._applications.get(form.get("client_id", ""))
        if application is None or application.tenant != tenant:
            text = f"Application with identifier '{form.get('client_id')}' was not found in the directory '{tenant}'."
            return entra_error(400, "unauthorized_client", 700016, text)
        refusal = self._unproven(application, form.get("client_secret"), form.get("client_assertion"))
        if refusal is not None:
            return refusal
        scope = form.get("scope", "").split(" ")[0]
        if not scope.endswith("/.default"):
            return entra_error(400, "invalid_scope", 70011, f"The provided value for scope {scope} is not valid.")
        value = self.issue(application, scope.removesuffix("/.default"))
        return Response(
            200,
            {
                "token_type": "Bearer",
                "expires_in": self.life_seconds,
                "ext_expires_in": self.life_seconds,
                "access_token": value,
            },
        )

    def _unproven(self, application: Application, secret: str | None, assertion: str | None) -> Response | None:
        if assertion is not None:
            return self._unasserted(application, assertion)
        if secret is None or secret != application.secret:
            return entra_error(401, "invalid_client", 7000215, "Invalid client secret provided.")
        if application.secret_expired:
            text = f"The provided client secret keys for app '{application.client_id}' are expired."
            return entra_error(401, "invalid_client", 7000222, text)
        return None

    def _unasserted(self, application: Application, assertion: str) -> Response | None:
        if assertion in application.federated_tokens:
            return None
        try:
            jwt = Jwt.parse(assertion)
        except TokenRefused:
            jwt = None
        if jwt is None or jwt.claims.get("iss") != application.client_id:
            text = "No matching federated identity record found for presented assertion."
            return entra_error(401, "invalid_client", 700213, text)
        certificate = application.certificates.get(_thumbprint(jwt, application))
        unregistered = "The certificate with identifier used to sign the client assertion is not registered."
        if certificate is None:
            return entra_error(401, "invalid_client", 700027, unregistered)
        try:
            jwt.verify(certificate.public_key())
        except TokenRefused:
            return entra_error(401, "invalid_client", 700027, unregistered)
        if str(jwt.claims.get("aud")) != f"{self._url()}/{application.tenant}/oauth2/v2.0/token":
            return entra_error(401, "invalid_client", 700023, "Client assertion audience claim does not match.")
        begins, ends, now = jwt.claims.get("nbf", 0), jwt.claims.get("exp", 0), self._clock()
        if begins > now + _SKEW_SECONDS or ends < now - _SKEW_SECONDS:
            return entra_error(401, "invalid_client", 700024, "Client assertion is not within its valid time range.")
        return None

    def managed(self, request: Request) -> Response:
        """Managed identity: `/msi/token` as on App Service, `/metadata/identity/oauth2/token` as on a VM."""
        query, headers = request.query, request.headers
        on_vm = request.path.startswith("/metadata/")
        wanted = ("metadata", "true") if on_vm else ("x-identity-header", self.identity_header)
        if headers.get(wanted[0], "").lower() != wanted[1].lower():
            return Response(401 if not on_vm else 400, {"error": "invalid_request", "error_description": "header"})
        application = self._managed.get(query.get("client_id", ""))
        if application is None or "resource" not in query:
            text = {"error": "invalid_request", "error_description": "Identity not found"}
            return Response(400, {**text, "message": "Identity not found", "statusCode": 400})
        resource, ends = query["resource"], int(self._clock()) + int(self.life_seconds)
        return Response(
            200,
            {
                "access_token": self.issue(application, resource.rstrip("/")),
                "client_id": application.client_id,
                "expires_in": str(int(self.life_seconds)),
                "expires_on": str(ends),
                "resource": resource,
                "token_type": "Bearer",
            },
        )

    def issue(self, application: Application, audience: str) -> str:
        """A token of an application for something.

        Args:
            application: whose.
            audience: what it is for: an application id or a URL.
        """
        now = int(self._clock())
        claims: dict[str, Any] = {
            "aud": audience,
            "iss": f"https://sts.windows.net/{application.tenant}/",
            "iat": now,
            "nbf": now,
            "exp": now + int(self.life_seconds),
            "appid": application.client_id,
            "oid": application.object_id,
            "sub": application.object_id,
            "tid": application.tenant,
            "uti": f"token-{next(self._numbers)}",
            "ver": "1.0",
        }
        if application.groups:
            claims["groups"] = list(application.groups)
        value = sign_jwt(rsa_key(_SIGNING_KEY), claims, key_id="entra-1")
        self._book.issue(value, application.identity, audience=audience, life_seconds=self.life_seconds)
        return value


def entra_error(status: int, error: str, code: int, text: str) -> Response:
    """An error as Entra gives it."""
    body = {"error": error, "error_description": f"AADSTS{code}: {text}{_TAIL}", "error_codes": [code]}
    return Response(status, body)


def _thumbprint(jwt: Jwt, application: Application) -> str:
    """SHA-256 of the certificate that a JWT says it was signed with; empty for one that is not registered."""
    for name, algorithm in (("x5t#S256", hashes.SHA256()), ("x5t", hashes.SHA1())):
        asked = str(jwt.header.get(name, ""))
        for thumbprint, certificate in application.certificates.items():
            found = base64.urlsafe_b64encode(certificate.fingerprint(algorithm)).decode().rstrip("=")
            if asked.rstrip("=") == found:
                return thumbprint
    return ""
