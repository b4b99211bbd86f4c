"""Faults to inject into an embedded cluster: refusals, delays, lost answers, cut streams, silence.

Each fault is aimed by a regular expression that is searched in `VERB METHOD TARGET`, such as
`log GET /api/v1/namespaces/default/pods/a/log?follow=true`; `"^watch "` aims at all watches, `"."` at everything.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

_REASONS: Mapping[int, str] = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    410: "Expired",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}
_MESSAGES: Mapping[int, str] = {
    401: "Unauthorized",
    410: "The resourceVersion for the provided watch is too old.",
    429: "Too many requests, please try again later.",
    500: "Internal error occurred: injected",
    503: "the server is currently unable to handle the request",
    504: "the server was unable to return a response in the time allotted, but may still be processing the request",
}


@dataclass(frozen=True)
class Answer:
    """Answer with a failure, without processing the request."""

    status: int
    message: str = ""
    retry_after_seconds: int | None = None

    @property
    def body(self) -> dict[str, Any]:
        """The `Status` object."""
        reason = _REASONS.get(self.status, "")
        message = self.message or _MESSAGES.get(self.status) or f"injected {self.status}"
        body: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
        }
        if reason:
            body["reason"] = reason
        if self.retry_after_seconds is not None:
            body["details"] = {"retryAfterSeconds": self.retry_after_seconds}
        return {**body, "code": self.status}

    @property
    def headers(self) -> dict[str, str]:
        """What goes beside it."""
        return {} if self.retry_after_seconds is None else {"Retry-After": str(self.retry_after_seconds)}


@dataclass(frozen=True)
class Delay:
    """Process the request only after a while."""

    seconds: float


@dataclass(frozen=True)
class Drop:
    """Close the connection instead of answering: before the request is processed, or after."""

    processed: bool


@dataclass(frozen=True)
class Cut:
    """Break the answer off after so many bytes, or complete lines, of its body."""

    after_bytes: int | None = None
    after_lines: int | None = None


@dataclass(frozen=True)
class BlackHole:
    """Never answer, and keep the connection open."""


Effect = Answer | Delay | Drop | Cut | BlackHole


@dataclass(eq=False)
class Fault:
    """A fault that is in place; leaves at the end of a `with` block, or by `remove`.

    Attributes:
        effect: what it does.
        where: the regular expression that aims it.
        times: how many requests it still takes; None for all.
        hits: how many it took.
    """

    effect: Effect
    where: str
    times: int | None
    hits: int = 0
    _owner: Faults | None = field(default=None, repr=False)
    _hit: threading.Condition = field(default_factory=threading.Condition, repr=False)

    def remove(self) -> None:
        """Takes the fault away; requests it has in its grip stay there."""
        if self._owner is not None:
            self._owner.discard(self)

    def wait(self, *, hits: int = 1, timeout_seconds: float = 10.0) -> None:
        """Blocks until the fault took that many requests.

        Raises:
            TimeoutError: it did not in time.
        """
        with self._hit:
            if not self._hit.wait_for(lambda: self.hits >= hits, timeout_seconds):
                raise TimeoutError(f"The fault at {self.where!r} took {self.hits} of {hits} requests in time.")

    def took(self) -> None:
        """Counts a request."""
        with self._hit:
            self.hits += 1
            self._hit.notify_all()

    def __enter__(self) -> Fault:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()


class Faults:
    """The faults of one cluster. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def answer(
        self,
        where: str,
        status: int,
        *,
        times: int | None = 1,
        message: str = "",
        retry_after_seconds: int | None = None,
    ) -> Fault:
        """Answers requests with a failure, without processing them.

        Args:
            where: which requests.
            status: HTTP status code.
            times: how many of them; None for all while the fault is in place.
            message: of the `Status`; default what a real server says.
            retry_after_seconds: sent as `Retry-After`.
        """
        return self._add(Answer(status, message, retry_after_seconds), where, times)

    def delay(self, where: str, seconds: float, *, times: int | None = 1) -> Fault:
        """Processes requests only after a while."""
        return self._add(Delay(seconds), where, times)

    def drop(self, where: str, *, processed: bool = False, times: int | None = 1) -> Fault:
        """Closes the connection instead of answering.

        Args:
            where: which requests.
            processed: whether the request takes effect first, so that only its answer is lost.
            times: how many of them; None for all while the fault is in place.
        """
        return self._add(Drop(processed), where, times)

    def cut(
        self, where: str, *, after_bytes: int | None = None, after_lines: int | None = None, times: int | None = 1
    ) -> Fault:
        """Breaks answers off in their middle; of an exec, the bytes are those of its output.

        Raises:
            ValueError: not exactly one of `after_bytes` and `after_lines`.
        """
        if (after_bytes is None) == (after_lines is None):
            raise ValueError("cut() takes exactly one of after_bytes= and after_lines=.")
        return self._add(Cut(after_bytes, after_lines), where, times)

    def black_hole(self, where: str = ".", *, times: int | None = None) -> Fault:
        """Lets requests in and never answers them."""
        return self._add(BlackHole(), where, times)

    def clear(self) -> None:
        """Takes all faults away."""
        with self._lock:
            self._faults.clear()

    def discard(self, fault: Fault) -> None:
        """Takes one fault away, if it is there."""
        with self._lock:
            if fault in self._faults:
                self._faults.remove(fault)

    def take(self, line: str) -> list[Effect]:
        """The effects on one request, in the order they were put in place; none follows one that ends it."""
        taken: list[Fault] = []
        with self._lock:
            for fault in tuple(self._faults):
                if not re.search(fault.where, line):
                    continue
                taken.append(fault)
                if fault.times is not None:
                    fault.times -= 1
                    if fault.times <= 0:
                        self._faults.remove(fault)
                if isinstance(fault.effect, Answer | BlackHole | Drop):
                    break
        for fault in taken:
            fault.took()
        return [fault.effect for fault in taken]

    def _add(self, effect: Effect, where: str, times: int | None) -> Fault:
        re.compile(where)
        fault = Fault(effect, where, times, _owner=self)
        with self._lock:
            self._faults.append(fault)
        return fault
