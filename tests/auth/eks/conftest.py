"""moto's server for EKS and STS on loopback, with faults; and what an EKS API server does to tell a token."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
import trustme

Wsgi: TypeAlias = Any

ACCOUNT_A, ACCOUNT_B = "111111111111", "222222222222"
REGION = "us-east-2"
ROLE_B = f"arn:aws:iam::{ACCOUNT_B}:role/airflow-pods"


@dataclass
class Aws:
    """Requests go to moto, unless a fault answers first."""

    url: str = ""
    calls: list[str] = field(default_factory=list)
    date: str = ""
    faults: dict[str, Callable[[str], tuple[str, str, bytes] | None]] = field(default_factory=dict)
    bodies: list[tuple[str, str]] = field(default_factory=list)

    def reset(self) -> None:
        from moto.backends import get_backend

        for service in ("eks", "sts", "iam"):
            get_backend(service).reset()
        self.calls.clear()
        self.bodies.clear()
        self.date = ""
        self.faults.clear()
        self.key = _access_key(ACCOUNT_A)

    def cluster(self, name: str, ca: str, *, account: str = ACCOUNT_A, region: str = REGION, **fields: Any) -> None:
        """Creates a cluster, with a CA that is one."""
        from moto.backends import get_backend

        backend = get_backend("eks")[account][region]
        made = backend.create_cluster(
            name=name, role_arn="arn:aws:iam::123456789012:role/eks", resources_vpc_config={"subnetIds": ["a", "b"]}
        )
        made.certificate_authority = {"data": base64.b64encode(ca.encode()).decode()}
        made.endpoint = f"https://{name}.{region}.eks.example"
        for key, value in fields.items():
            setattr(made, key, value)

    def refuse(self, action: str, code: str, message: str = "refused", status: str = "403 Forbidden") -> None:
        """Answers every call of an STS action, or of a path of EKS, with an error."""
        self.faults[action] = lambda _: (status, *_error(action, code, message))

    def secret_of(self, access_key: str) -> tuple[str, str | None, str]:
        """Secret key, session token and ARN of an access key, as AWS knows them."""
        from moto.backends import get_backend

        for account, regions in get_backend("sts").items():
            for role in regions["aws"].assumed_roles if "aws" in regions else ():
                if role.access_key_id == access_key:
                    name = role.role_arn.rpartition("/")[2]
                    arn = f"arn:aws:sts::{account}:assumed-role/{name}/{role.session_name}"
                    return role.secret_access_key, role.session_token, arn
        if access_key == self.key[0]:
            return self.key[1], None, f"arn:aws:iam::{ACCOUNT_A}:user/airflow"
        raise KeyError(access_key)


def _access_key(account: str) -> tuple[str, str]:
    from moto.backends import get_backend

    iam = get_backend("iam")[account]["aws"]
    iam.create_user(region_name=REGION, user_name="airflow")
    key = iam.create_access_key("airflow")
    return key.access_key_id, key.secret_access_key


def _error(action: str, code: str, message: str) -> tuple[str, bytes]:
    if action.startswith("/"):
        return code, json.dumps({"message": message}).encode()
    text = f"<ErrorResponse><Error><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
    return code, text.encode()


@pytest.fixture(scope="session")
def aws_server() -> Iterator[Aws]:
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log(self, *_: Any) -> None:
            pass

        def date_time_string(self, timestamp: float | None = None) -> str:
            return state.date or super().date_time_string(timestamp)

    state, moto = Aws(), DomainDispatcherApplication(create_backend_app)

    def app(environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        size = int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(size) if size else b""
        found = re.search(rb"Action=(\w+)", body)
        action = found[1].decode() if found else environ["PATH_INFO"]
        state.calls.append(action)
        state.bodies.append((action, body.decode()))

        answer = state.faults[action](body.decode()) if action in state.faults else None
        if answer is not None:
            status, code, content = answer
            start(status, [("Content-Type", "text/plain"), ("x-amzn-errortype", code)])
            return [content]
        from io import BytesIO

        environ["wsgi.input"] = BytesIO(body)
        return moto(environ, start)

    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def aws(aws_server: Aws, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Aws:
    """An AWS of its own, where this process has the keys of a user in account A."""
    import os

    aws_server.reset()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "aws-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL_EKS", aws_server.url)
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", aws_server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", aws_server.key[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", aws_server.key[1])
    return aws_server


@pytest.fixture(scope="session")
def ca_pem(ca: trustme.CA) -> str:
    return ca.cert_pem.bytes().decode()


class TokenRefusedError(Exception):
    pass


_ALLOWED = {
    "action",
    "version",
    "x-amz-algorithm",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-expires",
    "x-amz-security-token",
    "x-amz-signature",
    "x-amz-signedheaders",
}


class EksVerifier:
    """Tells tokens as aws-iam-authenticator does, with what STS does recomputed here from the secret keys."""

    def __init__(self, aws: Aws, cluster: str, *, partition: str = "aws") -> None:
        self._aws, self._cluster, self._partition = aws, cluster, partition

    def verify(self, token: str, *, now: float | None = None) -> str:
        """The ARN that a token speaks for."""
        url = self._url(token)
        parts = urlsplit(url)
        self._check_address(parts.scheme, parts.netloc, parts.path)
        pairs = parse_qsl(parts.query, keep_blank_values=True)
        query = {name.lower(): value for name, value in pairs}
        if len(query) != len(pairs) or not set(query) <= _ALLOWED:
            raise TokenRefusedError("query parameters")
        if query.get("action") != "GetCallerIdentity":
            raise TokenRefusedError("action")
        if "x-k8s-aws-id" not in query["x-amz-signedheaders"].split(";"):
            raise TokenRefusedError("the cluster's name is not signed")
        if not 0 <= int(query["x-amz-expires"]) <= 900:
            raise TokenRefusedError("expires")
        signed_at = datetime.strptime(query["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)
        current = now if now is not None else datetime.now(timezone.utc).timestamp()
        if current > signed_at.timestamp() + 900:
            raise TokenRefusedError("expired")
        return self._check_signature(parts.netloc, pairs, query)

    def _url(self, token: str) -> str:
        if len(token) > 4096 or not token.startswith("k8s-aws-v1."):
            raise TokenRefusedError("form")
        text = token.removeprefix("k8s-aws-v1.")
        if not re.fullmatch(r"[\w-]+", text, re.ASCII):
            raise TokenRefusedError("not raw base64url")
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()

    def _check_address(self, scheme: str, host: str, path: str) -> None:
        suffix = {"aws": r"amazonaws\.com", "aws-cn": r"amazonaws\.com\.cn"}[self._partition]
        known = re.fullmatch(rf"sts(-fips)?\.[a-z0-9-]+\.({suffix}|api\.aws)", host) is not None
        known |= host == "sts.amazonaws.com" and self._partition == "aws"
        if scheme != "https" or path != "/" or not known:
            raise TokenRefusedError(f"host {host}")

    def _check_signature(self, host: str, pairs: list[tuple[str, str]], query: dict[str, str]) -> str:
        access_key, day, region, service, _ = query["x-amz-credential"].split("/")
        try:
            secret, session_token, arn = self._aws.secret_of(access_key)
        except KeyError:
            raise TokenRefusedError("InvalidClientTokenId") from None
        if query.get("x-amz-security-token") != session_token:
            raise TokenRefusedError("InvalidClientTokenId")
        canonical = "&".join(
            f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}"
            for name, value in sorted(pairs)
            if name != "X-Amz-Signature"
        )
        headers = {"host": host, "x-k8s-aws-id": self._cluster}
        names = query["x-amz-signedheaders"]
        lines = "".join(f"{name}:{headers.get(name, '')}\n" for name in names.split(";"))
        request = f"GET\n/\n{canonical}\n{lines}\n{names}\n{hashlib.sha256(b'').hexdigest()}"
        scope = f"{day}/{region}/{service}/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{query['x-amz-date']}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
        key = f"AWS4{secret}".encode()
        for part in (day, region, service, "aws4_request"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        expected = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected, query["x-amz-signature"]):
            raise TokenRefusedError("SignatureDoesNotMatch")
        if region not in host and host != "sts.amazonaws.com":
            raise TokenRefusedError("SignatureDoesNotMatch")
        return arn


@pytest.fixture
def verifier(aws: Aws) -> Callable[..., EksVerifier]:
    def make(cluster: str, **options: Any) -> EksVerifier:
        return EksVerifier(aws, cluster, **options)

    return make


@pytest.fixture(scope="session")
def refused() -> type[Exception]:
    return TokenRefusedError
