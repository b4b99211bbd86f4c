"""Failures as a Kubernetes API server words them: `Status` objects of meta/v1."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


class StatusError(Exception):
    """A request that failed, with the `Status` to answer.

    Attributes:
        code: HTTP status code.
        body: the `Status` object.
        headers: to send beside it, such as `Retry-After`.
    """

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        details: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.headers = dict(headers or {})
        self.body: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
        }
        if reason:
            self.body["reason"] = reason
        if details is not None:
            self.body["details"] = dict(details)
        self.body["code"] = code


@dataclass(frozen=True)
class FieldError:
    """One thing wrong with an object.

    Attributes:
        field: its path, such as `spec.containers[0].image`.
        reason: machine-readable, such as `FieldValueRequired`.
        message: what a server says after the path.
    """

    field: str
    reason: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


def quoted(value: object) -> str:
    """A value as Go prints it in messages."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def required(field: str, detail: str = "") -> FieldError:
    """A value is missing."""
    return FieldError(field, "FieldValueRequired", "Required value" + (f": {detail}" if detail else ""))


def invalid_value(field: str, value: object, detail: str) -> FieldError:
    """A value is malformed or out of bounds."""
    return FieldError(field, "FieldValueInvalid", f"Invalid value: {quoted(value)}: {detail}")


def duplicate(field: str, value: object) -> FieldError:
    """A value that must be unique is not."""
    return FieldError(field, "FieldValueDuplicate", f"Duplicate value: {quoted(value)}")


def value_not_found(field: str, value: object) -> FieldError:
    """A value names something that is not there."""
    return FieldError(field, "FieldValueNotFound", f"Not found: {quoted(value)}")


def not_supported(field: str, value: object, supported: Sequence[str]) -> FieldError:
    """A value is none of an enumeration."""
    known = ", ".join(quoted(item) for item in supported)
    return FieldError(field, "FieldValueNotSupported", f"Unsupported value: {quoted(value)}: supported values: {known}")


def forbidden_value(field: str, detail: str) -> FieldError:
    """A value is not allowed here."""
    return FieldError(field, "FieldValueForbidden", f"Forbidden: {detail}")


def invalid(kind: str, name: str, errors: Sequence[FieldError], *, group: str = "") -> StatusError:
    """422: the object was refused, with the fields at fault."""
    messages = list(dict.fromkeys(map(str, errors)))
    listed = messages[0] if len(messages) == 1 else "[" + ", ".join(messages) + "]"
    qualified = f"{kind}.{group}" if group else kind
    details: dict[str, Any] = {"name": name, "group": group, "kind": kind}
    details = {key: value for key, value in details.items() if value}
    details["causes"] = [{"reason": error.reason, "message": error.message, "field": error.field} for error in errors]
    return StatusError(422, "Invalid", f'{qualified} "{name}" is invalid: {listed}', details=details)


def bad_request(message: str) -> StatusError:
    """400."""
    return StatusError(400, "BadRequest", message)


def unauthorized() -> StatusError:
    """401: the credential was refused."""
    return StatusError(401, "Unauthorized", "Unauthorized")


def forbidden(resource: str, name: str, why: str) -> StatusError:
    """403 on a resource; `why` is what follows `is forbidden:`."""
    subject = f'{resource} "{name}"' if name else resource
    details = {"name": name, "kind": resource} if name else {"kind": resource}
    return StatusError(403, "Forbidden", f"{subject} is forbidden: {why}", details=details)


def not_found(resource: str, name: str) -> StatusError:
    """404: no object of this name."""
    return StatusError(404, "NotFound", f'{resource} "{name}" not found', details={"name": name, "kind": resource})


def no_such_resource() -> StatusError:
    """404: the server does not serve this address."""
    return StatusError(404, "NotFound", "the server could not find the requested resource", details={})


def method_not_allowed() -> StatusError:
    """405."""
    message = "the server does not allow this method on the requested resource"
    return StatusError(405, "MethodNotAllowed", message, details={})


def already_exists(resource: str, name: str) -> StatusError:
    """409 on creation."""
    details = {"name": name, "kind": resource}
    return StatusError(409, "AlreadyExists", f'{resource} "{name}" already exists', details=details)


def conflict(resource: str, name: str, why: str) -> StatusError:
    """409: a precondition does not hold."""
    message = f'Operation cannot be fulfilled on {resource} "{name}": {why}'
    return StatusError(409, "Conflict", message, details={"name": name, "kind": resource})


def stale(resource: str, name: str) -> StatusError:
    """409: the resourceVersion sent is not the current one."""
    why = "the object has been modified; please apply your changes to the latest version and try again"
    return conflict(resource, name, why)


def expired(message: str) -> StatusError:
    """410: the resourceVersion asked for is no longer held."""
    return StatusError(410, "Expired", message)


def internal_error(message: str) -> StatusError:
    """500 as the server words a failure of its own."""
    details = {"causes": [{"message": message}]}
    return StatusError(500, "InternalError", f"Internal error occurred: {message}", details=details)


def too_large_resource_version(asked: int, current: int) -> StatusError:
    """504: a resourceVersion from the future."""
    cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
    return StatusError(
        504,
        "Timeout",
        f"Timeout: Too large resource version: {asked}, current: {current}",
        details={"causes": [cause], "retryAfterSeconds": 1},
        headers={"Retry-After": "1"},
    )
