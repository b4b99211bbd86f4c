"""The API server's failures as typed errors.

A failure is a `Status` object of meta/v1, as the body of an answer or as the object of an ERROR event of a watch. What
stands between may answer in its place, with HTML or nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from kpo_multicluster.errors import (
    ApiError,
    BadRequestError,
    ConflictError,
    ForbiddenError,
    GoneError,
    InvalidError,
    NotFoundError,
    ServerError,
    ThrottledError,
    UnauthorizedError,
)

_FOREIGN_TEXT_LIMIT = 300
_KINDS: Mapping[int, type[ApiError]] = {
    400: BadRequestError,
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    410: GoneError,
    422: InvalidError,
    429: ThrottledError,
}


def error_of_answer(status: int, body: bytes, *, request: str, retry_after: str | None = None) -> ApiError:
    """The error that an HTTP answer stands for.

    Args:
        status: HTTP status code.
        body: as it came.
        request: phrase that names the request and the cluster.
        retry_after: the header of that name.
    """
    decoded = _decode(body)
    if decoded is not None:
        return error_of_status(decoded, request=request, code=status, retry_after=retry_after)
    return _kind(status)(
        status,
        request=request,
        detail=_foreign_text(body),
        retry_after_seconds=_header_seconds(retry_after),
    )


def error_of_status(
    status: Mapping[str, Any], *, request: str, code: int | None = None, retry_after: str | None = None
) -> ApiError:
    """The error that a `Status` object stands for.

    Args:
        status: the object.
        request: phrase that names the request and the cluster.
        code: HTTP status code; default the object's own, 500 if it has none.
        retry_after: the header of that name; default what the object itself asks for.
    """
    if code is None:
        code = _int(status.get("code"), 500)
    seconds = _header_seconds(retry_after)
    if seconds is None:
        asked = _int(_details(status).get("retryAfterSeconds"), 0)
        seconds = float(asked) if asked > 0 else None
    return _kind(code)(
        code,
        request=request,
        detail=_detail(status),
        reason=str(status.get("reason") or ""),
        body=status,
        retry_after_seconds=seconds,
    )


def _kind(code: int) -> type[ApiError]:
    return ServerError if code >= 500 else _KINDS.get(code, ApiError)


def _details(status: Mapping[str, Any]) -> Mapping[str, Any]:
    details = status.get("details")
    return details if isinstance(details, Mapping) else {}


def _detail(status: Mapping[str, Any]) -> str:
    message = str(status.get("message") or "")
    causes = _details(status).get("causes")
    found = [_cause(cause) for cause in causes if isinstance(cause, Mapping)] if isinstance(causes, list) else []
    # The server's message mostly lists its causes already.
    missing = [text for text in found if text and text not in message]
    return "; ".join(part for part in (message, *missing) if part)


def _cause(cause: Mapping[str, Any]) -> str:
    text = str(cause.get("message") or cause.get("reason") or "")
    field = str(cause.get("field") or "")
    return f"{field}: {text}" if field else text


def _decode(body: bytes) -> Mapping[str, Any] | None:
    try:
        decoded = json.loads(body)
    except ValueError:
        return None
    return decoded if isinstance(decoded, dict) else None


def _foreign_text(body: bytes) -> str:
    text = " ".join(body.decode("utf-8", "replace").split())
    return text if len(text) <= _FOREIGN_TEXT_LIMIT else f"{text[:_FOREIGN_TEXT_LIMIT]}..."


def _header_seconds(value: str | None) -> float | None:
    """Seconds of a `Retry-After` header: a number of them, or a date (RFC 9110, 10.2.3)."""
    if value is None:
        return None
    if value.isascii() and value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _int(value: Any, default: int) -> int:
    return value if isinstance(value, int) else default
