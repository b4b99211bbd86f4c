"""A run as it is stored while no one holds it in memory, and what came of it: JSON, in a database's rows.

Nothing in it is secret: the cluster is named by a reference, and the pod is reduced to what its steps need.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from kpo_multicluster.errors import ConfigurationError, KpoMulticlusterError
from kpo_multicluster.pods.digest import digest
from kpo_multicluster.pods.failures import failure_from_json, failure_to_json
from kpo_multicluster.pods.logs import LogCursor
from kpo_multicluster.pods.settings import RunSettings
from kpo_multicluster.pods.status import name_of

VERSION = 1
_TUPLES = ("follow", "companions")


@dataclass(frozen=True)
class RunRecord:
    """A run that another process goes on with.

    Attributes:
        cluster: names the cluster; JSON whose meaning is that of who wrote it.
        server: the cluster's address as the run began, for messages.
        pod: a digest of it, as last seen.
        settings: of the run.
        cursors: where each log was left.
        live: whether the logs are followed while the run is waited for; otherwise they are read at its end.
        prefix: whether lines are written with their container's name.
        deferred_at: Unix time in seconds.
        deadline: Unix time in seconds at which the pod is ended; None for none.
        keep_on_kill: whether a pod whose task is killed is left alone.
        grace_seconds: for a deletion then; None for the pod's own.
        relaunches_left: how often a pod lost before its start may be created anew.
    """

    cluster: Mapping[str, Any]
    server: str
    pod: Mapping[str, Any]
    settings: RunSettings
    cursors: Mapping[str, LogCursor] = field(default_factory=dict)
    live: bool = False
    prefix: bool = True
    deferred_at: float = 0.0
    deadline: float | None = None
    keep_on_kill: bool = False
    grace_seconds: float | None = None
    relaunches_left: int = 0

    @property
    def where(self) -> str:
        """The pod and its cluster, for messages."""
        return f"{name_of(self.pod)} on {self.server}"

    @property
    def awaits_companions(self) -> bool:
        """Whether the companions' end is waited for without a worker: not where how long depends on unread logs."""
        return self.live or not set(self.settings.companions) & set(self.settings.follow)

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        settings = {name: value for name, value in asdict(self.settings).items() if value is not None}
        return {
            **vars(self),
            "version": VERSION,
            "cluster": dict(self.cluster),
            "pod": digest(self.pod),
            "settings": {**settings, **{name: list(settings[name]) for name in _TUPLES}},
            "cursors": {container: cursor.to_json() for container, cursor in self.cursors.items()},
        }

    @classmethod
    def from_json(cls, data: Any) -> RunRecord:
        """A record from what `to_json` wrote.

        Raises:
            ConfigurationError: another version of this package wrote it, or something else.
        """
        version = data.get("version") if isinstance(data, Mapping) else None
        if version != VERSION:
            raise ConfigurationError(
                f"The task was deferred by another version of kpo-multicluster (its record is of version {version!r}, "
                f"{VERSION} is known here), so it cannot be gone on with. Install the same version in workers and "
                "triggerers, and clear the task."
            )
        try:
            given = {name: data[name] for name in cls.__dataclass_fields__}
            settings = dict(given["settings"])
            # A None is left out when it is written, and is no field's default where it means something.
            unset = dict.fromkeys(("tell_events_after_seconds", "sidecar_drain_seconds"))
            settings = {**unset, **settings, **{name: tuple(settings[name]) for name in _TUPLES}}
            given["settings"] = RunSettings(**settings)
            given["cursors"] = {name: LogCursor.from_json(cursor) for name, cursor in given["cursors"].items()}
            return cls(**given)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigurationError(
                f"The record of a deferred task is damaged ({type(error).__name__}: {error}): clear the task."
            ) from None


@dataclass(frozen=True)
class RunOutcome:
    """What came of a run that was waited for without a worker.

    Attributes:
        record: with the pod and the cursors as they were left.
        deleted: whether the pod is gone.
        timed_out: whether the deadline passed; the pod was told to end, unless it is to be kept.
        companions_awaited: whether the other containers of the request were waited for as well.
        failure: what ended the wait early; None if the base container has ended.
    """

    record: RunRecord
    deleted: bool = False
    timed_out: bool = False
    companions_awaited: bool = False
    failure: KpoMulticlusterError | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "record": self.record.to_json(),
            "deleted": self.deleted,
            "timed_out": self.timed_out,
            "companions_awaited": self.companions_awaited,
            "failure": None if self.failure is None else failure_to_json(self.failure),
        }

    @classmethod
    def from_json(cls, data: Any) -> RunOutcome:
        """An outcome from what `to_json` wrote.

        Raises:
            ConfigurationError: another version of this package wrote it, or something else.
        """
        written = data if isinstance(data, Mapping) else {}
        failure = written.get("failure")
        return cls(
            RunRecord.from_json(written.get("record")),
            deleted=bool(written.get("deleted")),
            timed_out=bool(written.get("timed_out")),
            companions_awaited=bool(written.get("companions_awaited")),
            failure=None if failure is None else failure_from_json(failure),
        )

    def left(self, pod: Mapping[str, Any], cursors: Mapping[str, LogCursor]) -> RunOutcome:
        """The same outcome, with pod and cursors as they were left."""
        return replace(self, record=replace(self.record, pod=digest(pod), cursors={**self.record.cursors, **cursors}))
