"""Lists: selectors, chunks, and versions of the past."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kpo_multicluster.testing.apiserver.resources import Resource
from kpo_multicluster.testing.apiserver.selectors import Matches, field_selector, label_selector
from kpo_multicluster.testing.apiserver.status import (
    bad_request,
    expired,
    forbidden_value,
    invalid,
    quoted,
    too_large_resource_version,
)
from kpo_multicluster.testing.store import Store, TooOldError

_STALE_CONTINUE = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without "
    "the continue parameter, or use the continue token in this response to retrieve the remainder of the results. "
    "Continuing with the provided token results in an inconsistent list - objects that were created, modified, or "
    "deleted between the time the first chunk was returned and now may show up in the list."
)
_STALE_LIST = "The resourceVersion for the provided list is too old."

Item = dict[str, Any]


@dataclass(frozen=True)
class ListOptions:
    """What a list asks for.

    Attributes:
        matches: of the label and field selectors.
        limit: how many at once; 0 for all.
        start: where a chunked list goes on: the version it shows, and the last object already shown.
        version: the list must not be older; with `exact`, it must be of this version.
        exact: see `version`.
    """

    matches: Matches
    limit: int = 0
    start: tuple[int, str, str] | None = None
    version: int = 0
    exact: bool = False


def selection(resource: Resource, query: Mapping[str, str]) -> Matches:
    """What the selectors of a query match.

    Raises:
        StatusError: 400.
    """
    by_label = label_selector(query.get("labelSelector", ""))
    by_field = field_selector(query.get("fieldSelector", ""), resource.selectable)
    return lambda item: by_label(item) and by_field(item)


def integer(query: Mapping[str, str], key: str) -> int | None:
    """A whole number of a query; None when it is not given.

    Raises:
        StatusError: 400.
    """
    text = query.get(key, "")
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise bad_request(f"strconv.ParseInt: parsing {quoted(text)}: invalid syntax") from None


def list_options(resource: Resource, query: Mapping[str, str]) -> ListOptions:
    """What the query of a list asks for.

    Raises:
        StatusError: 400 or 422, an option is malformed.
    """
    text, match = query.get("resourceVersion", ""), query.get("resourceVersionMatch", "")
    if match and not text:
        error = forbidden_value(
            "resourceVersionMatch", "resourceVersionMatch is forbidden unless resourceVersion is provided"
        )
        raise invalid("ListOptions", "", [error], group="meta.k8s.io")
    if text and not text.isdecimal():
        why = f"Invalid value: {quoted(text)}: strconv.ParseUint: parsing {quoted(text)}: invalid syntax"
        raise bad_request(f"invalid resource version: resourceVersion: {why}")
    return ListOptions(
        matches=selection(resource, query),
        limit=integer(query, "limit") or 0,
        start=_decode_continue(query.get("continue", "")),
        version=int(text or 0),
        exact=match == "Exact",
    )


def _encode_continue(version: int, namespace: str, name: str) -> str:
    token = {"v": "meta.k8s.io/v1", "rv": version, "start": f"{namespace}/{name}"}
    return base64.urlsafe_b64encode(json.dumps(token).encode()).decode().rstrip("=")


def _decode_continue(token: str) -> tuple[int, str, str] | None:
    if not token:
        return None
    try:
        decoded = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        namespace, _, name = decoded["start"].partition("/")
        return int(decoded["rv"]), namespace, name
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error) as error:
        raise bad_request(f"invalid continue token: continue key is not valid: {error}") from None


def list_objects(store: Store, resource: Resource, namespace: str, options: ListOptions) -> Item:
    """The list object that answers a list.

    Raises:
        StatusError: 410 a version is no longer held, 504 it is in the future.
    """
    if options.version > store.version:
        raise too_large_resource_version(options.version, store.version)
    version = options.start[0] if options.start else options.version if options.exact else store.version
    try:
        at = None if version == store.version else version
        items = [item for item in store.objects(resource.plural, namespace, at=at) if options.matches(item)]
    except TooOldError:
        raise expired(_STALE_CONTINUE if options.start else _STALE_LIST) from None
    if options.start:
        items = [item for item in items if _key(item) > options.start[1:]]
    metadata: Item = {"resourceVersion": str(version)}
    if options.limit and len(items) > options.limit:
        metadata["continue"] = _encode_continue(version, *_key(items[options.limit - 1]))
        metadata["remainingItemCount"] = len(items) - options.limit
        items = items[: options.limit]
    bare = [{key: value for key, value in item.items() if key not in ("kind", "apiVersion")} for item in items]
    return {"kind": f"{resource.kind}List", "apiVersion": "v1", "metadata": metadata, "items": bare}


def _key(item: Mapping[str, Any]) -> tuple[str, str]:
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]
