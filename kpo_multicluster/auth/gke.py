"""A cluster of Google Kubernetes Engine: found through its API, entered with a Google access token."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from kpo_multicluster.auth import options
from kpo_multicluster.auth.access import ClusterAccess, Token, TokenSource
from kpo_multicluster.auth.connections import OUTSIDE_AIRFLOW, CloudConnection, Connections
from kpo_multicluster.auth.gke_cluster import (
    GkeCaller,
    GkeEndpoint,
    GkeName,
    choose_endpoint,
    gateway_url,
    look_up,
)
from kpo_multicluster.auth.gke_refusal import GkeFacts, explainer
from kpo_multicluster.auth.google_credentials import SCOPES, GoogleLogin, GoogleTokens
from kpo_multicluster.auth.google_files import adc_path, checked, file_reader, parsed
from kpo_multicluster.auth.server import server_fault
from kpo_multicluster.auth.tls import check_ca
from kpo_multicluster.clouds import check_gke, gke_path
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.errors import ConfigurationError, CredentialError

_KEY_FIELDS = ("key_path", "keyfile_dict", "credential_config_file")
_UNSUPPORTED_FIELDS = ("key_secret_name", "idp_issuer_url", "is_anonymous")


class GkeResolver:
    """Makes access to clusters of GKE.

    Args:
        connections: where Airflow connections are looked up.
        clock: Unix time in seconds; decides when tokens are renewed.
    """

    def __init__(self, connections: Connections = OUTSIDE_AIRFLOW, *, clock: Callable[[], float] = time.time) -> None:
        self._connections = connections
        self._clock = clock

    def using(self, connections: Connections) -> GkeResolver:
        """The same resolver, which looks connections up there."""
        return GkeResolver(connections, clock=self._clock)

    def resolve(self, ref: ClusterRef) -> ClusterAccess:
        """Access to the cluster; asks Google for it, unless the ref gives its URL or its membership of a fleet.

        Raises:
            ConfigurationError: the ref cannot work, or there is no such cluster.
            MissingExtraError: google-auth or requests is not installed.
            CredentialError: there are no Google credentials, or they were refused.
            ConnectError: Google's API cannot be reached, or the cluster is not up.
        """
        check_gke(ref)
        conn_id = options.text(ref, "conn_id")
        connection = None if conn_id is None else self._connections.get(conn_id)
        login = gke_login(ref, connection)
        tokens = _Tokens(login, self._clock)
        source_of_tokens = TokenSource(tokens.fetch, source=login.source, clock=self._clock)
        token = source_of_tokens.current()
        endpoint, phrase = self._endpoint(ref, connection, login, token)
        source = f"{phrase}, from {ref.source}"
        fault = server_fault(endpoint.server)
        if fault is not None:
            raise ConfigurationError(f"The endpoint of the {source} {fault}.")
        if endpoint.ca_pem is not None:
            check_ca(endpoint.ca_pem, source)
        return ClusterAccess(
            server=endpoint.server,
            source=source,
            ca_pem=endpoint.ca_pem,
            tokens=source_of_tokens,
            namespace=ref.namespace,
            explain=explainer(GkeFacts(login.source, tokens.email, endpoint, phrase)),
        )

    def _endpoint(
        self, ref: ClusterRef, connection: CloudConnection | None, login: GoogleLogin, token: Token
    ) -> tuple[GkeEndpoint, str]:
        asked, membership = options.text(ref, "endpoint"), options.text(ref, "membership")
        if asked is not None and ":" in asked:
            return GkeEndpoint(asked.rstrip("/"), options.ca_pem(ref)), f"GKE cluster {gke_path(ref)[2]!r}"
        if membership is not None:
            server = gateway_url(membership, source=ref.source)
            return GkeEndpoint(server, kind="connect-gateway"), f"GKE cluster {gke_path(ref)[2]!r}"
        name = gke_name(ref, connection, login)
        caller = gke_caller(ref, connection, login, token)
        return choose_endpoint(look_up(name, caller), asked, name), str(name)


class _Tokens:
    def __init__(self, login: GoogleLogin, clock: Callable[[], float]) -> None:
        self._tokens = GoogleTokens(login, clock=clock)
        self.email: str | None = None

    def fetch(self) -> Token:
        made = self._tokens.fetch()
        self.email = made.email
        return made.token


def gke_login(ref: ClusterRef, connection: CloudConnection | None) -> GoogleLogin:
    """The credentials that a ref of kind `gke` names.

    Raises:
        ConfigurationError: its connection is of another type, or names none that can be used.
    """
    chain = _chain(ref.options.get("impersonation_chain"))
    iam_endpoint = options.text(ref, "iam_endpoint")
    if connection is not None:
        chain = chain or _chain(connection.get("impersonation_chain"))
        scopes = _chain(connection.text("scope")) or SCOPES
        iam_endpoint = iam_endpoint or connection.endpoint("iam_endpoint")
        return GoogleLogin(connection.source, _connection_reader(connection), chain, scopes, iam_endpoint)
    file, config = options.text(ref, "key_file"), options.text(ref, "credential_config_file")
    text = options.text(ref, "key_json")
    if file is not None or config is not None:
        path = file or config or ""
        return GoogleLogin(path, file_reader(path, source=ref.source), chain, iam_endpoint=iam_endpoint)
    if text is not None:
        return GoogleLogin(
            f"key_json of {ref.source}", _text_reader(text, ref.source), chain, iam_endpoint=iam_endpoint
        )
    return GoogleLogin("Application Default Credentials", None, chain, iam_endpoint=iam_endpoint)


def _text_reader(text: str, source: str) -> Callable[[], Mapping[str, Any]]:
    if not text.startswith("env:"):
        return lambda: parsed(text, source=f"key_json of {source}")
    name = text.removeprefix("env:")

    def read() -> Mapping[str, Any]:
        value = os.environ.get(name)
        if not value:
            raise CredentialError(
                f"The environment variable {name} (key_json of {source}) is not set in this process: set it, on the "
                "triggerer too if the task defers."
            )
        return parsed(value, source=f"the environment variable {name}")

    return read


def _connection_reader(connection: CloudConnection) -> Callable[[], Mapping[str, Any]] | None:
    connection.check_type("google_cloud_platform")
    for name in _UNSUPPORTED_FIELDS:
        if connection.get(name) not in (None, False, "false", "False"):
            raise ConfigurationError(
                f"The {connection.source} sets {name}, which is not supported here: fill in key_path, keyfile_dict or "
                "credential_config_file, or leave all empty for this process's own identity."
            )
    given = [name for name in _KEY_FIELDS if connection.get(name) is not None]
    if len(given) > 1:
        raise ConfigurationError(
            f"The {connection.source} fills in {' and '.join(given)}, which name different credentials: leave only one."
        )
    if not given:
        return None
    value, source = connection.get(given[0]), f"field {given[0]!r} of {connection.source}"
    if isinstance(value, Mapping):
        return lambda: checked(value, source=source)
    text = connection.text(given[0]) or ""
    if text.lstrip().startswith("{") or given[0] == "keyfile_dict":
        return lambda: parsed(text, source=source)
    return file_reader(text, source=source)


def gke_caller(ref: ClusterRef, connection: CloudConnection | None, login: GoogleLogin, token: Token) -> GkeCaller:
    """Who asks the Kubernetes Engine API for the cluster of a ref, with a token of that login."""
    quota = options.text(ref, "quota_project") or (connection.text("quota_project_id") if connection else None)
    api_endpoint = options.text(ref, "api_endpoint") or (connection.endpoint("api_endpoint") if connection else None)
    return GkeCaller(token.value, login.source, quota, api_endpoint)


def gke_name(ref: ClusterRef, connection: CloudConnection | None, login: GoogleLogin) -> GkeName:
    """Where the cluster of a ref of kind `gke` is.

    Raises:
        ConfigurationError: no project is known.
    """
    project, location, name = gke_path(ref)
    project = project or options.text(ref, "project") or (connection.text("project") if connection else None)
    project = project or _project_of(login)
    if project is None:
        raise ConfigurationError(
            f"No project is known for the GKE cluster {name!r} from {ref.source}: give project=, or the cluster's path "
            "projects/P/locations/L/clusters/C as its name."
        )
    return GkeName(project, location or options.text(ref, "location") or "", name)


def _project_of(login: GoogleLogin) -> str | None:
    named = login.environ.get("GOOGLE_CLOUD_PROJECT")
    path = adc_path(login.environ) if login.read is None else None
    read = login.read if path is None else file_reader(path, source=login.source)
    project = read().get("project_id") if read is not None else None
    found = project if login.read is not None else named or project
    return found if isinstance(found, str) else None


def _chain(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    items = value.split(",") if isinstance(value, str) else value
    return tuple(item.strip() for item in items if item.strip())
