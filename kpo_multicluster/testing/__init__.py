"""An embedded cluster for tests and demos. Imported by nothing else in the package but the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kpo_multicluster.testing.apiserver.identity import Rule, User
    from kpo_multicluster.testing.cluster import EmbeddedCluster, merged_kubeconfig
    from kpo_multicluster.testing.node_images import ImageSource
    from kpo_multicluster.testing.topology import NodeSpec

__all__ = ["EmbeddedCluster", "ImageSource", "NodeSpec", "Rule", "User", "merged_kubeconfig"]

_HOMES = {
    "EmbeddedCluster": "cluster",
    "ImageSource": "node_images",
    "NodeSpec": "topology",
    "Rule": "apiserver.identity",
    "User": "apiserver.identity",
    "merged_kubeconfig": "cluster",
}


def __getattr__(name: str) -> Any:
    # The pytest plugin lives below this package and is loaded into every run of pytest: the rest waits to be asked for.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
