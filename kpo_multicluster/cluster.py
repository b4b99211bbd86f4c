"""`ClusterRef` names a cluster; it is all that is ever stored about one.

A ref is a recipe: the kind of resolver that reaches the cluster, and its options, which are references (a path, a
connection id, `env:NAME`) and public data (a server's address, its CA). A key or token given inline is kept apart in
`secrets`: it is never shown by `repr`, and such a ref refuses to be written down.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from kpo_multicluster.errors import ConfigurationError

_FIELDS = ("kind", "options", "namespace", "source")


def _frozen(values: Mapping[str, Any]) -> Mapping[str, Any]:
    return MappingProxyType({key: value for key, value in values.items() if value is not None})


@dataclass(frozen=True)
class ClusterRef:
    """Names a cluster.

    Attributes:
        kind: of resolver, such as `in_cluster`, `kubeconfig` or `token`.
        options: what the resolver needs; JSON values; nothing secret.
        secrets: values given inline that must not be written down; never shown.
        namespace: the namespace to use when the task names none.
        source: where the ref came from, for messages, such as "connection 'gpu'"; not part of the ref's identity.
    """

    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)
    secrets: Mapping[str, Any] = field(default_factory=dict, repr=False)
    namespace: str | None = None
    source: str = field(default="the cluster= argument", compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", _frozen(self.options))
        object.__setattr__(self, "secrets", _frozen(self.secrets))

    def __hash__(self) -> int:
        return hash((self.kind, repr(sorted(self.options.items())), self.namespace))

    def __reduce__(self) -> tuple[Any, ...]:
        # A mappingproxy does not pickle or deep-copy, and Airflow deep-copies operator arguments.
        return (ClusterRef, (self.kind, dict(self.options), dict(self.secrets), self.namespace, self.source))

    @property
    def portable(self) -> bool:
        """Whether the ref may be stored and used by another process."""
        return not self.secrets

    def with_source(self, source: str) -> ClusterRef:
        """The same ref, said to come from `source`."""
        return replace(self, source=source)

    def describe(self) -> str:
        """One short phrase for messages: the kind, its options, and where it came from."""
        shown = ", ".join(f"{key}={value!r}" for key, value in self.options.items() if key != "ca_data")
        return f"{self.kind}({shown}) from {self.source}"

    def to_json(self) -> dict[str, Any]:
        """The ref as JSON values.

        Raises:
            ConfigurationError: the ref holds an inline secret.
        """
        if not self.portable:
            names = ", ".join(sorted(self.secrets))
            raise ConfigurationError(
                f"The cluster from {self.source} holds {names} inline, which must not be stored. Name where it is kept "
                "instead: a kubeconfig path, a connection, or an environment variable ('env:NAME')."
            )
        written = {"kind": self.kind, "options": dict(self.options), "namespace": self.namespace, "source": self.source}
        return {key: value for key, value in written.items() if value}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ClusterRef:
        """A ref from what `to_json` wrote.

        Raises:
            ConfigurationError: a field is missing, unknown or of the wrong type.
        """
        unknown = sorted(set(data) - set(_FIELDS))
        if unknown or not isinstance(data.get("kind"), str) or not isinstance(data.get("options", {}), Mapping):
            raise ConfigurationError(
                f"Not a cluster reference: expected the fields {', '.join(_FIELDS)}, "
                f"got {', '.join(sorted(data)) or 'none'}."
            )
        return cls(**{key: data[key] for key in _FIELDS if key in data})


def in_cluster(*, namespace: str | None = None) -> ClusterRef:
    """The cluster this process runs in, through its service account."""
    return ClusterRef("in_cluster", namespace=namespace)


def kubeconfig(
    path: str | None = None,
    *,
    context: str | None = None,
    document: str | Mapping[str, Any] | None = None,
    namespace: str | None = None,
) -> ClusterRef:
    """A cluster of a kubeconfig.

    Args:
        path: of the file, or several joined by `:`; default `$KUBECONFIG`, else `~/.kube/config`. `env:NAME` reads the
            path from an environment variable.
        context: the context to use; default the file's current-context.
        document: the kubeconfig itself, as a mapping, JSON or YAML, in place of a path. It may hold keys, so it serves
            sync runs and API clients only.
        namespace: used when the task names none; default the context's.

    Raises:
        ConfigurationError: both `path` and `document` are given.
    """
    if path is not None and document is not None:
        raise ConfigurationError("kubeconfig() takes path= or document=, not both: drop one of them.")
    return ClusterRef("kubeconfig", {"path": path, "context": context}, {"document": document}, namespace)


def token(
    server: str,
    *,
    token: str | None = None,
    token_file: str | None = None,
    ca_data: str | None = None,
    ca_file: str | None = None,
    insecure_skip_tls_verify: bool = False,
    namespace: str | None = None,
) -> ClusterRef:
    """A cluster by its API server's address and a bearer token.

    Args:
        server: https URL of the API server.
        token: the token itself (sync runs only), or `env:NAME` to read it from an environment variable.
        token_file: path of a file that holds it; re-read as it rotates.
        ca_data: the server's CA in PEM, or base64 of it.
        ca_file: path of the CA in PEM. With neither, the system's CAs are used.
        insecure_skip_tls_verify: accept any certificate. For tests only.
        namespace: used when the task names none.

    Raises:
        ConfigurationError: not exactly one of `token` and `token_file`, or both of `ca_data` and `ca_file`.
    """
    if (token is None) == (token_file is None):
        raise ConfigurationError("token() takes exactly one of token= and token_file=.")
    if ca_data is not None and ca_file is not None:
        raise ConfigurationError("token() takes ca_data= or ca_file=, not both: drop one of them.")
    inline = token is not None and not token.startswith("env:")
    options = {
        "server": server,
        "token": None if inline else token,
        "token_file": token_file,
        "ca_data": ca_data,
        "ca_file": ca_file,
        "insecure_skip_tls_verify": insecure_skip_tls_verify or None,
    }
    return ClusterRef("token", options, {"token": token if inline else None}, namespace)
