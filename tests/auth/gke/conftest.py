"""An emulated Google, where this process is no one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kpo_multicluster.testing.clouds.google import FakeGoogle, ServiceAccount

EMAIL = "airflow@my-project.iam.gserviceaccount.com"


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeGoogle]:
    from google.auth.compute_engine import _metadata

    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT", "GCE_METADATA_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))
    if hasattr(_metadata, "_NO_GCE_CHECK"):
        monkeypatch.setattr(_metadata, "_NO_GCE_CHECK", True)
    else:  # an older google-auth, which cannot be told to leave it
        monkeypatch.setattr(_metadata, "is_on_gce", lambda request: False)
    with FakeGoogle() as google:
        for account in ("a@p.iam", "b@p.iam", "c@p.iam"):
            google.allow_impersonation(account, by="*")
        yield google


@pytest.fixture
def make_key(google: FakeGoogle) -> Callable[..., dict[str, Any]]:
    """The key of a service account, and with it an account."""
    accounts: dict[str, ServiceAccount] = {}

    def make(**fields: Any) -> dict[str, Any]:
        email = fields.get("client_email") or EMAIL
        if email not in accounts:
            accounts[email] = google.add_service_account(email)
        return accounts[email].key(**fields)

    return make


@pytest.fixture
def key_file(make_key: Callable[..., dict[str, Any]], tmp_path: Path) -> Callable[..., str]:
    def write(content: Any = None, name: str = "key.json", **fields: Any) -> str:
        path = tmp_path / name
        path.write_text(json.dumps(make_key(**fields) if content is None else content))
        return str(path)

    return write
