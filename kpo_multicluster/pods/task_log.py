"""Writes what a pod logs to a logger, such as the task's. Knows no Airflow; each method blocks as the logger does."""

from __future__ import annotations

import logging
import re
from collections import deque
from collections.abc import Callable
from typing import Any

from kpo_multicluster.pods.emitted import LogBatch, Notice, PodEvent
from kpo_multicluster.pods.logs import LogLine

_LEVEL = re.compile(r"\s*\[?(DEBUG|INFO|WARNING|WARN|ERROR|CRITICAL|FATAL)\b", re.IGNORECASE)
_LEVELS = {"WARN": logging.WARNING, "FATAL": logging.CRITICAL}
_GROUP_MARKERS = ("::group::", "::endgroup::")
_TAIL_LINES = 10


def level_of(text: str) -> int:
    """The logging level that a line announces at its start, such as `ERROR:` or `[warning]`; INFO otherwise."""
    found = _LEVEL.match(text)
    if found is None:
        return logging.INFO
    name = found.group(1).upper()
    return _LEVELS.get(name) or int(getattr(logging, name))


class TaskLog:
    """Takes what a run emits.

    Args:
        log: the task's logger.
        prefix: whether lines are prefixed with their container's name.
        formatter: makes the text of a line from container and line, in place of the prefix.
        progress: is told of every line, with its container.

    Attributes:
        tail: the last lines of each container, for an error's message.
    """

    def __init__(
        self,
        log: Any,
        *,
        prefix: bool,
        formatter: Callable[[str, str], str] | None,
        progress: Callable[[str, LogLine], None] | None = None,
    ) -> None:
        self._log = log
        self._prefix = prefix
        self._formatter = formatter
        self._progress = progress
        self.tail: dict[str, deque[str]] = {}

    def receive(self, item: Any) -> None:
        """Writes a LogBatch, a Notice or a PodEvent."""
        if isinstance(item, PodEvent):
            level = logging.WARNING if item.type == "Warning" else logging.INFO
            self._log.log(level, "Pod event: %s - %s", item.reason, item.message)
        elif isinstance(item, Notice):
            self._log.log(logging.getLevelName(item.level.upper()), item.text)
        elif isinstance(item, LogBatch):
            self._write(item)

    def _write(self, batch: LogBatch) -> None:
        container, formatter = batch.container, self._formatter
        log, start = self._log.log, f"[{container}] " if self._prefix else ""
        tail = self.tail.setdefault(container, deque(maxlen=_TAIL_LINES))
        for line in batch.lines:
            text = line.text
            if text.startswith(_GROUP_MARKERS):
                # Airflow's log view folds between these only where they stand alone on a line of standard output.
                print(text)  # noqa: T201
            else:
                tail.append(text)
                log(level_of(text), formatter(container, text) if formatter else start + text)
            if self._progress is not None:
                self._progress(container, line)
