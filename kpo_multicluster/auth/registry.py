"""Finds the resolver for a kind of cluster.

Resolvers are named by the entry point group `kpo_multicluster.resolvers`, so another distribution can add a cloud
without a change here. A resolver is imported when a cluster of its kind is first reached.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol, runtime_checkable

from kpo_multicluster.auth.access import ClusterAccess
from kpo_multicluster.auth.connections import Connections
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.errors import ConfigurationError, UnknownClusterKindError

GROUP = "kpo_multicluster.resolvers"


class Resolver(Protocol):
    """Turns a ref of one kind into access. Made without arguments, once a resolution."""

    def resolve(self, ref: ClusterRef) -> ClusterAccess:
        """Access to the cluster; may block on files, processes and cloud APIs.

        Raises:
            ConfigurationError: the ref cannot work.
            CredentialError: the credential could not be made.
            ConnectError: the cluster is not up, or a cloud's API that has to be asked cannot be reached.
        """
        ...


@runtime_checkable
class ConnectionResolver(Resolver, Protocol):
    """A resolver of clusters whose credentials may be those of an Airflow connection."""

    def using(self, connections: Connections) -> Resolver:
        """The same resolver, which looks connections up there."""
        ...


@lru_cache(maxsize=1)
def _entry_points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def kinds() -> list[str]:
    """The kinds of cluster that can be reached with what is installed, sorted."""
    return sorted(_entry_points())


def check_kind(ref: ClusterRef) -> None:
    """Refuses a ref whose kind nothing can resolve. Imports no resolver.

    Raises:
        UnknownClusterKindError: with the kinds there are.
    """
    if ref.kind not in _entry_points():
        raise UnknownClusterKindError(
            f"No resolver for clusters of kind {ref.kind!r} (from {ref.source}). Known kinds: {', '.join(kinds())}. "
            f"Another distribution can add one through the entry point group {GROUP!r}."
        )


def resolve(ref: ClusterRef, *, connections: Connections | None = None) -> ClusterAccess:
    """Access to the cluster that `ref` names; may block.

    Args:
        ref: of the cluster.
        connections: where to look up a connection that the ref names; asked in the calling thread, before this
            returns. None outside Airflow.

    Raises:
        UnknownClusterKindError: no resolver is registered for its kind.
        ConfigurationError: the ref cannot work, or names a connection and there are none.
        CredentialError: the credential could not be made.
        ConnectError: the cluster is not up, or a cloud's API that has to be asked cannot be reached.
    """
    check_kind(ref)
    point = _entry_points()[ref.kind]
    try:
        resolver: Resolver = point.load()()
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(
            f"The resolver for {ref.kind!r} ({point.value}), needed for the cluster from {ref.source}, cannot be "
            f"imported: {error}. Reinstall the distribution that brings it."
        ) from error
    if connections is not None and isinstance(resolver, ConnectionResolver):
        resolver = resolver.using(connections)
    return resolver.resolve(ref)
