"""Google credentials: a key, a federated identity or what this process runs as, and whom it impersonates.

Each token is made by credentials that are read anew, so a key that is replaced where it is kept is taken up, and no
lock or connection of the library outlives the call or is carried across a fork. What of them is kept is a parsed key.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timezone
from importlib import import_module
from typing import Any

from kpo_multicluster.auth.access import Token
from kpo_multicluster.auth.cloud_http import http_session, reason_of
from kpo_multicluster.auth.google_files import adc_path, file_reader
from kpo_multicluster.errors import CredentialError, MissingExtraError

CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"
# Without the second, RBAC knows a service account by its number alone.
SCOPES = (CLOUD_PLATFORM, "https://www.googleapis.com/auth/userinfo.email")
FEATURE, EXTRA = "A cluster of GKE", "gke"
_TOKEN_TIMEOUT_SECONDS = 30.0
_TEXT_LIMIT = 300
# What the library raises of a credential file that is none; a message may quote it.
_MALFORMED = (AttributeError, OSError, TypeError, ValueError)


@dataclass(frozen=True)
class GoogleLogin:
    """Whose Google credentials to use.

    Attributes:
        source: where they come from, for messages.
        read: the content of a credential file, read anew for each token; None for Application Default Credentials.
        impersonation_chain: service accounts, each impersonated by the one before it; the last is whom one is.
        scopes: of the tokens.
        iam_endpoint: base URL of the API that impersonates.
        environ: where Application Default Credentials look.
    """

    source: str
    read: Callable[[], Mapping[str, Any]] | None = field(default=None, repr=False)
    impersonation_chain: tuple[str, ...] = ()
    scopes: tuple[str, ...] = SCOPES
    iam_endpoint: str | None = None
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)


@dataclass(frozen=True)
class GoogleToken:
    """A token, and whom it speaks for.

    Attributes:
        token: the token.
        email: of the service account; None where the credentials do not say.
    """

    token: Token
    email: str | None = None


def fetch_token(login: GoogleLogin, *, clock: Callable[[], float] = time.time) -> GoogleToken:
    """One token; may block. Who needs a second keeps a `GoogleTokens`.

    Raises:
        MissingExtraError: google-auth is not installed.
        CredentialError: Google gave none, or could not be reached.
    """
    return GoogleTokens(login, clock=clock).fetch()


class GoogleTokens:
    """Makes the tokens of one login.

    Args:
        login: whose.
        clock: Unix time in seconds.
    """

    def __init__(self, login: GoogleLogin, *, clock: Callable[[], float] = time.time) -> None:
        self._login = login
        self._clock = clock
        self._key = _Key()

    def fetch(self) -> GoogleToken:
        """A new token; may block.

        Raises:
            MissingExtraError: google-auth is not installed.
            CredentialError: Google gave none, or could not be reached.
        """
        return _fetch(self._login, self._key, self._clock)


class _Key:
    """A service account's key as it was read last: to parse one takes longer than all else that a token needs."""

    def __init__(self) -> None:
        self._held: tuple[int, Mapping[str, Any], Any] | None = None

    def credentials(self, info: Mapping[str, Any], scopes: list[str]) -> Any:
        held, process = self._held, os.getpid()
        if held is None or held[:2] != (process, info):
            # Keys pasted into forms come with their line ends spelled out.
            key = str(info.get("private_key", "")).replace("\\n", "\n")
            made = _module("oauth2.service_account").Credentials.from_service_account_info(
                {**info, "private_key": key}, scopes=scopes
            )
            self._held = held = (process, info, made)
        # A copy, for one token: it shares the key alone.
        return held[2].with_scopes(scopes)


def _fetch(login: GoogleLogin, key: _Key, clock: Callable[[], float]) -> GoogleToken:
    _check_installed()
    from google.auth.exceptions import GoogleAuthError
    from google.auth.transport.requests import Request

    # The library tries again by itself.
    with http_session(feature=FEATURE, extra=EXTRA, tries=1) as session:
        request = Request(session)

        def timed(url: str, method: str = "GET", **arguments: Any) -> Any:
            return request(url, method, **{"timeout": _TOKEN_TIMEOUT_SECONDS, **arguments})

        final = True
        try:
            credentials = _impersonated(_own(login, key), login)
            credentials.refresh(timed)
        except _MALFORMED as error:
            fault = (
                f"The Google credentials from {login.source} cannot be used ({type(error).__name__}): they are not a "
                "complete credential file of Google's. Download the key or configuration anew."
            )
        except GoogleAuthError as error:
            fault, final = _refused(error, login), _is_verdict(error)
        else:
            return _read_token(credentials, login, clock())
    raise CredentialError(fault, final=final)


def _own(login: GoogleLogin, key: _Key) -> Any:
    if login.read is not None:
        return _load(login.read(), login, key)
    path = adc_path(login.environ)
    if path is not None:
        return _load(file_reader(path, source="Application Default Credentials")(), login, key)
    import google.auth

    credentials, _ = google.auth.default(scopes=login.scopes)
    return credentials


def _load(info: Mapping[str, Any], login: GoogleLogin, key: _Key) -> Any:
    kind, scopes = info.get("type"), list(login.scopes)
    if kind == "service_account":
        return key.credentials(info, scopes)
    if kind == "authorized_user":
        return _module("oauth2.credentials").Credentials.from_authorized_user_info(info, scopes)
    if kind == "external_account_authorized_user":
        return _module("auth.external_account_authorized_user").Credentials.from_info({**info, "scopes": scopes})
    if kind == "external_account":
        return _module(_federation(info)).Credentials.from_info(info, scopes=scopes)
    if kind == "impersonated_service_account":
        return _impersonation_of(info, login, key)
    raise CredentialError(
        f"The Google credentials from {login.source} are of the type {kind!r}, which is not supported: use a service "
        "account key, a workload identity federation configuration, or a user's login."
    )


def _federation(info: Mapping[str, Any]) -> str:
    if str(info.get("subject_token_type", "")).startswith("urn:ietf:params:aws:"):
        return "auth.aws"
    runs_a_command = (info.get("credential_source") or {}).get("executable") is not None
    return "auth.pluggable" if runs_a_command else "auth.identity_pool"


def _impersonation_of(info: Mapping[str, Any], login: GoogleLogin, key: _Key) -> Any:
    url = str(info.get("service_account_impersonation_url", ""))
    principal = url.rpartition("/")[2].removesuffix(":generateAccessToken")
    if not principal or not isinstance(info.get("source_credentials"), Mapping):
        raise CredentialError(
            f"The Google credentials from {login.source} impersonate a service account but do not say which, or whose "
            "credentials may: write them anew."
        )
    return _module("auth.impersonated_credentials").Credentials(
        source_credentials=_load(info["source_credentials"], login, key),
        target_principal=principal,
        target_scopes=list(login.scopes),
        delegates=info.get("delegates"),
        iam_endpoint_override=url,
    )


def _impersonated(credentials: Any, login: GoogleLogin) -> Any:
    if not login.impersonation_chain:
        return credentials
    *delegates, target = login.impersonation_chain
    override = None
    if login.iam_endpoint is not None:
        path = f"v1/projects/-/serviceAccounts/{target}:generateAccessToken"
        override = f"{login.iam_endpoint.rstrip('/')}/{path}"
    return _module("auth.impersonated_credentials").Credentials(
        source_credentials=credentials,
        target_principal=target,
        target_scopes=list(login.scopes),
        delegates=delegates or None,
        iam_endpoint_override=override,
    )


def _module(name: str) -> Any:
    return import_module(f"google.{name}")


def _read_token(credentials: Any, login: GoogleLogin, now: float) -> GoogleToken:
    value, expiry = credentials.token, credentials.expiry
    if not isinstance(value, str) or not value:
        raise CredentialError(f"Google gave no access token for {login.source}: use credentials that have one.")
    if expiry is None:
        return GoogleToken(Token(value), _email(credentials, login))
    # The library's times are in UTC, and say so only sometimes.
    end = (expiry if expiry.tzinfo is not None else expiry.replace(tzinfo=timezone.utc)).timestamp()
    if end <= now:
        raise CredentialError(
            f"Google's token for {login.source} had already expired when it came: correct the clock of this host."
        )
    return GoogleToken(Token(value, end), _email(credentials, login))


def _email(credentials: Any, login: GoogleLogin) -> str | None:
    if login.impersonation_chain:
        return login.impersonation_chain[-1]
    email = getattr(credentials, "service_account_email", None) or getattr(credentials, "signer_email", None)
    return email if isinstance(email, str) and "@" in email else None


def _is_verdict(error: Exception) -> bool:
    """Whether Google has judged; not where it could not be reached, or says itself that it may answer later."""
    from google.auth.exceptions import TransportError

    passing = getattr(error, "retryable", False)
    return not passing and not any(isinstance(e, TransportError) for e in (error, error.__cause__, *error.args))


def _refused(error: Exception, login: GoogleLogin) -> str:
    from google.auth.exceptions import DefaultCredentialsError, TransportError

    said = str(error.args[0] if error.args else error)[:_TEXT_LIMIT]
    whose = f"Google credentials from {login.source}"
    if isinstance(error, TransportError):
        return (
            f"A token for the {whose} could not be fetched: Google could not be reached ({reason_of(error)}). Check "
            "that this host reaches it: DNS, firewall, and proxy settings."
        )
    if isinstance(error, DefaultCredentialsError) and login.read is None:
        return (
            "There are no Google credentials here: no GOOGLE_APPLICATION_CREDENTIALS, no login of gcloud's for "
            "applications, no metadata server. Give some: an Airflow connection as conn_id, a key_file, or a service "
            "account for this process (workload identity)."
        )
    if "impersonated" in said or "impersonat" in said.lower():
        chain = " -> ".join(login.impersonation_chain) or "the service account it names"
        return (
            f"The {whose} may not impersonate {chain} ({_response(error) or said}). Grant each of the chain the role "
            "roles/iam.serviceAccountTokenCreator on the next, and enable the IAM Service Account Credentials API."
        )
    hint = "Check that the service account exists and is enabled, and its key not deleted."
    if "iat" in said and "exp" in said:
        hint = "The clock of this host is off: set it, by NTP."
    elif "Signature" in said:
        hint = "The key was deleted from the service account, or is another's: create a new one."
    return f"Google refused the {whose} ({said}). {hint}"


def _response(error: Exception) -> str | None:
    body = error.args[1] if len(error.args) > 1 else None
    try:
        said = json.loads(body)["error"] if isinstance(body, str | bytes) else None
    except (ValueError, KeyError, TypeError):
        return None
    return f"{said.get('status')}: {said.get('message')}"[:_TEXT_LIMIT] if isinstance(said, Mapping) else None


def _check_installed() -> None:
    try:
        import google.auth
        import google.auth.transport.requests  # noqa: F401
    except ImportError as error:
        # google-auth itself wraps the absence of requests.
        if (error.name or "google").partition(".")[0] not in ("google", "requests"):
            raise
        raise MissingExtraError(FEATURE, EXTRA) from None
