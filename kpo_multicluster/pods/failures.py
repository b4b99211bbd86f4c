"""Errors of this package as JSON, to be raised again in another process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kpo_multicluster import errors
from kpo_multicluster.errors import KpoMulticlusterError

_PLAIN = (str, int, float, bool, type(None))


def failure_to_json(error: KpoMulticlusterError) -> dict[str, Any]:
    """An error's kind, message and fields; not its traceback, nor the server's whole answer."""
    fields = {name: value for name, value in vars(error).items() if isinstance(value, _PLAIN)}
    return {"kind": type(error).__name__, "message": str(error), "fields": fields, "findings": list(error.findings)}


def failure_from_json(data: Mapping[str, Any]) -> KpoMulticlusterError:
    """An error from what `failure_to_json` wrote; one of an unknown kind is plain."""
    kind = getattr(errors, str(data.get("kind")), None)
    if not (isinstance(kind, type) and issubclass(kind, KpoMulticlusterError)):
        kind = KpoMulticlusterError
    # Not by its constructor: what it takes is another matter for each kind.
    error = kind.__new__(kind)
    error.args = (str(data.get("message")),)
    vars(error).update(data.get("fields") or {})
    # Set even if there are none: as it was refused elsewhere, nothing is to be found out here.
    error.findings = tuple(data.get("findings") or ())
    if isinstance(error, errors.ApiError):
        error.body = {}
    return error
