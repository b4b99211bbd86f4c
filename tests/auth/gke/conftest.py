"""Google on loopback: the token endpoint, impersonation, federation, the metadata server and the GKE API."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

import pytest
import trustme
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

EMAIL = "airflow@my-project.iam.gserviceaccount.com"
SCOPES = "https://www.googleapis.com/auth/cloud-platform https://www.googleapis.com/auth/userinfo.email"
CLUSTER = "/v1/projects/my-project/locations/europe-west1/clusters/gpu"

Answer = tuple[int, dict[str, Any]]


@dataclass
class Google:
    """Hands out numbered tokens, and clusters to those who hold one."""

    ca_pem: str
    key: rsa.RSAPrivateKey
    url: str = ""
    life_seconds: float = 3600.0
    calls: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    faults: dict[str, Answer] = field(default_factory=dict)
    clusters: dict[str, dict[str, Any]] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    number: int = 0

    def reset(self) -> None:
        for held in (self.calls, self.headers, self.faults, self.clusters, self.tokens):
            held.clear()
        self.life_seconds, self.number = 3600.0, 0

    def service_account(self, **other: Any) -> dict[str, Any]:
        pem = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return {
            "type": "service_account",
            "project_id": "my-project",
            "private_key_id": "key-1",
            "private_key": pem.decode(),
            "client_email": EMAIL,
            "token_uri": f"{self.url}/token",
            **other,
        }

    def cluster(self, path: str = CLUSTER, **fields: Any) -> None:
        self.clusters[path] = {
            "name": path.rpartition("/")[2],
            "location": path.split("/")[5],
            "status": "RUNNING",
            "endpoint": "203.0.113.7",
            "masterAuth": {"clusterCaCertificate": base64.b64encode(self.ca_pem.encode()).decode()},
            **fields,
        }

    def fault(self, path: str, status: int, code: str, message: str) -> None:
        self.faults[path] = status, {"error": {"code": status, "message": message, "status": code}}

    # -- what a request is answered with ----------------------------------------------------------------------

    def answer(self, path: str, headers: dict[str, str], body: bytes) -> Answer:
        path = unquote(path)
        plain = path.partition("?")[0]
        self.calls.append(plain)
        self.headers.append(headers)
        if plain in self.faults:
            return self.faults[plain]
        if plain == "/":
            return 200, {}
        if plain == "/token":
            return self._grant({key: value[0] for key, value in parse_qs(body.decode()).items()})
        if plain == "/sts":
            return self._exchange({key: value[0] for key, value in parse_qs(body.decode()).items()})
        if plain.startswith("/computeMetadata/"):
            return self._metadata(plain)
        if plain.endswith(":generateAccessToken"):
            return self._impersonate(plain, headers, json.loads(body))
        if headers.get("authorization", "").removeprefix("Bearer ") not in self.tokens:
            return 401, {"error": {"code": 401, "message": "invalid credentials", "status": "UNAUTHENTICATED"}}
        if plain.endswith("/clusters"):
            return 200, {"clusters": list(self.clusters.values())} if self.clusters else {}
        if plain in self.clusters:
            return 200, self.clusters[plain]
        return 404, {"error": {"code": 404, "message": f"Not found: {plain}.", "status": "NOT_FOUND"}}

    def make_token(self, email: str) -> str:
        self.number += 1
        token = f"ya29.{self.number}"
        self.tokens[token] = email
        return token

    def _grant(self, form: dict[str, str]) -> Answer:
        if form.get("grant_type") == "refresh_token":
            return 200, {"access_token": self.make_token("jane@example.org"), "expires_in": self.life_seconds}
        head, claims, signature = form["assertion"].split(".")
        try:
            self.key.public_key().verify(
                _decoded(signature), f"{head}.{claims}".encode(), padding.PKCS1v15(), hashes.SHA256()
            )
        except Exception:
            return 400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
        asked = json.loads(_decoded(claims))
        assert asked["aud"] == "https://oauth2.googleapis.com/token" or asked["aud"] == f"{self.url}/token"
        assert set(asked["scope"].split()) <= {*SCOPES.split(), "https://www.googleapis.com/auth/iam"}
        return 200, {"access_token": self.make_token(asked["iss"]), "expires_in": self.life_seconds}

    def _exchange(self, form: dict[str, str]) -> Answer:
        assert form["subject_token"] == "subject-token"
        return 200, {
            "access_token": self.make_token(form["audience"]),
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "token_type": "Bearer",
            "expires_in": int(self.life_seconds),
        }

    def _metadata(self, path: str) -> Answer:
        if path.endswith("/token"):
            return 200, {"access_token": self.make_token("node@x.iam"), "expires_in": self.life_seconds}
        return 200, {"email": "node@my-project.iam.gserviceaccount.com", "scopes": SCOPES.split(), "aliases": []}

    def _impersonate(self, path: str, headers: dict[str, str], body: dict[str, Any]) -> Answer:
        assert headers["authorization"].removeprefix("Bearer ") in self.tokens
        assert set(body["scope"]) == set(SCOPES.split())
        target = path.rpartition("/")[2].removesuffix(":generateAccessToken")
        self.calls[-1] = f"impersonate {' '.join([*(body.get('delegates') or []), target])}"
        end = datetime.now(timezone.utc) + timedelta(seconds=self.life_seconds)
        return 200, {"accessToken": self.make_token(target), "expireTime": end.strftime("%Y-%m-%dT%H:%M:%SZ")}


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@pytest.fixture(scope="session")
def google_server(ca: trustme.CA) -> Iterator[Google]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    state = Google(ca.cert_pem.bytes().decode(), key)

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, answer = state.answer(self.path, headers, body)
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Metadata-Flavor", "Google")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _serve

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def google(google_server: Google, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Google:
    """A Google of its own, where this process is no one."""
    google_server.reset()
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT", "GCE_METADATA_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))
    monkeypatch.setattr("google.auth.compute_engine._metadata._NO_GCE_CHECK", True)
    return google_server


@pytest.fixture
def key_file(google: Google, tmp_path: Path) -> Callable[..., str]:
    def write(content: Any = None, name: str = "key.json", **fields: Any) -> str:
        path = tmp_path / name
        path.write_text(json.dumps(google.service_account(**fields) if content is None else content))
        return str(path)

    return write
