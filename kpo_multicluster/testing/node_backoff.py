"""How long a kubelet lets a crashing container wait for its next start."""

from __future__ import annotations

from typing import Final

# A container that ran twice as long as the longest wait is forgiven.
_FORGIVEN_AFTER: Final = 2


class Backoff:
    """The waits of one container: none before its second start, then `initial_seconds`, doubling.

    Args:
        initial_seconds: the first wait.
        max_seconds: the longest.
    """

    def __init__(self, initial_seconds: float, max_seconds: float) -> None:
        self._initial = initial_seconds
        self._max = max_seconds
        self._updated = float("-inf")
        self.seconds = 0.0

    def remaining(self, finished: float, now: float) -> float:
        """Seconds still to wait after an end at `finished`; zero when it may start."""
        if now - self._updated > self._max * _FORGIVEN_AFTER:
            self.seconds = 0.0
        return max(0.0, self.seconds - (now - finished))

    def started(self, now: float) -> None:
        """Records a start after a crash: the next wait is longer."""
        self.seconds = min(self.seconds * 2, self._max) if self.seconds else min(self._initial, self._max)
        self._updated = now


def duration(seconds: float) -> str:
    """A duration as Go prints it: `10s`, `1m20s`, `5m0s`, `50ms`."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    text = f"{rest:g}s"
    if minutes or hours:
        text = f"{minutes}m{text}"
    return f"{hours}h{text}" if hours else text
