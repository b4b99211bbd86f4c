"""The server answers as a real one did: `server_answers.json` was recorded from Kubernetes 1.34.4.

To record again, against a cluster whose controllers do not run (an API server and etcd alone are best):
`python tests/testing/test_server_recorded.py https://HOST:PORT ADMIN_TOKEN DEV_TOKEN`, where DEV_TOKEN is of a user
`dev` with uid `dev-uid` that has no rights.
"""

from __future__ import annotations

import http.client
import json
import re
import ssl
import sys
import urllib.parse
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from kpo_multicluster.testing.apiserver.identity import User
from kpo_multicluster.testing.cluster import EmbeddedCluster

HERE = Path(__file__).parent
CASES: dict[str, list[dict[str, Any]]] = yaml.safe_load((HERE / "server_cases.yaml").read_text())
ANSWERS = HERE / "server_answers.json"

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_RANDOM = re.compile(r"kube-api-access-\w{5}")
_VERSION = re.compile(r"(current: |in record \()\d+")
_VOLATILE = {"resourceVersion": "RV", "continue": "CONTINUE", "serverAddress": "HOST"}


@dataclass
class Player:
    """Sends the steps of one case and notes what later steps refer to."""

    connection: http.client.HTTPSConnection
    tokens: Mapping[str, str]
    namespace: str
    seen: dict[str, str] = field(default_factory=dict)

    def call(self, step: Mapping[str, Any]) -> tuple[int, str, str]:
        method, path = self.fill(step["do"]).split(" ", 1)
        headers = {"Accept": step.get("accept", "application/json")}
        if token := self.tokens.get(step.get("as", "admin")):
            headers["Authorization"] = f"Bearer {token}"
        body = None
        if "raw" in step or "body" in step:
            body = step["raw"] if "raw" in step else self.fill(json.dumps(step["body"]))
            headers["Content-Type"] = step.get("type", "application/json")
        self.connection.request(method, path, body, headers)
        answer = self.connection.getresponse()
        return answer.status, answer.headers.get("Content-Type", ""), answer.read().decode()

    def fill(self, text: str) -> str:
        for key, value in {"ns": self.namespace, **self.seen}.items():
            text = text.replace("{" + key + "}", value)
        return text

    def note(self, body: object) -> None:
        if not isinstance(body, dict) or not isinstance(metadata := body.get("metadata"), dict):
            return
        is_list = str(body.get("kind", "")).endswith("List")
        for key, name in (
            ("uid", "uid"),
            ("resourceVersion", "rv_list" if is_list else "rv"),
            ("continue", "continue"),
        ):
            if metadata.get(key):
                self.seen[name] = metadata[key]
        if not is_list and "name" in metadata:
            self.seen["name"] = metadata["name"]

    def run(self, steps: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for step in steps:
            status, content_type, text = self.call(step)
            body: Any = text
            if step.get("events") and status == 200:
                body = [shorten_event(json.loads(line)) for line in text.splitlines()]
            elif content_type.startswith("application/json"):
                body = json.loads(text)
                self.note(body)
                if step.get("brief") and status < 300:
                    body = {"kind": body["kind"]}
                if step.get("keys"):
                    body = sorted(body)
                if step.get("own_words"):
                    del body["message"]
                if step.get("names") and status == 200:
                    body = {**body, "items": [item["metadata"]["name"] for item in body["items"]]}
            yield {"status": status, "type": content_type, "body": self.settle(body)}

    def settle(self, value: Any) -> Any:
        """The answer without what differs from run to run."""
        if isinstance(value, dict):
            return {
                key: _VOLATILE[key] if key in _VOLATILE and item else self.settle(item)
                for key, item in value.items()
                if key != "managedFields"
            }
        if isinstance(value, list):
            settled = [self.settle(item) for item in value]
            # Some checks of a real server run more than once, and name the same cause each time.
            return [item for at, item in enumerate(settled) if item not in settled[:at] or "field" not in item]
        if not isinstance(value, str):
            return value
        value = value.replace(self.namespace, "NS")
        name = self.seen.get("name", "")
        if len(name) > 9:
            value = value.replace(name, name[:-5] + "xxxxx")
        value = _RANDOM.sub("kube-api-access-xxxxx", value)
        return _VERSION.sub(r"\1N", _TIME.sub("TIME", _UUID.sub("UID", value.replace("dev-uid", "UID"))))


def shorten_event(event: dict[str, Any]) -> dict[str, Any]:
    if event["type"] in ("BOOKMARK", "ERROR"):
        return event
    metadata = event["object"]["metadata"]
    return {"type": event["type"], "name": metadata["name"], "labels": metadata.get("labels")}


def play(url: str, context: ssl.SSLContext, tokens: Mapping[str, str], case: str) -> list[dict[str, Any]]:
    parts = urllib.parse.urlsplit(url)
    namespace = f"c{uuid.uuid4().hex[:10]}"
    connection = http.client.HTTPSConnection(parts.hostname or "", parts.port, context=context, timeout=20)
    try:
        player = Player(connection, tokens, namespace)
        player.call({"do": "POST /api/v1/namespaces", "body": {"metadata": {"name": namespace}}})
        player.call({"do": "POST /api/v1/namespaces/{ns}/serviceaccounts", "body": {"metadata": {"name": "default"}}})
        return list(player.run(CASES[case]))
    finally:
        connection.close()


def record(url: str, admin: str, dev: str) -> None:
    context = ssl._create_unverified_context()
    tokens = {"admin": admin, "dev": dev, "wrong": "not-a-token"}
    answers = {case: play(url, context, tokens, case) for case in CASES}
    ANSWERS.write_text(json.dumps(answers, indent=1, ensure_ascii=False) + "\n")


@pytest.fixture(scope="module")
def cluster() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(users=[User("dev", rules=())]) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def context(cluster: EmbeddedCluster) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=cluster.ca_pem)


@pytest.fixture(scope="module")
def answers() -> dict[str, Any]:
    recorded: dict[str, Any] = json.loads(ANSWERS.read_text())
    return recorded


@pytest.mark.parametrize("case", CASES)
def test_the_answer_is_a_real_server_s(
    cluster: EmbeddedCluster, context: ssl.SSLContext, answers: dict[str, Any], case: str
) -> None:
    tokens = {"admin": cluster.token(), "dev": cluster.token("dev"), "wrong": "not-a-token"}
    assert play(cluster.server, context, tokens, case) == answers[case]


if __name__ == "__main__":
    record(*sys.argv[1:4])
