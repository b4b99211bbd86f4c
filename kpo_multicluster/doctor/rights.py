"""The rights that runs of pods need, as `docs/rbac.md` has them, and what follows from those that are missing."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

Right = tuple[str, str]
"""A verb and a resource, such as `("get", "pods/log")`."""


@dataclass(frozen=True)
class Feature:
    """Something that needs rights.

    Attributes:
        name: of its row in `docs/rbac.md`.
        rights: all that it needs.
        without: what happens when one of them is missing.
    """

    name: str
    rights: tuple[Right, ...]
    without: str


FEATURES = (
    Feature(
        "run",
        (("create", "pods"), ("watch", "pods"), ("delete", "pods"), ("get", "pods/log")),
        "pods cannot be run as they should",
    ),
    Feature("poll", (("get", "pods"),), "a pod cannot be followed where watch is not granted"),
    Feature("reattach", (("list", "pods"),), "a retry starts a new pod"),
    Feature("remember", (("get", "pods"),), "a retry looks for its pod by labels"),
    Feature("xcom", (("get", "pods/exec"), ("create", "pods/exec")), "do_xcom_push needs xcom_transport"),
    Feature("xcom-message", (), ""),
    Feature("events-startup", (("list", "events"), ("watch", "events")), "a slow start tells no events"),
    Feature("events-failure", (("list", "events"),), "a failure tells no events"),
    Feature("keep", (("patch", "pods"),), "a pod that is kept cannot be marked as seen"),
)
# What the run goes on without, and what it is like then.
_CONSEQUENCES: Mapping[Right, str] = {
    ("watch", "pods"): "a pod's state is read every 2 s",
    ("delete", "pods"): "pods remain on the cluster when they have ended",
    ("get", "pods/log"): "no log is read",
}
_WATCH, _GET, _CREATE = ("watch", "pods"), ("get", "pods"), ("create", "pods")
# From this minor version on a command in a container asks for `create` as well.
_EXEC_CREATE_SINCE = 35


def asked_for(minor: int | None) -> list[Right]:
    """Every right that some feature needs on a server of this minor version; None if that is not known."""
    rights = dict.fromkeys(right for feature in FEATURES for right in feature.rights)
    if minor is not None and minor < _EXEC_CREATE_SINCE:
        del rights["create", "pods/exec"]
    return list(rights)


def prevents_runs(missing: Collection[Right]) -> bool:
    """Whether no pod can be run without these rights."""
    return _CREATE in missing or (_WATCH in missing and _GET in missing)


def consequences(missing: Collection[Right]) -> list[str]:
    """What is not to be had without these rights, a phrase each."""
    found: list[str] = []
    if _CREATE in missing:
        found.append("no pod can be created")
    if _WATCH in missing and _GET in missing:
        found.append("a pod's state cannot be read")
    elif _WATCH in missing:
        found.append(_CONSEQUENCES[_WATCH])
    found += [text for right, text in _CONSEQUENCES.items() if right in missing and right != _WATCH]
    for feature in FEATURES[1:]:
        # Reading a pod is needed in place of watching it, which has been said.
        if feature.name != "poll" and any(right in missing for right in feature.rights):
            found.append(f"{feature.without} ({feature.name})")
    return found


def rules(missing: Collection[Right]) -> str:
    """The rules of a Role that grant these rights, YAML."""
    verbs: dict[str, list[str]] = {}
    for verb, resource in missing:
        verbs.setdefault(resource, []).append(verb)
    return "\n".join(
        f'  - {{apiGroups: [""], resources: ["{resource}"], verbs: [{", ".join(names)}]}}'
        for resource, names in verbs.items()
    )
