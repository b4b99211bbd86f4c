"""Log lines kept small while they wait for a logger that is slower than their container."""

from __future__ import annotations

import zlib
from typing import NamedTuple

from kpo_multicluster.pods.emitted import LogBatch
from kpo_multicluster.pods.logs import LogLine

# The fastest: the log is to be read before the kubelet has rotated it.
_LEVEL = 1


class PackedBatch(NamedTuple):
    """A `LogBatch`, compressed: a line takes tens of bytes in place of hundreds."""

    container: str
    data: bytes


def pack(batch: LogBatch) -> PackedBatch:
    """Compresses the lines of a batch, which has some."""
    # No line has a line end in it, no time a space.
    text = "\n".join([f"{stamp or ''} {text}" for stamp, text in batch.lines])
    return PackedBatch(batch.container, zlib.compress(text.encode(), _LEVEL))


def unpack(packed: PackedBatch) -> LogBatch:
    """What was packed."""
    made, lines = tuple.__new__, []
    for line in zlib.decompress(packed.data).decode().split("\n"):
        stamp, _, text = line.partition(" ")
        lines.append(made(LogLine, (stamp or None, text)))
    return LogBatch(packed.container, lines)
