"""What a run tells while it goes on. Imports nothing heavy: the Airflow edge knows these types at DAG parse."""

from __future__ import annotations

import zlib
from typing import NamedTuple

from kpo_multicluster.pods.logs import LogLine

# The fastest: a log is to be read before the kubelet has rotated it.
_LEVEL = 1


class LogBatch(NamedTuple):
    """Lines of one container that arrived together, one at least."""

    container: str
    lines: list[LogLine]

    def packed(self) -> PackedBatch:
        """The same, kept small while it waits for a logger that is slower than its container."""
        # No line has a line end in it, no time a space.
        text = "\n".join([f"{stamp or ''} {text}" for stamp, text in self.lines])
        return PackedBatch(self.container, zlib.compress(text.encode(), _LEVEL))


class PackedBatch(NamedTuple):
    """A `LogBatch`, compressed: a line takes tens of bytes in place of hundreds."""

    container: str
    data: bytes

    def unpacked(self) -> LogBatch:
        """What was packed."""
        made, lines = tuple.__new__, []
        for line in zlib.decompress(self.data).decode().split("\n"):
            stamp, _, text = line.partition(" ")
            lines.append(made(LogLine, (stamp or None, text)))
        return LogBatch(self.container, lines)


class Notice(NamedTuple):
    """Something the user should know about the run."""

    level: str
    text: str


class PodEvent(NamedTuple):
    """An event that Kubernetes recorded about the pod.

    Attributes:
        type: Normal or Warning.
        reason: such as FailedScheduling.
        message: in the words of who recorded it.
    """

    type: str
    reason: str
    message: str
