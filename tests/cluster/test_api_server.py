"""An API server that is away for a while, and one that asks someone else who a token belongs to."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from . import bed, kubeconfig
from .clients import Client
from .fixtures import MakeNamespace, RealClusters
from .kubeconfig import Entry

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


class TokenReviewer(http.server.BaseHTTPRequestHandler):
    """Knows one token, as the token endpoint of a cloud would."""

    def do_POST(self) -> None:
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = review["spec"]["token"] == "a-token-of-the-cloud"
        review["status"] = {"authenticated": known, "user": {"username": "someone@cloud", "groups": ["system:masters"]}}
        body = json.dumps(review).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def token_reviewer() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), TokenReviewer) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture
def stopped_api_server(real_clusters: RealClusters) -> Iterator[str]:
    """The API server of `beta`, stopped; it runs as before when the test is over."""
    if not real_clusters.ours:
        pytest.skip("stops an API server, which only the clusters made for the tests allow")
    bed.stop_api_server("beta")
    yield "beta"
    bed.stop_api_server("beta")
    bed.start_api_server("beta")


def test_a_pod_runs_on_while_its_api_server_is_away(real_clusters: RealClusters, make_namespace: MakeNamespace) -> None:
    if not real_clusters.ours:
        pytest.skip("stops an API server, which only the clusters made for the tests allow")
    client = real_clusters.client("beta")
    pods = f"/api/v1/namespaces/{make_namespace('beta')}/pods"
    container = {"name": "base", "image": "busybox", "command": ["sh", "-c", "sleep 1; echo done"]}
    client.request(
        "POST", pods, {"metadata": {"name": "goes-on"}, "spec": {"restartPolicy": "Never", "containers": [container]}}
    )
    started = client.wait(f"{pods}/goes-on", lambda seen: seen.get("status", {}).get("phase") == "Running")
    bed.stop_api_server("beta")
    assert {part.part for part in bed.health() if part.fault} >= {"kube-apiserver"}
    bed.start_api_server("beta")
    ended = client.wait(f"{pods}/goes-on", lambda seen: seen["status"]["phase"] == "Succeeded")
    assert ended["metadata"]["uid"] == started["metadata"]["uid"]
    assert client.text("GET", f"{pods}/goes-on/log") == "done\n"


def test_an_api_server_may_ask_a_webhook_about_tokens(
    real_clusters: RealClusters, stopped_api_server: str, token_reviewer: str, tmp_path: Path
) -> None:
    webhook = kubeconfig.write(tmp_path / "webhook", [Entry("reviewer", token_reviewer, None, {})])
    flags = [f"--authentication-token-webhook-config-file={webhook}", "--authentication-token-webhook-version=v1"]
    bed.start_api_server(stopped_api_server, flags)
    layout = bed.clusters()[stopped_api_server]
    authority = (layout.pki / "ca.crt").read_bytes()
    path = tmp_path / "kubeconfig"
    kubeconfig.write(path, [Entry("cloud", layout.server, authority, {"token": "a-token-of-the-cloud"})])
    client = Client(path, "cloud")
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    seen = client.request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body)
    client.close()
    assert seen["status"]["userInfo"]["username"] == "someone@cloud"
