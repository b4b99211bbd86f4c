"""Requests to the management APIs of Google and Azure, by the library that their own credential packages bring."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from kpo_multicluster.errors import ConnectError, MissingExtraError

_CONNECT_SECONDS = 10.0
_READ_SECONDS = 30.0
_TRIES = 4
_BACKOFF_SECONDS = 0.25
_OBJECT = re.compile(r"^(?:.*<[^>]*>|\w+\([^)]*\)): ")


@dataclass(frozen=True)
class Answer:
    """What a management API answered.

    Attributes:
        status: HTTP status code.
        body: the decoded JSON object; empty when the answer was none.
        headers: of the answer, by names in any case.
    """

    status: int
    body: Mapping[str, Any] = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def message(self) -> str:
        """What it says went wrong: its code and message, in the forms that Google and Azure use; may be empty."""
        error = self.body.get("error")
        if not isinstance(error, Mapping):
            error = self.body
        code = error.get("status") or error.get("code") or ""
        text = str(error.get("message") or "")[:400]
        return f"{code}: {text}" if code and text else f"{code}{text}"


@contextmanager
def http_session(*, feature: str, extra: str, tries: int = _TRIES) -> Iterator[Any]:
    """A `requests.Session` that honours proxies and CA bundles of the environment, and never a netrc.

    Args:
        feature: what needs it, for the message when the library is missing.
        extra: that brings it.
        tries: how often a request is sent that is not answered, or answered with 429 or 5xx.

    Raises:
        MissingExtraError: the library is not installed.
    """
    try:
        import requests
        from requests.adapters import HTTPAdapter
        from urllib3.util.retry import Retry
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("requests", "urllib3"):
            raise
        raise MissingExtraError(feature, extra) from None
    retry = Retry(
        total=tries - 1,
        backoff_factor=_BACKOFF_SECONDS,
        status_forcelist=(429, 500, 502, 503, 504),
        allowed_methods=None,
        raise_on_status=False,
        respect_retry_after_header=False,
    )
    with requests.Session() as session:
        # Any authentication of the session's own keeps that of a netrc from taking the place of our header.
        session.auth = _leave_as_is
        for scheme in ("https://", "http://"):
            session.mount(scheme, HTTPAdapter(max_retries=retry))
        yield session


def call(
    session: Any,
    method: str,
    url: str,
    *,
    token: str,
    doing: str,
    headers: Mapping[str, str] | None = None,
    body: Mapping[str, Any] | None = None,
) -> Answer:
    """Sends one request. As the session may send it again, one that changes something must bear that.

    Args:
        session: from `http_session`.
        method: of HTTP.
        url: to ask.
        token: bearer token.
        doing: what it is for, such as "Looking up the GKE cluster 'gpu'".
        headers: further ones.
        body: sent as JSON.

    Raises:
        ConnectError: there was no answer.
    """
    from requests.exceptions import RequestException

    reason = ""
    try:
        response = session.request(
            method,
            url,
            headers={**(headers or {}), "Authorization": f"Bearer {token}", "Accept": "application/json"},
            json=body,
            timeout=(_CONNECT_SECONDS, _READ_SECONDS),
            allow_redirects=False,
        )
        return Answer(response.status_code, _object(response), response.headers)
    except RequestException as error:
        reason = reason_of(error)
    raise ConnectError(
        f"{doing} failed: {urlsplit(url).netloc} could not be reached ({reason}). Check that this host reaches it: "
        "DNS, firewall, and proxy settings."
    )


def reason_of(error: BaseException) -> str:
    """Why a request failed, in short; of errors that wrap others, what the innermost one says."""
    seen: BaseException = error
    while True:
        inner = next((arg for arg in seen.args if isinstance(arg, BaseException)), None)
        inner = inner or getattr(seen, "reason", None)
        if not isinstance(inner, BaseException):
            break
        seen = inner
    return _OBJECT.sub("", str(seen))[:200] or type(seen).__name__


def _leave_as_is(request: Any) -> Any:
    return request


def _object(response: Any) -> Mapping[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, Mapping) else {}
