"""Whether the address of an API server can be used, before anything is sent to it."""

from __future__ import annotations

from yarl import URL

from kpo_multicluster.auth.access import ClusterAccess
from kpo_multicluster.auth.proxy import Proxy, is_loopback
from kpo_multicluster.errors import ConfigurationError


def server_url(access: ClusterAccess) -> URL:
    """The base URL of a cluster's API server.

    Raises:
        ConfigurationError: it is no such URL, or holds credentials.
    """
    try:
        url = URL(access.server)
        usable = url.scheme in ("http", "https") and not url.query_string and not url.fragment
        # The resolver refuses what this refuses, with an error of no use.
        usable = usable and bool((url.raw_host or "").encode("idna"))
    except ValueError:
        usable = False
    if not usable:
        raise ConfigurationError(
            f"The server of {access.source} is not an https URL such as https://10.0.0.1:6443: correct it there."
        )
    if url.user is not None or url.password is not None:
        raise ConfigurationError(
            f"The server of {access.source} holds a user name or password, which API servers do not take: remove it "
            "there, and name the credential by itself."
        )
    return url


def refuse_clear_text(access: ClusterAccess, url: URL, proxy: Proxy | None) -> None:
    """Makes sure that no credential leaves this machine unencrypted.

    Raises:
        ConfigurationError: one would.
    """
    local = is_loopback(url.host or "") and (proxy is None or is_loopback(proxy.host))
    identified = access.tokens is not None or any(name.lower() == "authorization" for name in access.headers)
    if url.scheme == "http" and identified and not local:
        raise ConfigurationError(
            f"The server of {access.source} is an http URL, so its credential would be sent in the clear: use https."
        )
