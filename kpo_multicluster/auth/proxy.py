"""Which proxy, if any, stands between this process and an API server.

The cluster's own proxy (`proxy-url` of a kubeconfig) goes before the environment, and serves every host. From the
environment come HTTPS_PROXY or HTTP_PROXY by the server's scheme, else ALL_PROXY, unless NO_PROXY names the server. The
rules of NO_PROXY are those of Go's httpproxy package, which `kubectl` follows: the HTTP library's own know no CIDRs.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from kpo_multicluster.auth.access import ClusterAccess
from kpo_multicluster.errors import ConfigurationError

_PORTS: Final[Mapping[str, int]] = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
_IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Proxy:
    """A proxy to reach a server through.

    Attributes:
        scheme: `http`, `https`, `socks5` or `socks5h`; a SOCKS proxy resolves the server's name in either form.
        host: without brackets.
        port: TCP port.
        source: where it came from, for messages, such as `HTTPS_PROXY`.
        username: None for a proxy that asks for no credentials.
        password: belonging to it.
    """

    scheme: str
    host: str
    port: int
    source: str
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    @property
    def is_socks(self) -> bool:
        """Whether it speaks SOCKS rather than HTTP."""
        return self.scheme.startswith("socks")

    def __str__(self) -> str:
        return f"the proxy {self.scheme}://{bracketed(self.host)}:{self.port} (from {self.source})"


def bracketed(host: str) -> str:
    """The host as it stands in a URL or a CONNECT line: IPv6 addresses in brackets."""
    return f"[{host}]" if ":" in host else host


def is_loopback(host: str) -> bool:
    """Whether traffic to the host stays on this machine."""
    address = _address(host)
    return host.lower().rstrip(".") == "localhost" if address is None else address.is_loopback


def proxy_of(access: ClusterAccess, environ: Mapping[str, str]) -> Proxy | None:
    """The proxy to reach a cluster through; None for a direct connection.

    Args:
        access: the cluster.
        environ: the environment's variables.

    Raises:
        ConfigurationError: what names the proxy is no proxy URL. The message does not repeat it: it may hold a
            password.
    """
    if access.proxy_url:
        return parse_proxy(access.proxy_url, f"proxy-url of {access.source}")
    server = urlsplit(access.server)
    for name in (f"{server.scheme}_proxy", "all_proxy"):
        found = _variable(environ, name)
        if found is not None:
            bypass = _variable(environ, "no_proxy")
            port = server.port or _PORTS[server.scheme]
            if bypasses_proxy(server.hostname or "", port, bypass[1] if bypass else ""):
                return None
            return parse_proxy(found[1], found[0])
    return None


def parse_proxy(url: str, source: str) -> Proxy:
    """A proxy from its URL; `host:port` alone means an http proxy.

    Raises:
        ConfigurationError: it is no such URL.
    """
    try:
        parts = urlsplit(url)
        if parts.scheme not in _PORTS:
            parts = urlsplit(f"http://{url}") if "://" not in url else SplitResult("", "", "", "", "")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or any(char.isspace() or not char.isprintable() for char in url):
        raise ConfigurationError(
            f"The proxy of {source} is not a URL with one of the schemes {', '.join(_PORTS)}, a host and a port: "
            "correct it there."
        )
    return Proxy(
        scheme=parts.scheme,
        host=host,
        port=port or _PORTS[parts.scheme],
        source=source,
        username=None if parts.username is None else unquote(parts.username),
        password=None if parts.password is None else unquote(parts.password),
    )


def bypasses_proxy(host: str, port: int, no_proxy: str) -> bool:
    """Whether a host is reached directly although a proxy is set.

    localhost and loopback addresses always are. `no_proxy` lists, by commas: `*` for all; an IP address or a CIDR; a
    domain for itself and its subdomains; with a leading `.` or `*.` for the subdomains alone. All but CIDRs may end
    in `:port`.

    Args:
        host: name or address, without brackets.
        port: TCP port.
        no_proxy: the variable's value.
    """
    host = host.lower()
    address = _address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    return any(_matches(entry.strip().lower(), host, address, port) for entry in no_proxy.split(","))


def _matches(entry: str, host: str, address: _IPAddress | None, port: int) -> bool:
    if not entry:
        return False
    if entry == "*":
        return True
    if "/" in entry:
        return address is not None and _contains(entry, address)
    name, wanted_port = _split_port(entry)
    if not name or (wanted_port and wanted_port != str(port)):
        return False
    listed = _address(name)
    if listed is not None:
        return address == listed
    if name.startswith("*."):
        name = name[1:]
    return host.endswith(name) if name.startswith(".") else host == name or host.endswith(f".{name}")


def _contains(cidr: str, address: _IPAddress) -> bool:
    try:
        return address in ipaddress.ip_network(cidr, strict=False)
    except ValueError:
        return False


def _split_port(entry: str) -> tuple[str, str]:
    if _address(entry) is not None:
        return entry, ""  # an IPv6 address is full of colons
    name, colon, port = entry.rpartition(":")
    return (name.strip("[]"), port) if colon else (entry, "")


def _address(host: str) -> _IPAddress | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _variable(environ: Mapping[str, str], name: str) -> tuple[str, str] | None:
    """A variable by its name in capitals or not; an empty one counts as unset."""
    for spelled in (name.upper(), name.lower()):
        # A web server puts a request's `Proxy:` header into HTTP_PROXY of a CGI process.
        if spelled == "HTTP_PROXY" and "REQUEST_METHOD" in environ:
            continue
        if environ.get(spelled):
            return spelled, environ[spelled]
    return None
