"""Calls the callbacks of a pod task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import Any

from kpo_multicluster.callbacks import ExecutionMode
from kpo_multicluster.pods.logs import LogLine

_BASE = "KubernetesPodOperatorCallback."
_BASE_MODULES = ("kpo_multicluster.callbacks", "airflow.providers.cncf.kubernetes.callbacks")


def implementing(classes: Sequence[Any], method: str) -> list[Callable[..., None]]:
    """The implementations of one method, in the order of the classes; what the base class has does nothing."""
    found = [getattr(entry, method, None) for entry in classes]
    return [call for call in found if call is not None and not _is_of_base(call)]


def _is_of_base(call: Any) -> bool:
    return getattr(call, "__module__", "") in _BASE_MODULES and getattr(call, "__qualname__", "").startswith(_BASE)


class CallbackCalls:
    """The callbacks that really do something: methods left as they are in the base class are not called.

    Args:
        classes: given as `callbacks`; ours, upstream's, or any with such methods.
        client: gives the `kubernetes.client.CoreV1Api` that they are handed; not asked before one is called.
        on_line: the deprecated `progress_callback` argument, called with each line.
    """

    def __init__(
        self, classes: Sequence[Any], client: Callable[[], Any], on_line: Callable[[str], None] | None = None
    ) -> None:
        self._classes = classes
        self._client = client
        self._on_line = on_line

    def implementing(self, method: str) -> list[Callable[..., None]]:
        """The implementations of one method, in the order of the classes."""
        return implementing(self._classes, method)

    def call(self, method: str, **arguments: Any) -> None:
        """Calls one method of every class.

        Raises:
            Exception: whatever a callback raises; it fails the task.
        """
        for implementation in self.implementing(method):
            implementation(client=self._client(), mode=ExecutionMode.SYNC, **arguments)

    def progress(self, pod: Callable[[], Any]) -> Callable[[str, LogLine], None] | None:
        """What to call for each line of a log; None if no callback wants lines.

        Args:
            pod: gives the pod as last seen.
        """
        wanted, on_line = bool(self.implementing("progress_callback")), self._on_line
        if not wanted and on_line is None:
            return None

        def tell(container: str, line: LogLine) -> None:
            if on_line is not None:
                on_line(line.text)
            if not wanted:
                return
            written = None
            if line.timestamp is not None:
                written = datetime.fromtimestamp(line.timestamp / 1e9, timezone.utc)
            self.call("progress_callback", line=line.text, container_name=container, timestamp=written, pod=pod())

        return tell
