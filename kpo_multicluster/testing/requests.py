"""What was asked of an embedded cluster, for tests that hold a run to its budget of requests."""

from __future__ import annotations

import itertools
import re
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from kpo_multicluster.testing.apiserver.request_info import RequestInfo

# A cluster in the background may run for weeks.
_LIMIT = 100_000


@dataclass(frozen=True)
class RequestRecord:
    """One request.

    Attributes:
        at: Unix time at which it arrived, in seconds.
        method: as sent.
        target: path with query, as sent.
        info: what it asks for.
        user: who sent it; empty while that is not known, or when it was refused.
        user_agent: as sent.
        status: of the answer; 0 when none was given yet, or never.
    """

    at: float
    method: str
    target: str
    info: RequestInfo
    user_agent: str = ""
    user: str = ""
    status: int = 0

    @property
    def verb(self) -> str:
        """`list`, `watch`, `get`, `create`, `patch`, `delete`, `log`, `exec`, ...; a path that is no resource."""
        return self.info.counted_as if self.info.resource else self.info.path.rstrip("/")

    @property
    def line(self) -> str:
        """`VERB METHOD TARGET`: what faults and `RequestLog.matching` search in."""
        return f"{self.verb} {self.method} {self.target}"


class RequestLog:
    """The last 100,000 requests of one cluster, in order of arrival. Safe to use from any thread."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._records: dict[int, RequestRecord] = {}

    def begin(self, method: str, target: str, info: RequestInfo, user_agent: str) -> tuple[int, RequestRecord]:
        """Notes a request that arrived; gives its number for `finish`."""
        record = RequestRecord(self._clock(), method, target, info, user_agent)
        with self._lock:
            number = next(self._numbers)
            self._records[number] = record
            self._records.pop(number - _LIMIT, None)
        return number, record

    def note(self, number: int, *, user: str | None = None, status: int | None = None) -> None:
        """Adds what became known of a request; ignored when it was forgotten since."""
        with self._lock:
            if (record := self._records.get(number)) is not None:
                record = record if user is None else replace(record, user=user)
                self._records[number] = record if status is None else replace(record, status=status)

    def records(self) -> tuple[RequestRecord, ...]:
        """All requests since the last `reset`."""
        with self._lock:
            return tuple(self._records.values())

    def matching(self, where: str) -> tuple[RequestRecord, ...]:
        """The requests in whose `line` the regular expression is found."""
        pattern = re.compile(where)
        return tuple(record for record in self.records() if pattern.search(record.line))

    def counts(self, *, namespace: str | None = None) -> Counter[str]:
        """How many requests there were of each verb.

        Args:
            namespace: only those for it; None for all.
        """
        return Counter(
            record.verb for record in self.records() if namespace is None or record.info.namespace == namespace
        )

    def reset(self) -> None:
        """Forgets all requests."""
        with self._lock:
            self._records.clear()
