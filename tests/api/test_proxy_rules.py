"""Which proxy the environment means, by the rules of Go's httpproxy."""

from __future__ import annotations

import pytest

from kpo_multicluster.auth.proxy import Proxy, bypasses_proxy, parse_proxy, proxy_of
from kpo_multicluster.errors import ConfigurationError

from .cases import SOURCE, access


@pytest.mark.parametrize(
    ("no_proxy", "server", "bypassed"),
    [
        ("", "api.example.com:443", False),
        ("", "localhost:6443", True),
        ("", "127.0.0.1:6443", True),
        ("", "127.200.0.1:6443", True),
        ("", "[::1]:6443", True),
        ("*", "api.example.com:443", True),
        ("other.org,*", "10.0.0.1:443", True),
        (" , ,", "api.example.com:443", False),
        # Domains
        ("example.com", "example.com:443", True),
        ("example.com", "api.example.com:443", True),
        ("example.com", "deep.api.example.com:443", True),
        ("example.com", "badexample.com:443", False),
        ("example.com", "example.com.org:443", False),
        ("EXAMPLE.com", "API.Example.COM:443", True),
        (".example.com", "example.com:443", False),
        (".example.com", "api.example.com:443", True),
        ("*.example.com", "example.com:443", False),
        ("*.example.com", "api.example.com:443", True),
        ("api.*", "api.example.com:443", False),
        ("foo.org, example.com ,bar.org", "api.example.com:443", True),
        (".eks.amazonaws.com", "abc.gr7.eu-west-1.eks.amazonaws.com:443", True),
        ("svc,.svc.cluster.local", "kubernetes.default.svc:443", True),
        # Ports
        ("example.com:6443", "example.com:6443", True),
        ("example.com:6443", "api.example.com:6443", True),
        ("example.com:6443", "example.com:443", False),
        (".example.com:443", "api.example.com:443", True),
        ("10.0.0.1:6443", "10.0.0.1:6443", True),
        ("10.0.0.1:6443", "10.0.0.1:443", False),
        ("[fd00::1]:6443", "[fd00::1]:6443", True),
        ("[fd00::1]:6443", "[fd00::1]:443", False),
        (":443", "example.com:443", False),
        # Addresses and CIDRs
        ("10.0.0.1", "10.0.0.1:6443", True),
        ("10.0.0.1", "10.0.0.10:6443", False),
        ("fd00::1", "[fd00:0:0::1]:6443", True),
        ("::ffff:10.0.0.1", "10.0.0.1:6443", True),
        ("10.0.0.0/8", "10.200.3.4:6443", True),
        ("10.0.0.0/8", "11.0.0.1:6443", False),
        ("10.1.2.3/8", "10.200.3.4:6443", True),
        ("172.16.0.0/12", "172.31.255.255:443", True),
        ("172.16.0.0/12", "172.32.0.1:443", False),
        ("fd00::/8", "[fd12::9]:443", True),
        ("fd00::/8", "10.0.0.1:443", False),
        ("0.0.0.0/0", "8.8.8.8:443", True),
        ("0.0.0.0/0", "api.example.com:443", False),
        ("10.0.0.0/99", "10.0.0.1:443", False),
        ("192.168.0.0/16,10.96.0.1", "10.96.0.1:443", True),
    ],
)
def test_no_proxy(no_proxy: str, server: str, bypassed: bool) -> None:
    host, _, port = server.rpartition(":")
    assert bypasses_proxy(host.strip("[]"), int(port), no_proxy) is bypassed
    environ = {"HTTPS_PROXY": "http://proxy:3128", "no_proxy": no_proxy}
    assert (proxy_of(access(f"https://{server}"), environ) is None) is bypassed


@pytest.mark.parametrize(
    ("environ", "source", "host"),
    [
        ({}, None, None),
        ({"HTTPS_PROXY": "http://a:1"}, "HTTPS_PROXY", "a"),
        ({"https_proxy": "http://b:1"}, "https_proxy", "b"),
        ({"HTTPS_PROXY": "http://a:1", "https_proxy": "http://b:1"}, "HTTPS_PROXY", "a"),
        ({"HTTPS_PROXY": "", "https_proxy": "http://b:1"}, "https_proxy", "b"),
        ({"HTTP_PROXY": "http://a:1"}, None, None),
        ({"ALL_PROXY": "socks5://c:1"}, "ALL_PROXY", "c"),
        ({"all_proxy": "socks5://c:1", "HTTPS_PROXY": "http://a:1"}, "HTTPS_PROXY", "a"),
        ({"ALL_PROXY": "http://c:1", "NO_PROXY": "example.com"}, None, None),
        ({"HTTPS_PROXY": "http://a:1", "NO_PROXY": "", "no_proxy": "example.com"}, None, None),
    ],
)
def test_the_environment(environ: dict[str, str], source: str | None, host: str | None) -> None:
    found = proxy_of(access("https://api.example.com"), environ)
    assert (found and found.source, found and found.host) == (source, host)


def test_plain_http_has_a_variable_of_its_own() -> None:
    cluster = access("http://api.example.com")
    environ = {"HTTP_PROXY": "http://a:1", "HTTPS_PROXY": "http://b:1"}
    found = proxy_of(cluster, environ)
    assert found is not None
    assert found.host == "a"
    assert proxy_of(cluster, {**environ, "REQUEST_METHOD": "GET"}) is None


def test_the_clusters_own_proxy_goes_before_the_environment_and_no_proxy() -> None:
    cluster = access("https://localhost:6443", proxy_url="http://own:3128")
    found = proxy_of(cluster, {"HTTPS_PROXY": "http://a:1", "NO_PROXY": "*"})
    assert found == Proxy("http", "own", 3128, f"proxy-url of {SOURCE}")


@pytest.mark.parametrize(
    ("url", "scheme", "host", "port", "login"),
    [
        ("http://proxy", "http", "proxy", 80, (None, None)),
        ("https://proxy", "https", "proxy", 443, (None, None)),
        ("socks5://proxy", "socks5", "proxy", 1080, (None, None)),
        ("socks5h://proxy:9", "socks5h", "proxy", 9, (None, None)),
        ("proxy:3128", "http", "proxy", 3128, (None, None)),
        ("proxy", "http", "proxy", 80, (None, None)),
        ("10.0.0.1:3128", "http", "10.0.0.1", 3128, (None, None)),
        ("http://[fd00::1]:3128", "http", "fd00::1", 3128, (None, None)),
        ("http://ann:p%40ss%3Aword@proxy:3128/", "http", "proxy", 3128, ("ann", "p@ss:word")),
        ("ann:secret@proxy:3128", "http", "proxy", 3128, ("ann", "secret")),
    ],
)
def test_urls(url: str, scheme: str, host: str, port: int, login: tuple[str | None, str | None]) -> None:
    found = parse_proxy(url, "HTTPS_PROXY")
    assert (found.scheme, found.host, found.port) == (scheme, host, port)
    assert (found.username, found.password) == login
    for text in (str(found), repr(found)):
        assert "secret" not in text
        assert "p@ss" not in text


@pytest.mark.parametrize(
    "url", ["ftp://ann:secret@proxy", "http://ann:secret@", "http://ann:secret@proxy:port", "http://a b:secret@proxy"]
)
def test_what_is_no_proxy_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError, match="The proxy of HTTPS_PROXY is not a URL") as caught:
        proxy_of(access("https://api.example.com"), {"HTTPS_PROXY": url})
    assert "secret" not in str(caught.value)
