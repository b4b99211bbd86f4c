"""What a run is told besides its manifest."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RunSettings:
    """What a run is told besides its manifest.

    Attributes:
        base: name of the container whose end is the run's end.
        follow: containers whose logs are followed; init containers among them from the start on.
        companions: other containers of our own request, which may go on a while after the base.
        schedule_timeout_seconds: from creation until a node is found.
        startup_timeout_seconds: from then until the base container has started.
        tell_events_after_seconds: of waiting for the start, what the pod waits for and its events are told; None never
            tells them.
        watch_events: whether they are watched, rather than listed now and then.
        log_drain_seconds: for a log to end after its container has.
        sidecar_drain_seconds: for the companions to end after the base has, counted from the last line of those whose
            log is followed; None waits as long as it takes.
        node_confirmation_seconds: beyond its grace period, for a node in trouble to confirm that a pod has ended.
    """

    base: str
    follow: tuple[str, ...] = ()
    companions: tuple[str, ...] = ()
    schedule_timeout_seconds: float = 120.0
    startup_timeout_seconds: float = 120.0
    tell_events_after_seconds: float | None = None
    watch_events: bool = True
    log_drain_seconds: float = 5.0
    sidecar_drain_seconds: float | None = 30.0
    node_confirmation_seconds: float = 60.0
