from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kpo_multicluster.auth import registry
from kpo_multicluster.cluster import ClusterRef, in_cluster, kubeconfig, token
from kpo_multicluster.errors import ConfigurationError, UnknownClusterKindError


def test_each_kind_finds_its_resolver(
    document: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {"in_cluster", "kubeconfig", "token"} <= set(registry.kinds())
    (tmp_path / "token").write_text("t")
    for ref, server in (
        (token("https://10.0.0.1", token="t"), "https://10.0.0.1"),
        (token("https://10.0.0.2/", token_file=str(tmp_path / "token")), "https://10.0.0.2"),
        (kubeconfig(document=document({"token": "t"})), "https://127.0.0.1:6443"),
    ):
        for each in (ref, ClusterRef.from_json(ref.to_json()) if ref.portable else ref):
            access = registry.resolve(each)
            assert access.server == server
            assert access.tokens is not None
            assert access.tokens.current().value == "t"
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ConfigurationError, match="runs in no pod"):
        registry.resolve(in_cluster())


def test_an_unknown_kind_comes_with_those_that_are_known() -> None:
    with pytest.raises(
        UnknownClusterKindError, match=r"kind 'openstack' \(from connection 'k'\)\. Known kinds: .*token"
    ):
        registry.resolve(ClusterRef("openstack", source="connection 'k'"))


@pytest.fixture
def distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Another distribution that brings resolvers, one of them sound."""
    (tmp_path / "kpo_test_clouds.py").write_text(
        "from kpo_multicluster.auth.access import ClusterAccess, static_token\n"
        "class Resolver:\n"
        "    def resolve(self, ref):\n"
        "        return ClusterAccess('https://cloud', 'test', tokens=static_token('t', source='test'))\n"
    )
    info = tmp_path / "kpo_test_clouds-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: kpo-test-clouds\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[{registry.GROUP}]\n"
        "cloud = kpo_test_clouds:Resolver\nno_class = kpo_test_clouds:Absent\nno_module = kpo_test_absent:Resolver\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    registry._entry_points.cache_clear()
    yield
    registry._entry_points.cache_clear()


@pytest.mark.usefixtures("distribution")
def test_another_distribution_adds_a_kind() -> None:
    assert "cloud" in registry.kinds()
    assert registry.resolve(ClusterRef("cloud")).server == "https://cloud"
    for kind in ("no_class", "no_module"):
        with pytest.raises(ConfigurationError, match=rf"resolver for '{kind}' .* cannot be imported"):
            registry.resolve(ClusterRef(kind))
