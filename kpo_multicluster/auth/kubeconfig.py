"""A cluster of a kubeconfig.

Sources: `k8s.io/client-go/tools/clientcmd` for the fields and which of them wins; "User impersonation" in the
Kubernetes documentation for the headers.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from multidict import CIMultiDict, CIMultiDictProxy

from kpo_multicluster.auth import options
from kpo_multicluster.auth.access import ClusterAccess, Token, TokenSource, static_token
from kpo_multicluster.auth.bearer import REREAD_SECONDS, checked_bearer, file_tokens
from kpo_multicluster.auth.exec_plugin import PLUGIN_TIMEOUT_SECONDS, read_plugin, token_fetcher
from kpo_multicluster.auth.known_plugins import KNOWN_PLUGINS
from kpo_multicluster.auth.kubeconfig_file import Kubeconfig, Section, read_document, read_paths
from kpo_multicluster.auth.server import proxy_fault, server_fault
from kpo_multicluster.auth.tls import check_ca, check_client_certificate
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.errors import ConfigurationError, KubeconfigError

_OPTIONS = ("path", "context", "document", "insecure_skip_tls_verify")
_EXEC_EXTENSION = "client.authentication.k8s.io/exec"
_HEADER_NAME_CHARACTERS = "!#$&'*+-.^_`|~"
_INSTEAD_OF_AUTH_PROVIDER = {
    "gcp": "an exec entry for gke-gcloud-auth-plugin (gcloud container clusters get-credentials writes one)",
    "azure": "an exec entry for kubelogin (kubelogin convert-kubeconfig writes one)",
    "oidc": "an exec entry for a plugin that obtains the id token, such as kubectl oidc-login",
}


class KubeconfigResolver:
    """Makes access from a context of a kubeconfig.

    Args:
        clock: Unix time in seconds; decides when token files are read and exec plugins run again.
        plugin_timeout_seconds: how long an exec plugin may take.
    """

    def __init__(
        self, *, clock: Callable[[], float] = time.time, plugin_timeout_seconds: float = PLUGIN_TIMEOUT_SECONDS
    ) -> None:
        self._clock = clock
        self._plugin_timeout_seconds = plugin_timeout_seconds

    def resolve(self, ref: ClusterRef) -> ClusterAccess:
        """Access by the context that the ref names, else the current one.

        An exec plugin is not run here, but when a token is first asked for.

        Raises:
            ConfigurationError: the ref itself cannot work.
            KubeconfigError: the kubeconfig cannot be read, lacks what was asked for, or names no usable credential.
            CredentialError: a token file cannot be read.
        """
        options.check_known(ref, _OPTIONS)
        config = _read(ref)
        context = _context(config, options.text(ref, "context"), ref.source)
        cluster = _named(context, "cluster", config.clusters, "clusters")
        user = _named(context, "user", config.users, "users")
        tokens = self._tokens(user, cluster)
        certificate, key = _client_certificate(user)
        if tokens is None and certificate is not None and _is_of_files(user):
            tokens = self._rotating(user, (certificate, key))
        if tokens is None and certificate is None:
            raise KubeconfigError(
                f"{_sentence(user.where)} holds no credential, so requests would be anonymous: give it a token, "
                "tokenFile, client-certificate with client-key, or exec."
            )
        access = ClusterAccess(
            server=_server(cluster),
            source=context.where,
            ca_pem=_ca(cluster),
            tokens=tokens,
            client_certificate=certificate,
            client_key=key,
            tls_server_name=cluster.text("tls-server-name"),
            verify_tls=not (cluster.flag("insecure-skip-tls-verify") or options.flag(ref, "insecure_skip_tls_verify")),
            proxy_url=_proxy(cluster),
            headers=_impersonation(user),
            namespace=ref.namespace or context.text("namespace"),
        )
        if user.text("tokenFile") is not None and tokens is not None:
            tokens.current()
        return access

    def _rotating(self, user: Section, held: tuple[str | None, str | None]) -> TokenSource:
        """A client certificate that others may replace where it is kept: read again as token files are."""

        def fetch() -> Token:
            nonlocal held
            # In the middle of being replaced, certificate and key do not belong together.
            with suppress(KubeconfigError):
                held = _client_certificate(user)
            return Token("", self._clock() + REREAD_SECONDS, *held)

        return TokenSource(fetch, source=f"client-certificate of {user.where}", clock=self._clock)

    def _tokens(self, user: Section, cluster: Section) -> TokenSource | None:
        _refuse_unsupported(user)
        path, value = user.path("tokenFile"), user.text("token")
        if path is not None:
            return file_tokens(path, source=f"tokenFile of {user.where}", clock=self._clock)
        if value is not None:
            source = f"token of {user.where}"
            return static_token(checked_bearer(value, source=source), source=source)
        section = user.section("exec")
        if section is None:
            return None
        plugin = read_plugin(section, cluster=_cluster_info(cluster), timeout_seconds=self._plugin_timeout_seconds)
        fetch = token_fetcher(plugin, known=KNOWN_PLUGINS, clock=self._clock)
        return TokenSource(fetch, source=plugin.source, clock=self._clock)


def _read(ref: ClusterRef) -> Kubeconfig:
    document: Any = ref.secrets.get("document", ref.options.get("document"))
    path = options.text(ref, "path")
    if document is None:
        return read_paths(path, source=ref.source)
    if path is not None:
        raise ConfigurationError(f"The cluster from {ref.source} has a path and a document: drop one of them.")
    if not isinstance(document, str | Mapping):
        raise ConfigurationError(
            f"The kubeconfig document of the cluster from {ref.source} must be a mapping or text, not "
            f"{type(document).__name__}."
        )
    return read_document(document, source=ref.source)


def _context(config: Kubeconfig, asked: str | None, source: str) -> Section:
    name = asked or config.current_context
    there_are = f"its contexts are: {', '.join(sorted(config.contexts)) or 'none'}"
    if name is None:
        raise KubeconfigError(
            f"{_sentence(config.origin)} sets no current-context; {there_are}. Name one as the context."
        )
    if name not in config.contexts:
        named_by = f"named by {source}" if asked else "its current-context"
        raise KubeconfigError(f"{_sentence(config.origin)} has no context {name!r} ({named_by}); {there_are}.")
    return config.contexts[name]


def _named(context: Section, key: str, sections: Mapping[str, Section], plural: str) -> Section:
    name = context.text(key)
    if name is None:
        raise KubeconfigError(f"{_sentence(context.where)} names no {key}: give it one of the {plural} there.")
    if name not in sections:
        raise KubeconfigError(
            f"{_sentence(context.where)} names the {key} {name!r}, which is not defined; the {plural} there are: "
            f"{', '.join(sorted(sections)) or 'none'}."
        )
    found = sections[name]
    return replace(found, where=f"{found.where} (context {context.name!r})")


def _server(cluster: Section) -> str:
    server = cluster.text("server")
    if server is None:
        raise KubeconfigError(f"{_sentence(cluster.where)} has no server: give it the API server's https URL.")
    fault = server_fault(server)
    if fault is not None:
        raise KubeconfigError(f"The server of {cluster.where} {fault}.")
    return server.rstrip("/")


def _proxy(cluster: Section) -> str | None:
    proxy = cluster.text("proxy-url")
    fault = proxy_fault(proxy) if proxy is not None else None
    if fault is not None:
        raise KubeconfigError(f"The proxy-url of {cluster.where} {fault}.")
    return proxy


def _ca(cluster: Section) -> str | None:
    pem = cluster.pem("certificate-authority")
    if pem is None:
        return None
    try:
        check_ca(pem, cluster.where)
    except ConfigurationError as error:
        raise KubeconfigError(str(error)) from None
    return pem


def _client_certificate(user: Section) -> tuple[str | None, str | None]:
    certificate, key = user.pem("client-certificate"), user.pem("client-key")
    if certificate is None and key is None:
        return None, None
    if certificate is None or key is None:
        has, lacks = (
            ("client-key", "client-certificate") if certificate is None else ("client-certificate", "client-key")
        )
        raise KubeconfigError(f"{_sentence(user.where)} has a {has} but no {lacks}: add it.")
    try:
        check_client_certificate(certificate, key, user.where)
    except ConfigurationError as error:
        raise KubeconfigError(str(error)) from None
    return certificate, key


def _is_of_files(user: Section) -> bool:
    return any(user.text(f"{name}-data") is None for name in ("client-certificate", "client-key"))


def _refuse_unsupported(user: Section) -> None:
    if user.text("username") is not None or user.text("password") is not None:
        raise KubeconfigError(
            f"{_sentence(user.where)} has a username and password, which Kubernetes takes no longer (since 1.19): "
            "remove them and use a token, a client certificate or an exec plugin."
        )
    provider = user.section("auth-provider")
    if provider is not None:
        name = provider.text("name") or "unnamed"
        instead = _INSTEAD_OF_AUTH_PROVIDER.get(name, "an exec entry or a token")
        raise KubeconfigError(
            f"{_sentence(user.where)} has the auth-provider {name!r}; auth-providers were removed from Kubernetes "
            f"clients in 1.26. Use {instead} instead."
        )


def _impersonation(user: Section) -> Mapping[str, str]:
    name, uid, groups = user.text("as"), user.text("as-uid"), user.texts("as-groups")
    extra = user.section("as-user-extra")
    if name is None:
        if uid or groups or extra:
            raise KubeconfigError(
                f"{_sentence(user.where)} has as-uid, as-groups or as-user-extra without as: name the user."
            )
        return {}
    headers = CIMultiDict[str]({"Impersonate-User": name})
    if uid is not None:
        headers.add("Impersonate-Uid", uid)
    for group in groups:
        headers.add("Impersonate-Group", group)
    for key in extra.values if extra is not None else ():
        for value in extra.texts(key) if extra is not None else ():
            headers.add(f"Impersonate-Extra-{quote(str(key), safe=_HEADER_NAME_CHARACTERS)}", value)
    if not all(value.isprintable() for value in headers.values()):
        raise KubeconfigError(f"An impersonation field of {user.where} has control characters: correct it.")
    return CIMultiDictProxy(headers)


def _cluster_info(cluster: Section) -> dict[str, Any]:
    # `Cluster` of client.authentication.k8s.io/v1, for plugins that ask for it.
    ca = cluster.pem("certificate-authority")
    extension = next(
        (
            item.values.get("extension")
            for item in cluster.sections("extensions")
            if item.text("name") == _EXEC_EXTENSION
        ),
        None,
    )
    info = {
        "server": cluster.text("server"),
        "tls-server-name": cluster.text("tls-server-name"),
        "insecure-skip-tls-verify": cluster.flag("insecure-skip-tls-verify"),
        "certificate-authority-data": base64.b64encode(ca.encode()).decode() if ca is not None else None,
        "proxy-url": cluster.text("proxy-url"),
        "disable-compression": cluster.flag("disable-compression"),
        "config": extension,
    }
    return {key: value for key, value in info.items() if value}


def _sentence(where: str) -> str:
    return f"The {where}" if where.startswith(("context ", "cluster ", "user ")) else where[:1].upper() + where[1:]
