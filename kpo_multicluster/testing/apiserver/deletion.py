"""How objects are deleted: preconditions, grace periods that can only shorten, finalizers."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kpo_multicluster.testing.apiserver.resources import PODS, Resource
from kpo_multicluster.testing.apiserver.status import bad_request, conflict, invalid, not_supported
from kpo_multicluster.testing.apiserver.timestamps import from_rfc3339, to_seconds

_TERMINAL = frozenset({"Succeeded", "Failed"})
_POLICIES = ("Foreground", "Background", "Orphan")

Item = dict[str, Any]


@dataclass(frozen=True)
class DeleteOptions:
    """`DeleteOptions` of meta/v1.

    Attributes:
        grace_period_seconds: None for the object's own.
        uid: the object must have it; None for any.
        resource_version: the object must have it; None for any.
        foreground: whether dependents go first.
        dry_run: answer as if, and change nothing.
    """

    grace_period_seconds: int | None = None
    uid: str | None = None
    resource_version: str | None = None
    foreground: bool = False
    dry_run: bool = False


def parse_options(query: Mapping[str, str], body: bytes) -> DeleteOptions:
    """Options from the body, or from the query when there is none.

    Raises:
        StatusError: 400 or 422, an option is malformed.
    """
    if body.strip():
        try:
            given = json.loads(body)
        except ValueError as error:
            raise bad_request(f"couldn't get version/kind; json parse error: {error}") from None
        given = given if isinstance(given, dict) else {}
    else:
        given = {key: query[key] for key in ("gracePeriodSeconds", "propagationPolicy") if key in query}
        if query.get("dryRun"):
            given["dryRun"] = [query["dryRun"]]
    policy = given.get("propagationPolicy")
    if policy is not None and policy not in _POLICIES:
        refused = not_supported("propagationPolicy", policy, (*_POLICIES, "nil"))
        raise invalid("DeleteOptions", "", [refused], group="meta.k8s.io")
    preconditions = given.get("preconditions") or {}
    return DeleteOptions(
        grace_period_seconds=_integer(given.get("gracePeriodSeconds")),
        uid=preconditions.get("uid"),
        resource_version=preconditions.get("resourceVersion"),
        foreground=policy == "Foreground",
        dry_run=bool(given.get("dryRun")),
    )


def _integer(value: object) -> int | None:
    if value is None:
        return None
    try:
        return int(str(value))
    except ValueError:
        raise bad_request(f'strconv.ParseInt: parsing "{value}": invalid syntax') from None


def check_preconditions(resource: Resource, item: Mapping[str, Any], options: DeleteOptions) -> None:
    """Refuses to delete an object other than the one meant.

    Raises:
        StatusError: 409.
    """
    metadata = item["metadata"]
    for label, wanted, actual, fate in (
        ("UID", options.uid, metadata["uid"], "deleted and then recreated"),
        ("ResourceVersion", options.resource_version, metadata["resourceVersion"], "modified"),
    ):
        if wanted is not None and wanted != actual:
            why = (
                f"the {label} in the precondition ({wanted}) does not match the {label} in record ({actual}). "
                f"The object might have been {fate}"
            )
            # Real servers name the kind here where they otherwise name the resource.
            raise conflict(resource.kind, metadata["name"], why)


def _grace_seconds(pod: Mapping[str, Any], options: DeleteOptions) -> int:
    if not pod["spec"].get("nodeName") or pod["status"].get("phase") in _TERMINAL:
        return 0
    wanted = options.grace_period_seconds
    if wanted is None:
        wanted = pod["spec"].get("terminationGracePeriodSeconds", 0)
    return int(wanted) if wanted >= 0 else 1


def mark(resource: Resource, item: Item, options: DeleteOptions, clock: Callable[[], float]) -> tuple[Item, bool]:
    """The object as it is once its deletion began, and whether anything about it is new."""
    if "deletionTimestamp" in item["metadata"]:
        return _shortened(item, options, clock) if resource is PODS else (item, False)
    marked = copy.deepcopy(item)
    metadata = marked["metadata"]
    grace = _grace_seconds(item, options) if resource is PODS else 0
    metadata["deletionTimestamp"] = to_seconds(clock() + grace)
    metadata["deletionGracePeriodSeconds"] = grace
    if "generation" in metadata:
        metadata["generation"] += 1
    if options.foreground:
        metadata["finalizers"] = [*metadata.get("finalizers", []), "foregroundDeletion"]
    if resource.plural == "namespaces":
        marked["status"]["phase"] = "Terminating"
    return marked, True


def _shortened(item: Item, options: DeleteOptions, clock: Callable[[], float]) -> tuple[Item, bool]:
    current, wanted = item["metadata"]["deletionGracePeriodSeconds"], options.grace_period_seconds
    if wanted is None or not current:
        return item, False
    wanted = wanted if wanted >= 0 else 1
    if wanted >= current:
        return item, False
    marked = copy.deepcopy(item)
    end = from_rfc3339(item["metadata"]["deletionTimestamp"]) - current + wanted
    if end < clock():
        # The shorter period is over already; it still ends in good order unless zero was asked for.
        end, wanted = clock(), 1 if wanted else 0
    marked["metadata"]["deletionTimestamp"] = to_seconds(end)
    marked["metadata"]["deletionGracePeriodSeconds"] = wanted
    return marked, True
