# ruff: noqa: TID253 - the official client is what is tested here
"""Eight threads, eight clusters, many clients: none gets another's server, CA, certificate or token."""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from kubernetes import client as sdk

from kpo_multicluster.auth.clients import api_client
from kpo_multicluster.cluster import ClusterRef, kubeconfig

CLUSTERS = THREADS = 8
ROUNDS = 2


@pytest.fixture
def clusters(make_server: Any, tmp_path: Path, as_base64: Callable[[str], str]) -> tuple[list[Any], list[ClusterRef]]:
    """Half of them know their callers by token file, half by client certificate and token."""
    servers, document = [], dict[str, list[Any]](contexts=[], clusters=[], users=[])
    for number in range(CLUSTERS):
        name, ca = f"cluster-{number}", trustme.CA()
        server = make_server(ca=ca, name=name, accepted={f"token-{number}"})
        issued = ca.issue_cert(f"{name}@example.org", common_name=name)
        (tmp_path / f"token-{number}").write_text(f"token-{number}\n")
        user = {"tokenFile": f"token-{number}"}
        if number % 2:
            certificates = "".join(blob.bytes().decode() for blob in issued.cert_chain_pems)
            user["client-certificate-data"] = as_base64(certificates)
            user["client-key-data"] = as_base64(issued.private_key_pem.bytes().decode())
        cluster = {"server": server.url, "certificate-authority-data": as_base64(server.ca_pem)}
        document["contexts"].append({"name": name, "context": {"cluster": name, "user": name}})
        document["clusters"].append({"name": name, "cluster": cluster})
        document["users"].append({"name": name, "user": user})
        servers.append(server)
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(document))
    return servers, [kubeconfig(str(path), context=f"cluster-{number}") for number in range(CLUSTERS)]


def use(refs: list[ClusterRef], thread: int) -> int:
    shared: list[Any] = [api_client(ref) for ref in refs]
    made = 0
    for round_ in range(ROUNDS):
        for step in range(CLUSTERS):
            number = (thread + step * (2 * round_ + 1)) % CLUSTERS
            with api_client(refs[number]) as client:
                for each in (client, shared[number]):
                    assert sdk.VersionApi(each).get_code().minor == f"cluster-{number}"
            made += 1
    for client in shared:
        client.close()
    return made


def test_none_gets_anothers_server_or_token(
    clusters: tuple[list[Any], list[ClusterRef]],
    hasty_threads: None,
    descriptors: Callable[[], int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    servers, refs = clusters
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    environ = dict(os.environ)
    gc.collect()
    before = descriptors()
    with ThreadPoolExecutor(THREADS) as threads:
        made = sum(future.result() for future in [threads.submit(use, refs, thread) for thread in range(THREADS)])
    assert made == THREADS * CLUSTERS * ROUNDS
    for number, server in enumerate(servers):
        assert {seen.bearer for seen in server.seen} == {f"token-{number}"}
        assert {seen.certificate for seen in server.seen} == {f"cluster-{number}" if number % 2 else None}
        assert len(server.seen) == 2 * THREADS * ROUNDS
        server.wait_until_idle()
    gc.collect()
    assert descriptors() <= before
    assert list((tmp_path / "tmp").iterdir()) == []
    assert sdk.Configuration._default is None
    assert dict(os.environ) == environ
