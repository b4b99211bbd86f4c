"""The `log` address of pods."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from datetime import datetime
from typing import Any

from kpo_multicluster.testing.apiserver.listing import integer
from kpo_multicluster.testing.apiserver.pod_defaults import containers_of
from kpo_multicluster.testing.apiserver.status import (
    StatusError,
    bad_request,
    forbidden_value,
    invalid,
    invalid_value,
)
from kpo_multicluster.testing.interfaces import LogOptions, Node

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


def choose_container(pod: Mapping[str, Any], wanted: str) -> str:
    """The container meant: the only one when none is named.

    Raises:
        StatusError: 400, it is not clear or not there.
    """
    name = pod["metadata"]["name"]
    names = [container["name"] for _, container in containers_of(pod["spec"])]
    if wanted:
        if wanted not in names:
            raise bad_request(f"container {wanted} is not valid for pod {name}")
        return wanted
    if len(pod["spec"]["containers"]) > 1:
        raise bad_request(f"a container name must be specified for pod {name}, choose one of: [{' '.join(names)}]")
    return str(pod["spec"]["containers"][0]["name"])


def log_options(name: str, query: Mapping[str, str]) -> LogOptions:
    """What the query of a log asks for.

    Raises:
        StatusError: 400 or 422, an option is malformed.
    """
    since_time = query.get("sinceTime") or None
    if since_time:
        _check_time(since_time)
    options = LogOptions(
        follow=_flag(query, "follow"),
        timestamps=_flag(query, "timestamps"),
        since_time=since_time,
        since_seconds=integer(query, "sinceSeconds"),
        tail_lines=integer(query, "tailLines"),
        limit_bytes=integer(query, "limitBytes"),
        previous=_flag(query, "previous"),
    )
    errors = []
    if options.tail_lines is not None and options.tail_lines < 0:
        errors.append(invalid_value("tailLines", options.tail_lines, "must be greater than or equal to 0"))
    if options.limit_bytes is not None and options.limit_bytes < 1:
        errors.append(invalid_value("limitBytes", options.limit_bytes, "must be greater than 0"))
    if options.since_seconds is not None and since_time:
        errors.append(forbidden_value("[]", "at most one of `sinceTime` or `sinceSeconds` may be specified"))
    if options.since_seconds is not None and options.since_seconds < 1:
        errors.append(invalid_value("sinceSeconds", options.since_seconds, "must be greater than 0"))
    if errors:
        raise invalid("PodLogOptions", name, errors)
    return options


def _check_time(text: str) -> None:
    if not _TIME.fullmatch(text):
        layout = "2006-01-02T15:04:05Z07:00"
        raise bad_request(f'parsing time "{text}" as "{layout}": cannot parse "{text}" as "2006"')
    try:
        datetime.fromisoformat(text[:19])
    except ValueError as error:
        part = str(error).partition(" must be")[0]
        raise bad_request(f'parsing time "{text}": {part} out of range') from None


def _flag(query: Mapping[str, str], key: str) -> bool:
    return query.get(key, "").lower() in ("1", "true")


async def open_log(node: Node, pod: Mapping[str, Any], container: str, options: LogOptions) -> AsyncIterator[bytes]:
    """A container's log, once it is known that it can be read.

    Raises:
        StatusError: 400 or 404, with the kubelet's reason.
    """
    try:
        pieces = node.read_log(pod["metadata"]["uid"], container, options)
        first = asyncio.ensure_future(anext(pieces, b""))
        # A generator refuses in its first step: given that one step, a log that is quiet so far is a log that is there.
        await asyncio.wait({first}, timeout=0)
        if first.done():
            first.result()
    except LookupError as error:
        raise _refused(str(error.args[0]) if error.args else str(error), pod["metadata"]["name"]) from None
    return _all(first, pieces)


async def _all(first: asyncio.Future[bytes], rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    try:
        yield await first
        async for piece in rest:
            yield piece
    finally:
        first.cancel()
        if isinstance(rest, AsyncGenerator):
            await rest.aclose()


def _refused(text: str, name: str) -> StatusError:
    if not text.endswith("does not exist"):
        return bad_request(text)
    message = f"the server could not find the requested resource ( pods/log {name})"
    return StatusError(404, "NotFound", message, details={"name": name, "kind": "pods/log"})
