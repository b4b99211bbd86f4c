# ruff: noqa: TID253 - the official client is what is tested here
from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme
from kubernetes import client as blocking
from kubernetes_asyncio import client as sdk
from kubernetes_asyncio import watch as watching
from kubernetes_asyncio.client.exceptions import ApiException
from multidict import CIMultiDict

from kpo_multicluster.auth.access import ClusterAccess, Token, TokenSource, static_token
from kpo_multicluster.auth.clients import api_client, async_api_client
from kpo_multicluster.cluster import kubeconfig, token
from kpo_multicluster.errors import ConfigurationError, CredentialError, MissingExtraError

from ..api.servers import FakeProxy
from .numbered import NumberedTokens, access

# Not annotated.
Watch: Any = watching.Watch


def good(server: Any, **fields: Any) -> ClusterAccess:
    return access(server, static_token("good", source="test"), **fields)


async def version(client: Any) -> str:
    return str((await sdk.VersionApi(client).get_code()).minor)


async def run(own: ClusterAccess) -> str:
    async with await async_api_client(own, websockets=True) as client:
        core = sdk.CoreV1Api(client)
        return str(await core.connect_get_namespaced_pod_exec("p", "default", command="hi", stdout=True, stderr=False))


async def test_a_client_of_a_ref_and_of_access(server: Any) -> None:
    async with await async_api_client(token(server.url, token="good", ca_data=server.ca_pem)) as client:
        assert await version(client) == "cluster"
        assert (await sdk.CoreV1Api(client).list_namespaced_pod("default")).items == []
    async with await async_api_client(good(server)) as client:
        assert await version(client) == "cluster"
    assert {seen.bearer for seen in server.seen} == {"good"}


async def test_the_process_default_is_neither_read_nor_written(server: Any) -> None:
    default = sdk.Configuration()
    default.host = "https://default.invalid"
    sdk.Configuration.set_default(default)
    try:
        async with await async_api_client(good(server)) as client:
            assert await version(client) == "cluster"
            assert sdk.Configuration.get_default_copy().host == "https://default.invalid"
            assert sdk.Configuration.get_default_copy().api_key == {}
    finally:
        sdk.Configuration.set_default(None)


async def test_the_credential_is_renewed_before_it_ends(server: Any, clock: Any) -> None:
    tokens = NumberedTokens(server, clock, life=600)
    async with await async_api_client(access(server, tokens.source)) as client:
        assert await version(client) == "cluster"
        clock.now += 570
        assert await version(client) == "cluster"
    assert [seen.bearer for seen in server.seen] == ["t1", "t2"]


async def test_a_401_causes_one_renewal_and_one_replay(server: Any, tokens: NumberedTokens) -> None:
    async with await async_api_client(access(server, tokens.source)) as client:
        await version(client)
        server.accepted = set()  # what the server takes now is what is fetched next
        body = sdk.V1Pod(metadata=sdk.V1ObjectMeta(name="p"), spec=sdk.V1PodSpec(containers=[]))
        await sdk.CoreV1Api(client).create_namespaced_pod("default", body)
    assert [(seen.method, seen.bearer) for seen in server.seen] == [("GET", "t1"), ("POST", "t1"), ("POST", "t2")]
    assert server.bodies[1] == server.bodies[2] != b""
    assert tokens.count == 2


async def test_a_second_401_is_the_callers(server: Any) -> None:
    source = TokenSource(lambda: Token("bad"), source="test")
    async with await async_api_client(access(server, source)) as client:
        for _ in range(2):
            with pytest.raises(ApiException) as caught:
                await version(client)
            assert caught.value.status == 401
    assert [seen.bearer for seen in server.seen] == ["bad"] * 4, "the same value again is a renewal all the same"


async def test_a_credential_that_cannot_be_renewed_says_why(server: Any) -> None:
    own = access(server, static_token("s3cret", source="connection 'gpu'"))
    async with await async_api_client(own) as client:
        with pytest.raises(CredentialError, match="refused the token from connection 'gpu'") as caught:
            await version(client)
    assert "s3cret" not in str(caught.value)


async def test_a_stream_and_a_watch_are_replayed_too(server: Any, tokens: NumberedTokens) -> None:
    async with await async_api_client(access(server, tokens.source)) as client:
        server.accepted = set()
        core: Any = sdk.CoreV1Api(client)
        response = await core.list_namespaced_pod("default", _preload_content=False)
        assert b"PodList" in await response.read()
        server.accepted = set()
        async with Watch().stream(core.list_namespaced_pod, "default", timeout_seconds=1) as events:
            with pytest.raises(Exception, match="'PodList'"):  # the answer of this server to any watch
                await events.__anext__()
    assert [seen.bearer for seen in server.seen] == ["t1", "t2", "t2", "t3"]


async def test_a_header_of_the_callers_own_is_left_alone(server: Any, tokens: NumberedTokens) -> None:
    own = {"type": "api_key", "in": "header", "key": "authorization", "value": "Bearer mine"}
    async with await async_api_client(access(server, tokens.source)) as client:
        api: Any = sdk.VersionApi(client)
        with pytest.raises(ApiException):
            await api.get_code(_request_auth=own)
    assert [seen.bearer for seen in server.seen] == ["mine"]


async def test_eight_requests_refused_at_once_renew_once(server: Any, tokens: NumberedTokens) -> None:
    async with await async_api_client(access(server, tokens.source)) as client:
        server.accepted = set()
        assert await asyncio.gather(*(version(client) for _ in range(8))) == ["cluster"] * 8
    assert tokens.count == 2


async def test_a_renewal_does_not_hold_up_the_loop(server: Any) -> None:
    go = asyncio.Event()
    loop = asyncio.get_running_loop()

    def fetch() -> Token:
        # Ends only if the loop goes on meanwhile.
        asyncio.run_coroutine_threadsafe(go.wait(), loop).result(60)
        return Token("good")

    waiting = asyncio.ensure_future(async_api_client(access(server, TokenSource(fetch, source="test"))))
    await asyncio.sleep(0)
    go.set()
    async with await waiting as client:
        assert await version(client) == "cluster"


async def test_exec_over_the_websocket(server: Any, tokens: NumberedTokens) -> None:
    own = access(server, tokens.source)
    assert await run(own) == "hello from cluster"
    server.accepted = set()
    assert await run(own) == "hello from cluster", "a handshake refused with 401 is replayed"
    assert [seen.bearer for seen in server.seen] == ["t1", "t1", "t2"]


async def test_exec_that_is_awaited(server: Any) -> None:
    async with await async_api_client(good(server), websockets=True) as client:
        core: Any = sdk.CoreV1Api(client)
        opening = await core.connect_get_namespaced_pod_exec("p", "default", command="hi", _preload_content=False)
        socket = await opening
        assert (await socket.receive()).data == b"\x01hello from cluster"
        await socket.close()


async def test_exec_that_is_refused_shows_no_credential(server: Any) -> None:
    own = access(server, TokenSource(lambda: Token("s3cret"), source="test"))
    with pytest.raises(ApiException, match="Handshake status 401") as caught:
        await run(own)
    assert caught.value.status == 401
    assert caught.value.__cause__ is caught.value.__context__ is None
    assert "s3cret" not in f"{caught.value} {vars(caught.value)}"
    assert [seen.bearer for seen in server.seen] == ["s3cret"] * 2


async def test_the_clusters_ca_is_what_counts(server: Any, other_ca: trustme.CA) -> None:
    own = good(server, ca_pem=other_ca.cert_pem.bytes().decode())
    async with await async_api_client(own) as client:
        with pytest.raises(Exception, match="CERTIFICATE_VERIFY_FAILED"):
            await version(client)
    with pytest.raises(Exception, match="CERTIFICATE_VERIFY_FAILED"):
        await run(own)
    assert server.seen == []


async def test_a_client_certificate_that_is_renewed(make_server: Any, identity: Any, second_identity: Any) -> None:
    server = make_server(accepted_certificates={"alice"})
    own = access(server, None, client_certificate=identity.certificate, client_key=identity.key)
    async with await async_api_client(own) as client:
        assert await version(client) == "cluster"
    assert await run(own) == "hello from cluster"
    answers = [Token("", None, who.certificate, who.key) for who in (identity, second_identity)]
    async with await async_api_client(access(server, TokenSource(lambda: answers.pop(0), source="test"))) as client:
        assert await version(client) == "cluster"
        server.accepted_certificates = {"bob"}
        assert await version(client) == "cluster"
    assert [seen.certificate for seen in server.seen] == ["alice", "alice", "alice", "alice", "bob"]
    assert [seen.bearer for seen in server.seen] == [None] * 5


async def test_closing_releases_everything_and_nothing_touches_the_disk(
    server: Any, identity: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, descriptors: Callable[[], int]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    own = good(server, client_certificate=identity.certificate, client_key=identity.key)
    async with await async_api_client(own) as client:
        assert await version(client) == "cluster"
    gc.collect()
    before = descriptors()
    async with await async_api_client(own) as client:
        assert await version(client) == "cluster"
    await asyncio.to_thread(server.wait_until_idle)
    gc.collect()
    assert descriptors() <= before
    assert list(tmp_path.iterdir()) == []


async def test_a_client_that_cannot_be_made_leaves_nothing(server: Any) -> None:
    def fetch() -> Token:
        raise CredentialError("no login")

    with pytest.raises(CredentialError, match="no login"):
        await async_api_client(access(server, TokenSource(fetch, source="test")))


async def test_tls_server_name(make_server: Any) -> None:
    server = make_server(names=("kubernetes.default.svc",), accepted={"good"})
    async with await async_api_client(good(server)) as client:
        with pytest.raises(Exception, match="certificate verify failed"):
            await version(client)
    named = good(server, tls_server_name="kubernetes.default.svc")
    async with await async_api_client(named) as client:
        assert await version(client) == "cluster"
    assert await run(named) == "hello from cluster"
    assert server.asked_names[-2:] == ["kubernetes.default.svc"] * 2


async def test_insecure(server: Any, other_ca: trustme.CA) -> None:
    own = good(server, ca_pem=other_ca.cert_pem.bytes().decode(), verify_tls=False)
    async with await async_api_client(own) as client:
        assert await version(client) == "cluster"
    assert await run(own) == "hello from cluster"


async def test_impersonation_headers_are_sent_each_in_a_line(server: Any) -> None:
    headers = CIMultiDict([("Impersonate-User", "jane"), ("Impersonate-Group", "a"), ("Impersonate-Group", "b")])
    own = good(server, headers=headers)
    async with await async_api_client(own) as client:
        assert await version(client) == "cluster"
    assert await run(own) == "hello from cluster"
    for seen in server.seen:
        assert seen.header("Impersonate-User") == ["jane"]
        assert seen.header("Impersonate-Group") == ["a", "b"]


async def test_the_clusters_proxy_serves_requests_and_exec(
    server: Any, proxy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    own = good(server, proxy_url=f"http://me:s%2Fcret@127.0.0.1:{proxy.port}")
    async with await async_api_client(own) as client:
        assert await version(client) == "cluster"
    assert await run(own) == "hello from cluster"
    assert len(proxy.asked) == 2
    for head in proxy.asked:
        assert head.startswith(f"CONNECT 127.0.0.1:{server.port} ")
        assert "basic bWU6cy9jcmV0" in head.replace("Basic", "basic")
        assert "good" not in head


async def test_the_environments_proxy(make_server: Any, proxy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
    server = make_server(accepted={"good"})
    async with await async_api_client(good(server)) as client:
        assert await version(client) == "cluster"
    assert proxy.asked == [], "loopback is reached directly"
    elsewhere = replace(good(server), server=f"https://cluster.invalid:{server.port}")
    async with await async_api_client(elsewhere) as client:
        with pytest.raises(Exception, match="502"):
            await version(client)
    assert [head.split()[1] for head in proxy.asked] == [f"cluster.invalid:{server.port}"]


async def test_proxies_it_does_not_know(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="knows http and SOCKS proxies") as caught:
        await async_api_client(good(server, proxy_url="https://me:s3cret@127.0.0.1:1"))
    assert "s3cret" not in str(caught.value)
    socks = good(server, proxy_url="socks5h://me:s3cret@127.0.0.1:1")
    async with await async_api_client(socks) as client:
        with pytest.raises(Exception, match=r"127\.0\.0\.1") as refused:
            await version(client)
    assert "s3cret" not in str(refused.value)
    monkeypatch.setattr("kpo_multicluster.auth.renewing_pool.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"asyncio client with the SOCKS proxy .* 'kpo-multicluster\[socks\]'"):
        await async_api_client(socks)


async def test_the_callers_timeout_is_kept(server: Any) -> None:
    async with await async_api_client(good(server)) as client:
        for timeout in (5, (5, 5)):
            assert (await sdk.VersionApi(client).get_code(_request_timeout=timeout)).minor == "cluster"


async def test_an_exec_plugin_of_a_kubeconfig(server: Any, document: Any, as_base64: Any) -> None:
    code = """
import json, os
print(json.dumps({**json.loads(os.environ["KUBERNETES_EXEC_INFO"]), "status": {"token": "good"}}))
"""
    exec_ = {"apiVersion": "client.authentication.k8s.io/v1", "command": sys.executable, "args": ["-c", code]}
    cluster = {"server": server.url, "certificate-authority-data": as_base64(server.ca_pem)}
    async with await async_api_client(kubeconfig(document=document({"exec": exec_}, cluster))) as client:
        assert await version(client) == "cluster"
    exec_["args"] = ["-c", "raise SystemExit('no login')"]
    with pytest.raises(CredentialError, match="no login"):
        await async_api_client(kubeconfig(document=document({"exec": exec_}, cluster)))
    assert [seen.bearer for seen in server.seen] == ["good"], "never as anonymous"


async def test_without_the_library_its_extra_is_named(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kpo_multicluster.auth.clients.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'kpo-multicluster\[async\]'"):
        await async_api_client(good(server))


def test_nothing_heavy_is_imported_before_a_client_is_made() -> None:
    code = (
        "import sys, kpo_multicluster.auth.clients\n"
        "print([m for m in ('kubernetes', 'kubernetes_asyncio', 'aiohttp', 'urllib3') if m in sys.modules])"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=dict(os.environ)
    ).stdout
    assert printed.strip() == "[]"


async def test_a_socks_proxy_is_told_the_password_as_it_is(server: Any) -> None:
    # The library of the one client leaves what is encoded in a URL as it is.
    proxy = FakeProxy("socks5", login="me:p@ss+w/rd%!")
    await proxy.start()
    try:
        own = good(server, proxy_url=proxy.url("me:p%40ss+w%2Frd%25!"))
        async with await async_api_client(own) as client:
            assert await version(client) == "cluster"

        def ask() -> str:
            with api_client(own) as client:
                return str(blocking.VersionApi(client).get_code().minor)

        assert await asyncio.to_thread(ask) == "cluster"
    finally:
        await proxy.stop()
    assert proxy.targets == [f"127.0.0.1:{server.port}"] * 2
