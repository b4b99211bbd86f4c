"""Azure on loopback, over https: Entra, managed identity, and Azure Resource Manager's side of AKS."""

from __future__ import annotations

import base64
import json
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import trustme
import yaml

TENANT, CLIENT, SECRET = "72f988bf-86f1-41af-91ab-2d7cd011db47", "11111111-aaaa", "s3cr3t-value"
SERVER_ID = "6dae42f8-4368-4678-94ff-3960e28e3630"
SUBSCRIPTION = "00000000-1111"
CLUSTER = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/ml/providers/Microsoft.ContainerService/managedClusters/gpu"

Answer = tuple[int, dict[str, Any]]


@dataclass
class Azure:
    """Hands out numbered tokens for a scope, and clusters to those who hold one for Resource Manager."""

    ca_pem: str
    url: str = ""
    plain_url: str = ""
    life_seconds: int = 3600
    calls: list[str] = field(default_factory=list)
    queries: list[dict[str, str]] = field(default_factory=list)
    forms: list[dict[str, str]] = field(default_factory=list)
    faults: dict[str, Answer] = field(default_factory=dict)
    clusters: dict[str, dict[str, Any]] = field(default_factory=dict)
    kubeconfigs: dict[str, dict[str, Any]] = field(default_factory=dict)
    scopes: dict[str, str] = field(default_factory=dict)

    def reset(self) -> None:
        for held in (self.calls, self.queries, self.forms, self.faults, self.clusters, self.kubeconfigs, self.scopes):
            held.clear()
        self.life_seconds = 3600

    def cluster(self, user: dict[str, Any] | None = None, *, host: str = "gpu.hcp.example", **properties: Any) -> None:
        self.clusters[CLUSTER] = {
            "id": CLUSTER,
            "name": "gpu",
            "properties": {
                "provisioningState": "Succeeded",
                "powerState": {"code": "Running"},
                "aadProfile": {"managed": True, "tenantID": TENANT},
                **properties,
            },
        }
        self.kubeconfigs["User"] = self.kubeconfig(user or self.entra_user(), host)

    def entra_user(self, server_id: str = SERVER_ID) -> dict[str, Any]:
        arguments = ["get-token", "--environment", "AzurePublicCloud", "--server-id", server_id]
        arguments += ["--client-id", "80faf920", "--tenant-id", TENANT, "--login", "devicecode"]
        entry = {"apiVersion": "client.authentication.k8s.io/v1beta1", "command": "kubelogin", "args": arguments}
        return {"exec": {**entry, "env": None, "provideClusterInfo": False}}

    def kubeconfig(self, user: dict[str, Any], host: str = "gpu.hcp.example") -> dict[str, Any]:
        ca = base64.b64encode(self.ca_pem.encode()).decode()
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "gpu",
            "contexts": [{"name": "gpu", "context": {"cluster": "gpu", "user": "u"}}],
            "clusters": [
                {"name": "gpu", "cluster": {"server": f"https://{host}:443", "certificate-authority-data": ca}}
            ],
            "users": [{"name": "u", "user": user}],
        }

    def fault(self, path: str, status: int, code: str, message: str) -> None:
        self.faults[path] = status, {"error": {"code": code, "message": message}}

    # -- what a request is answered with ----------------------------------------------------------------------

    def answer(self, target: str, headers: dict[str, str], body: bytes) -> Answer:
        parts = urlsplit(target)
        path = parts.path
        query = {key: value[0] for key, value in parse_qs(parts.query).items()}
        self.calls.append(path)
        self.queries.append(query)
        if path in self.faults:
            return self.faults[path]
        if path.endswith("/.well-known/openid-configuration"):
            base = f"{self.url}/{TENANT}"
            return 200, {
                "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                "token_endpoint": f"{base}/oauth2/v2.0/token",
                "issuer": f"{base}/v2.0",
            }
        if path.endswith("/oauth2/v2.0/token"):
            return self._grant({key: value[0] for key, value in parse_qs(body.decode()).items()})
        if path == "/msi/token":
            return self._managed(query, headers)
        scope = self.scopes.get(headers.get("authorization", "").removeprefix("Bearer "))
        if scope != f"{self.url}/.default":
            return 401, {"error": {"code": "InvalidAuthenticationToken", "message": f"token for {scope}"}}
        assert query["api-version"]
        return self._manage(path)

    def make_token(self, scope: str, **claims: Any) -> str:
        body = {"aud": scope.removesuffix("/.default"), "tid": TENANT, "oid": "object-1", "appid": CLIENT, **claims}
        parts = [{"alg": "none"}, {**body, "n": len(self.scopes)}]
        head, payload = (base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
        token = f"{head}.{payload}.sig"
        self.scopes[token] = scope
        return token

    def _grant(self, form: dict[str, str]) -> Answer:
        self.forms.append(form)
        assertion = form.get("client_assertion", "")
        if form.get("client_secret") != SECRET and not assertion:
            return 401, {
                "error": "invalid_client",
                "error_description": "AADSTS7000215: Invalid client secret provided. Trace ID: 1-2-3",
                "error_codes": [7000215],
            }
        scope = form["scope"].split()[0]
        return 200, {
            "token_type": "Bearer",
            "expires_in": self.life_seconds,
            "access_token": self.make_token(scope),
        }

    def _managed(self, query: dict[str, str], headers: dict[str, str]) -> Answer:
        assert headers["x-identity-header"] == "header-secret"
        token = self.make_token(f"{query['resource']}/.default", appid=query.get("client_id", "system"))
        return 200, {
            "access_token": token,
            "expires_on": str(int(time.time()) + self.life_seconds),
            "resource": query["resource"],
            "token_type": "Bearer",
        }

    def _manage(self, path: str) -> Answer:
        if path.endswith("/managedClusters"):
            return 200, {"value": list(self.clusters.values())}
        base, _, action = path.rpartition("/")
        if path in self.clusters:
            return 200, self.clusters[path]
        kind = action.removeprefix("listCluster").removesuffix("Credential")
        if base in self.clusters and kind in self.kubeconfigs:
            text = yaml.safe_dump(self.kubeconfigs[kind])
            value = base64.b64encode(text.encode()).decode()
            return 200, {"kubeconfigs": [{"name": "gpu", "value": value}]}
        return 404, {"error": {"code": "ResourceNotFound", "message": f"{path.rpartition('/')[2]} was not found."}}


@pytest.fixture(scope="session")
def azure_server(ca: trustme.CA) -> Iterator[Azure]:
    state = Azure(ca.cert_pem.bytes().decode())

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, answer = state.answer(self.path, headers, body)
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _serve

        def log_message(self, *_: Any) -> None:
            pass

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), Handler) for _ in range(2)]
    servers[0].socket = context.wrap_socket(servers[0].socket, server_side=True)
    state.url = f"https://localhost:{servers[0].server_port}"
    state.plain_url = f"http://127.0.0.1:{servers[1].server_port}"
    threads = [threading.Thread(target=server.serve_forever) for server in servers]
    for thread in threads:
        thread.start()
    yield state
    for server, thread in zip(servers, threads, strict=True):
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def azure(azure_server: Azure, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Azure:
    """An Azure of its own, where this process is no one, and trusts its CA."""
    import os

    azure_server.reset()
    for name in list(os.environ):
        if name.startswith(("AZURE_", "AAD_", "IDENTITY_", "MSI_", "ARM_")):
            monkeypatch.delenv(name)
    bundle = tmp_path / "azure-ca.pem"
    bundle.write_text(azure_server.ca_pem)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    return azure_server
