"""A cluster written down in a connection: its kind, and the options that the function of that name takes.

    {"cluster": {"auth": "eks", "conn_id": "aws_remote", "cluster_name": "gpu", "region": "us-east-2"}}

The same options under the same names as `kpo_multicluster.clouds.eks()`, `gke()`, `aks()` and
`kpo_multicluster.cluster.kubeconfig()`, `token()`, `in_cluster()`. What no function takes is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kpo_multicluster.auth.registry import check_kind, kinds
from kpo_multicluster.clouds import AksOptions, EksOptions, GkeOptions, check_aks, check_eks, check_gke
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.hooks.fields import as_flag

_BY_REFERENCE = "env:"
# What another distribution's kind of cluster may take inline, to be kept out of what is stored.
_LOOKS_SECRET = re.compile(r"(token|secret|password)$")


@dataclass(frozen=True)
class _Kind:
    """What a cluster of one kind takes.

    Attributes:
        options: their names; None where only the kind's resolver knows them.
        secret: those that may hold a secret itself, in place of a reference.
        flags: those that are true or false.
        exclusive: sets of options of which at most one may be given.
        needed: sets of options of which one has to be given.
        check: refuses what contradicts itself.
    """

    options: Collection[str] | None = ()
    secret: Collection[str] = ()
    flags: Collection[str] = ()
    exclusive: Collection[tuple[str, ...]] = ()
    needed: Collection[tuple[str, ...]] = ()
    check: Callable[[ClusterRef], None] | None = None


def _options_of(schema: type) -> Collection[str]:
    return {"cluster_name", *schema.__annotations__} - {"namespace"}


_KINDS: Mapping[str, _Kind] = {
    "in_cluster": _Kind(),
    "kubeconfig": _Kind(
        options=("path", "context", "document", "insecure_skip_tls_verify"),
        secret=("document",),
        flags=("insecure_skip_tls_verify",),
        exclusive=(("path", "document"),),
    ),
    "token": _Kind(
        options=("server", "token", "token_file", "ca_data", "ca_file", "insecure_skip_tls_verify"),
        secret=("token",),
        flags=("insecure_skip_tls_verify",),
        exclusive=(("token", "token_file"), ("ca_data", "ca_file")),
        needed=(("server",), ("token", "token_file")),
    ),
    "eks": _Kind(_options_of(EksOptions), check=check_eks),
    "gke": _Kind(_options_of(GkeOptions), secret=("key_json",), check=check_gke),
    "aks": _Kind(_options_of(AksOptions), secret=("client_secret", "certificate_password"), check=check_aks),
}
CLOUD_KINDS: Mapping[str, str] = {"aws": "eks", "google_cloud_platform": "gke", "azure": "aks"}
"""The kind of cluster that each type of cloud connection leads to."""


def ref_of_part(part: Mapping[str, Any], *, auth: str | None, source: str) -> ClusterRef:
    """The cluster that a mapping of options describes.

    Args:
        part: the options; None and the empty string are unset. `auth` among them is the kind of cluster, `namespace`
            the one to use when a task names none.
        auth: the kind where the part names none.
        source: where the part stands, for messages, such as "field 'cluster' of connection 'gpu'".

    Raises:
        ConfigurationError: an option is unknown, malformed, missing or contradicts another.
        UnknownClusterKindError: nothing that is installed knows the kind.
    """
    given = {name: value for name, value in part.items() if value not in (None, "")}
    named = given.pop("auth", auth)
    namespace = given.pop("namespace", None)
    for name, value in (("auth", named), ("namespace", namespace)):
        if value is not None and not isinstance(value, str):
            raise ConfigurationError(f"The {name} in {source} must be text, not {type(value).__name__}.")
    if named is None:
        raise ConfigurationError(
            f"{_sentence(source)} does not say of which kind its cluster is: add auth, one of {', '.join(kinds())}."
        )
    check_kind(ClusterRef(named, source=source))
    kind = _KINDS.get(named) or _Kind(options=None, secret=[name for name in given if _LOOKS_SECRET.search(name)])
    _check_names(kind, named, given, source)
    for name in set(kind.flags) & set(given):
        given[name] = as_flag(given[name], f"{name} in {source}") or None
    secrets = {name: given.pop(name) for name in kind.secret if name in given and not _is_reference(given[name])}
    ref = ClusterRef(named, given, secrets, namespace, source)
    if kind.check is not None:
        kind.check(ref)
    return ref


def options_of_kind(kind: str) -> list[str]:
    """Names of the options that a cluster of a kind takes, sorted; none for a kind that is not of this package."""
    known = _KINDS.get(kind)
    return sorted(known.options or ()) if known is not None else []


def _check_names(kind: _Kind, name: str, given: Iterable[str], source: str) -> None:
    unknown = sorted(set(given) - set(kind.options)) if kind.options is not None else []
    if unknown:
        takes = ", ".join(["auth", "namespace", *sorted(kind.options or ())])
        raise ConfigurationError(
            f"{_sentence(source)} has {', '.join(unknown)}, which a cluster of kind {name!r} does not take. It takes "
            f"{takes}."
        )
    for names in kind.exclusive:
        both = [option for option in names if option in given]
        if len(both) > 1:
            raise ConfigurationError(f"{_sentence(source)} has {' and '.join(both)}: drop all but one.")
    for names in kind.needed:
        if not any(option in given for option in names):
            raise ConfigurationError(
                f"{_sentence(source)} lacks {' or '.join(names)}, which a cluster of kind {name!r} needs: add it."
            )


def _sentence(source: str) -> str:
    return f"The {source.removeprefix('the ')}"


def _is_reference(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(_BY_REFERENCE)
