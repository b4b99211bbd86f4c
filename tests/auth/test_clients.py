# ruff: noqa: TID253 - the official client is what is tested here
from __future__ import annotations

import copy
import gc
import os
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme
from kubernetes import client as sdk
from kubernetes import stream as websocket
from kubernetes import watch as watching
from kubernetes.client.exceptions import ApiException
from multidict import CIMultiDict

from kpo_multicluster.auth.access import Token, TokenSource, static_token
from kpo_multicluster.auth.clients import api_client
from kpo_multicluster.cluster import kubeconfig, token
from kpo_multicluster.errors import ConfigurationError, CredentialError

from .numbered import NumberedTokens, access

# Neither is annotated.
stream: Any = websocket.stream
Watch: Any = watching.Watch


def version(client: Any) -> str:
    return str(sdk.VersionApi(client).get_code().minor)


def run(client: Any, api: Any = sdk.CoreV1Api) -> str:
    core = api(client)
    # Without preloading, to be able to close the socket.
    opened = stream(
        core.connect_get_namespaced_pod_exec,
        "p",
        "default",
        command=["hi"],
        stdout=True,
        stderr=False,
        _preload_content=False,
    )
    opened.run_forever(timeout=10)
    text = opened.read_all()
    opened.sock.shutdown()  # close() leaves the socket open once the server has said goodbye
    return str(text)


def test_a_client_of_a_ref_and_of_access(server: Any) -> None:
    ref = token(server.url, token="good", ca_data=server.ca_pem)
    with api_client(ref) as client:
        assert version(client) == "cluster"
        assert sdk.CoreV1Api(client).list_namespaced_pod("default").items == []
    with api_client(access(server, static_token("good", source="test"))) as client:
        assert version(client) == "cluster"
    assert {seen.bearer for seen in server.seen} == {"good"}


def test_the_process_default_is_neither_read_nor_written(server: Any) -> None:
    default = sdk.Configuration()
    default.host = "https://default.invalid"
    sdk.Configuration.set_default(default)
    try:
        with api_client(access(server, static_token("good", source="test"))) as client:
            assert version(client) == "cluster"
            assert sdk.Configuration.get_default_copy().host == "https://default.invalid"
            assert sdk.Configuration.get_default_copy().api_key == {}
    finally:
        sdk.Configuration.set_default(None)
    assert sdk.Configuration._default is None


def test_the_credential_is_renewed_before_it_ends(server: Any, clock: Any) -> None:
    tokens = NumberedTokens(server, clock, life=600)
    with api_client(access(server, tokens.source)) as client:
        assert version(client) == "cluster"
        clock.now += 570
        assert version(client) == "cluster"
    assert [seen.bearer for seen in server.seen] == ["t1", "t2"]


def test_a_401_causes_one_renewal_and_one_replay(server: Any, tokens: NumberedTokens) -> None:
    with api_client(access(server, tokens.source)) as client:
        version(client)
        server.accepted = set()  # what the server takes now is what is fetched next
        core = sdk.CoreV1Api(client)
        body = sdk.V1Pod(metadata=sdk.V1ObjectMeta(name="p"), spec=sdk.V1PodSpec(containers=[]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            core.create_namespaced_pod("default", body)
    assert [(seen.method, seen.bearer) for seen in server.seen] == [("GET", "t1"), ("POST", "t1"), ("POST", "t2")]
    assert server.bodies[1] == server.bodies[2] != b""
    assert tokens.count == 2


def test_a_second_401_is_the_callers(server: Any) -> None:
    source = TokenSource(lambda: Token("bad"), source="test")
    with api_client(access(server, source)) as client:
        for _ in range(2):
            with pytest.raises(ApiException) as caught:
                version(client)
            assert caught.value.status == 401
    assert [seen.bearer for seen in server.seen] == ["bad"] * 4, "the same value again is a renewal all the same"


def test_a_credential_that_cannot_be_renewed_says_why(server: Any) -> None:
    with (
        api_client(access(server, static_token("s3cret", source="connection 'gpu'"))) as client,
        pytest.raises(CredentialError, match="refused the token from connection 'gpu'") as caught,
    ):
        version(client)
    assert "s3cret" not in str(caught.value)


def test_a_stream_and_a_watch_are_replayed_too(server: Any, tokens: NumberedTokens) -> None:
    with api_client(access(server, tokens.source)) as client:
        server.accepted = set()
        response: Any = sdk.CoreV1Api(client).list_namespaced_pod("default", _preload_content=False)
        assert b"PodList" in response.data
        response.release_conn()
        server.accepted = set()
        watcher = Watch()
        assert list(watcher.stream(sdk.CoreV1Api(client).list_namespaced_pod, "default", timeout_seconds=1)) == []
    assert [seen.bearer for seen in server.seen] == ["t1", "t2", "t2", "t3"]


def test_a_header_of_the_callers_own_is_left_alone(server: Any, tokens: NumberedTokens) -> None:
    own = {"type": "api_key", "in": "header", "key": "authorization", "value": "Bearer mine"}
    with api_client(access(server, tokens.source)) as client, pytest.raises(ApiException):
        sdk.VersionApi(client).get_code(_request_auth=own)
    assert [seen.bearer for seen in server.seen] == ["mine"]


def test_eight_threads_refused_at_once_renew_once(server: Any, tokens: NumberedTokens) -> None:
    with api_client(access(server, tokens.source)) as client, ThreadPoolExecutor(8) as threads:
        server.accepted = set()
        assert [future.result() for future in [threads.submit(version, client) for _ in range(8)]] == ["cluster"] * 8
    assert tokens.count == 2


def test_exec_over_the_websocket(server: Any, tokens: NumberedTokens) -> None:
    with api_client(access(server, tokens.source)) as client:
        assert run(client) == "hello from cluster"
        server.accepted = set()
        assert run(client) == "hello from cluster", "a handshake refused with 401 is replayed"
        assert version(client) == "cluster", "the method that was replaced is back"
    assert [seen.bearer for seen in server.seen] == ["t1", "t1", "t2", "t2"]


def test_exec_is_verified_against_the_clusters_ca(server: Any, other_ca: trustme.CA) -> None:
    pem = other_ca.cert_pem.bytes().decode()
    with api_client(access(server, static_token("good", source="test"), ca_pem=pem)) as client:
        with pytest.raises(ApiException, match="CERTIFICATE_VERIFY_FAILED"):
            run(client)
        with pytest.raises(Exception, match="CERTIFICATE_VERIFY_FAILED"):
            version(client)
    assert server.seen == []


def test_a_thread_that_execs_does_not_take_the_requests_of_others(server: Any, tokens: NumberedTokens) -> None:
    source = access(server, tokens.source)
    with api_client(source) as client:
        entered, go = threading.Event(), threading.Event()

        class Slow(sdk.CoreV1Api):
            def connect_get_namespaced_pod_exec(self, *args: Any, **kwargs: Any) -> Any:
                entered.set()
                assert go.wait(10)
                return super().connect_get_namespaced_pod_exec(*args, **kwargs)

        with ThreadPoolExecutor(1) as threads:
            slow = threads.submit(run, client, Slow)
            assert entered.wait(10)
            assert version(client) == "cluster"
            go.set()
            assert slow.result() == "hello from cluster"


def test_a_client_certificate_serves_requests_and_exec(make_server: Any, identity: Any) -> None:
    server = make_server(accepted_certificates={"alice"})
    own = access(server, None, client_certificate=identity.certificate, client_key=identity.key)
    with api_client(own) as client:
        assert version(client) == "cluster"
        assert run(client) == "hello from cluster"
    assert [seen.certificate for seen in server.seen] == ["alice", "alice"]
    assert [seen.bearer for seen in server.seen] == [None, None]


def test_a_client_certificate_that_is_renewed(
    make_server: Any, identity: Any, second_identity: Any, descriptors: Callable[[], int]
) -> None:
    server = make_server(accepted_certificates={"alice"})
    answers = [Token("", None, who.certificate, who.key) for who in (identity, second_identity, identity)]
    with api_client(access(server, TokenSource(lambda: answers.pop(0), source="test"))) as client:
        assert version(client) == "cluster"
        assert run(client) == "hello from cluster"
        server.accepted_certificates = {"bob"}
        assert version(client) == "cluster"
        assert run(client) == "hello from cluster"
        before = len(memory_files())
        server.accepted_certificates = {"alice"}
        assert version(client) == "cluster"
        assert run(client) == "hello from cluster"
        assert len(memory_files()) == before
    assert [seen.certificate for seen in server.seen] == [
        "alice",
        "alice",
        "alice",
        "bob",
        "bob",
        "bob",
        "alice",
        "alice",
    ]


def memory_files() -> list[str]:
    names = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    return [name for name in names if os.path.lexists(name) and os.readlink(name).startswith("/memfd:")]


def test_closing_releases_everything_and_nothing_touches_the_disk(
    server: Any, identity: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    gc.collect()
    before = memory_files()
    source = static_token("good", source="test")
    own = access(server, source, client_certificate=identity.certificate, client_key=identity.key)
    client: Any = api_client(own)
    assert version(client) == "cluster"
    paths = {client.configuration.ssl_ca_cert, client.configuration.cert_file, client.configuration.key_file}
    assert len(memory_files()) == len(before) + 2
    assert all(path.startswith("/proc/self/fd/") for path in paths)
    client.close()
    client.close()
    assert memory_files() == before
    assert client.configuration.ssl_ca_cert is None, "the descriptor's number may be another file's by now"
    api_client(own)
    gc.collect()
    assert memory_files() == before, "one that was forgotten is released as well"
    assert list(tmp_path.iterdir()) == []


def test_without_memfd_requests_are_served_all_the_same(
    server: Any, identity: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delattr(os, "memfd_create")
    source = static_token("good", source="test")
    own = access(server, source, client_certificate=identity.certificate, client_key=identity.key)
    with api_client(own) as client:
        assert version(client) == "cluster"
        with pytest.raises(ApiException, match="CERTIFICATE_VERIFY_FAILED"):
            run(client)
    assert list(tmp_path.iterdir()) == []


def test_tls_server_name(make_server: Any) -> None:
    server = make_server(names=("kubernetes.default.svc",), accepted={"good"})
    own = access(server, static_token("good", source="test"))
    with api_client(own) as client, pytest.raises(Exception, match="certificate verify failed"):
        version(client)
    with api_client(replace(own, tls_server_name="kubernetes.default.svc")) as client:
        assert version(client) == "cluster"
        assert run(client) == "hello from cluster"
    assert server.asked_names[-2:] == ["kubernetes.default.svc"] * 2


def test_insecure(server: Any, other_ca: trustme.CA) -> None:
    pem = other_ca.cert_pem.bytes().decode()
    own = access(server, static_token("good", source="test"), ca_pem=pem, verify_tls=False)
    with api_client(own) as client:
        with pytest.warns(Warning, match="Unverified HTTPS request"):
            assert version(client) == "cluster"
        assert run(client) == "hello from cluster"


def test_impersonation_headers_are_sent_each_in_a_line_and_exec_without_them_is_refused(server: Any) -> None:
    headers = CIMultiDict([("Impersonate-User", "jané"), ("Impersonate-Group", "a"), ("Impersonate-Group", "b")])
    with api_client(access(server, static_token("good", source="test"), headers=headers)) as client:
        assert version(client) == "cluster"
        with pytest.raises(ConfigurationError, match=r"run as another user than context 'gpu' of /k says"):
            run(client)
        assert version(client) == "cluster"
    assert server.seen[-1].header("Impersonate-User") == ["jané"]
    assert server.seen[-1].header("Impersonate-Group") == ["a", "b"]
    assert not [seen for seen in server.seen if "exec" in seen.path]


def test_the_clusters_proxy_serves_requests_and_exec(server: Any, proxy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    url = f"http://me:s%2Fcret@127.0.0.1:{proxy.port}"
    with api_client(access(server, static_token("good", source="test"), proxy_url=url)) as client:
        assert version(client) == "cluster"
        assert run(client) == "hello from cluster"
    assert len(proxy.asked) == 2
    for head in proxy.asked:
        assert head.startswith(f"CONNECT 127.0.0.1:{server.port} ")
        assert "basic bWU6cy9jcmV0" in head.replace("Basic", "basic")
        assert "good" not in head


def test_the_environments_proxy(make_server: Any, proxy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
    server = make_server(accepted={"good"})
    loopback = access(server, static_token("good", source="test"))
    with api_client(loopback) as client:
        assert version(client) == "cluster"
    assert proxy.asked == []
    elsewhere = replace(loopback, server=f"https://cluster.invalid:{server.port}")
    with api_client(elsewhere) as client, pytest.raises(Exception, match=r"[Pp]roxy"):
        version(client)
    assert [head.split()[1] for head in proxy.asked] == [f"cluster.invalid:{server.port}"]
    monkeypatch.setenv("NO_PROXY", "10.0.0.0/8,.invalid")
    with api_client(elsewhere) as client:
        assert client.connections.proxy is None
    # As the engine and kubectl do, and as the libraries by themselves do not.
    monkeypatch.setenv("NO_PROXY", "fd00::/8,example.com:6443")
    for url in ("https://[fd00::1]:6443", "https://k.example.com:6443"):
        with api_client(replace(loopback, server=url)) as client:
            assert client.connections.proxy is None


def test_socks_needs_an_optional_library_and_exec_knows_http_proxies_alone(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kpo_multicluster.auth.renewing_pool.find_spec", lambda name: None)
    socks = access(server, static_token("good", source="test"), proxy_url="socks5://me:s3cret@127.0.0.1:1")
    with pytest.raises(
        ConfigurationError, match=r"SOCKS proxy of proxy-url of context 'gpu' of /k .* 'kpo-multicluster\[socks\]'"
    ):
        api_client(socks)
    wrong = replace(socks, proxy_url="ftp://me:s3cret@127.0.0.1:1")
    with pytest.raises(ConfigurationError, match=r"proxy of proxy-url of context 'gpu' of /k is not a URL") as refused:
        api_client(wrong)
    assert "s3cret" not in str(refused.value)
    secure = replace(socks, proxy_url="https://me:s3cret@127.0.0.1:1")
    with api_client(secure) as client, pytest.raises(ConfigurationError, match="knows http proxies alone") as caught:
        run(client)
    assert "s3cret" not in str(caught.value)


def test_the_callers_timeout_is_kept(server: Any) -> None:
    with api_client(access(server, static_token("good", source="test"))) as client:
        assert sdk.VersionApi(client).get_code(_request_timeout=(5, 5)).minor == "cluster"
        assert client.rest_client.pool_manager.connection_pool_kw["maxsize"] > 0


def test_an_unreachable_server_is_tried_once(make_server: Any) -> None:
    server = make_server(accepted={"good"})
    gone = replace(access(server, static_token("good", source="test")), server="https://127.0.0.1:1")
    with api_client(gone) as client, pytest.raises(Exception, match="Connection refused"):
        version(client)


def test_a_configuration_can_be_copied(server: Any, tokens: NumberedTokens) -> None:
    with api_client(access(server, tokens.source)) as client:
        copied = copy.deepcopy(client.configuration)
        assert copied.auth_settings()["BearerToken"]["value"] == "Bearer t1"


def test_an_exec_plugin_of_a_kubeconfig(server: Any, document: Any, as_base64: Any, tmp_path: Path) -> None:
    code = """
import json, os
print(json.dumps({**json.loads(os.environ["KUBERNETES_EXEC_INFO"]), "status": {"token": "good"}}))
"""
    exec_ = {"apiVersion": "client.authentication.k8s.io/v1", "command": sys.executable, "args": ["-c", code]}
    cluster = {"server": server.url, "certificate-authority-data": as_base64(server.ca_pem)}
    with api_client(kubeconfig(document=document({"exec": exec_}, cluster))) as client:
        assert version(client) == "cluster"
    exec_["args"] = ["-c", "raise SystemExit('no login')"]
    with pytest.raises(CredentialError, match="no login"):
        api_client(kubeconfig(document=document({"exec": exec_}, cluster)))
    assert [seen.bearer for seen in server.seen] == ["good"], "never as anonymous"


def test_nothing_heavy_is_imported_before_a_client_is_made() -> None:
    code = (
        "import sys, kpo_multicluster.auth.clients\n"
        "print([m for m in ('kubernetes', 'aiohttp', 'urllib3', 'requests', 'yaml') if m in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert printed.strip() == "[]"
