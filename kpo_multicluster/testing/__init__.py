"""An embedded cluster for tests and demos. Imported by nothing else in the package but the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpo_multicluster.testing.names_on_demand import names_on_demand

if TYPE_CHECKING:
    from kpo_multicluster.testing.apiserver.identity import Rule, User
    from kpo_multicluster.testing.cluster import EmbeddedCluster, merged_kubeconfig
    from kpo_multicluster.testing.node_images import ImageSource
    from kpo_multicluster.testing.topology import NodeSpec

__all__ = ["EmbeddedCluster", "ImageSource", "NodeSpec", "Rule", "User", "merged_kubeconfig"]

# The pytest plugin lives below this package and is loaded into every run of pytest: the rest waits to be asked for.
__getattr__ = names_on_demand(
    __name__,
    {
        "EmbeddedCluster": "cluster",
        "ImageSource": "node_images",
        "NodeSpec": "topology",
        "Rule": "apiserver.identity",
        "User": "apiserver.identity",
        "merged_kubeconfig": "cluster",
    },
)
