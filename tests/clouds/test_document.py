"""What the document on tokens tells a reader to write works."""

from __future__ import annotations

from pathlib import Path

import pytest

from kpo_multicluster.auth.registry import resolve
from kpo_multicluster.testing.clouds.aws import AwsUser
from kpo_multicluster.testing.clouds.identity import Identity

from ..examples.demos import code_blocks

EMBEDDED, REAL = code_blocks("docs/token-webhook.md", "python")


def test_the_embedded_cluster(no_one: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def log_in(user: AwsUser) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", user.access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", user.secret_key)

    found: dict[str, object] = {"resolve": resolve, "log_in": log_in}
    exec(f"{EMBEDDED}    log_in(user)\n    found = gpu.identify(resolve(ref).tokens.current().value)\n", found)
    arn = "arn:aws:sts::222222222222:assumed-role/airflow-pods/kpo-multicluster"
    assert found["found"] == Identity(arn, ("pod-runners",))


def test_the_webhook(no_one: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    found: dict[str, object] = {}
    exec(REAL, found)
    assert "--authentication-token-webhook-config-file=webhook.kubeconfig" in str(found["flags"])
    assert Path("webhook.kubeconfig").stat().st_mode & 0o777 == 0o600
