"""Checks of the addresses a cluster is reached by, before a credential is sent to one."""

from __future__ import annotations

import ipaddress
from urllib.parse import SplitResult, urlsplit

from kpo_multicluster.auth.proxy import is_loopback

_PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")


def server_fault(url: str) -> str | None:
    """Why `url` cannot be the base URL of an API server; None when it can.

    Plain http is for loopback alone, where a test or `kubectl proxy` may listen: elsewhere credentials would travel
    in the clear.
    """
    parts = _split(url)
    if parts is None or not parts.hostname or parts.scheme not in ("https", "http"):
        return "is not an https URL such as https://10.0.0.1:6443"
    if parts.username is not None or parts.password is not None:
        return "holds a user name or password, which API servers do not take: name the credential by itself"
    if parts.query or parts.fragment:
        return "has a query or fragment: give the base URL alone"
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        return "is an http URL, so credentials would be sent in the clear: use https"
    return None


def proxy_fault(url: str) -> str | None:
    """Why `url` cannot be a proxy; None when it can. The answer repeats nothing of the URL: it may hold a password."""
    parts = _split(url)
    if parts is None or not parts.hostname or parts.scheme not in _PROXY_SCHEMES:
        return f"is not a URL with a host and one of the schemes {', '.join(_PROXY_SCHEMES)}"
    return None


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port  # the port is parsed, and refused, only when it is asked for
    except ValueError:
        return None
    return None if any(ch.isspace() or not ch.isprintable() for ch in url) else parts


def is_private(host: str) -> bool:
    """Whether the host is an address that only its own network can reach; False for names."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return False
