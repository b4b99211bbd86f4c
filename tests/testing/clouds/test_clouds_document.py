from __future__ import annotations

from typing import Any

import pytest

from kpo_multicluster.testing.clouds import FakeAws, FakeAzure, FakeGoogle

from ...examples.demos import ROOT, code_blocks

DOCUMENT = "docs/emulated-clouds.md"
NAMES = {
    FakeAws: ("environment", "revoke", "sessions", "delete_key", "session_seconds", "token_life_seconds"),
    FakeGoogle: ("tokens", "delete_key", "token_life_seconds", "metadata_host"),
    FakeAzure: ("tokens", "expire_secret", "token_life_seconds", "ca_pem"),
}


@pytest.mark.parametrize("block", code_blocks(DOCUMENT, "python"))
def test_what_it_shows_runs(block: str, no_one: None) -> None:
    defined: dict[str, Any] = {}
    exec(block, defined)
    assert defined


def test_what_it_names_is_there() -> None:
    text = (ROOT / DOCUMENT).read_text()
    for kind, names in NAMES.items():
        cloud: Any = kind()
        for name in names:
            assert name in text or name == "metadata_host"
            assert hasattr(type(cloud), name) or name in vars(cloud)
        assert {"faults", "record", "node_groups", "skew_seconds"} <= set(vars(cloud))
