"""What runs have made, which of it no one needs any more, and its removal.

Nothing is touched that was not made here, and nothing of a run that is known to be under way.

    found = [*await node_groups_of(groups), *await pods_of(api, where="cluster gpu")]
    judged = judge(found, rule, states={"my_dag/my_run": RunState.ENDED})
    removed = await remove(judged)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from kpo_multicluster.errors import KpoMulticlusterError


class RunState(Enum):
    """What is known of the run of a DAG."""

    UNDER_WAY = "under way"
    ENDED = "ended"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Leftover:
    """Something that a run has made, whether or not it is still needed.

    Attributes:
        kind: `node group` or `pod`.
        name: of it; of a pod with its namespace.
        where: its cluster, a phrase for messages.
        state: that it is in, in its maker's words.
        created_at: Unix time in seconds.
        remove: begins to remove it.
        run: what it was made for, as `dag_id/run_id`; None for nothing in particular, or when that is not known.
        expires_at: Unix time in seconds after which no one needs it; None when that is not known.
        leaving: whether it is being removed already.
        kept: whether its task left it there on purpose.
    """

    kind: str
    name: str
    where: str
    state: str
    created_at: float
    remove: Callable[[], Coroutine[Any, Any, Any]] = field(repr=False, compare=False)
    run: str | None = None
    expires_at: float | None = None
    leaving: bool = False
    kept: bool = False


@dataclass(frozen=True)
class ReapRule:
    """What no one needs any more. What belongs to a run that is known to be under way always is needed.

    What a task has kept on purpose, such as a pod to look at, goes by its age alone.

    Attributes:
        older_than_seconds: since it was made; None for no limit.
        ended_runs: what was made for one of these, as `dag_id/run_id`.
    """

    older_than_seconds: float | None = None
    ended_runs: Collection[str] = field(default_factory=frozenset)

    def reason(self, one: Leftover, state: RunState, now: float) -> str | None:
        """Why something is to go; None for what is to stay.

        Args:
            one: to be judged.
            state: of its run.
            now: Unix time in seconds.
        """
        if state is RunState.UNDER_WAY:
            return None
        if one.run is not None and not one.kept and (one.run in self.ended_runs or state is RunState.ENDED):
            return f"its run {one.run} has ended"
        if one.expires_at is not None and one.expires_at <= now:
            return f"its time ended {span(now - one.expires_at)} ago"
        age = now - one.created_at
        if self.older_than_seconds is not None and age > self.older_than_seconds:
            return f"it is {span(age)} old"
        return None


@dataclass(frozen=True)
class Judged:
    """What is to become of something that a run has made.

    Attributes:
        what: it is about.
        age_seconds: since it was made.
        state: of its run.
        reason: why it is to go; None for what is to stay.
        removed: whether its removal has begun.
        error: why that could not be.
    """

    what: Leftover
    age_seconds: float
    state: RunState = RunState.UNKNOWN
    reason: str | None = None
    removed: bool = False
    error: KpoMulticlusterError | None = None

    def __str__(self) -> str:
        """A line for people."""
        one = self.what
        run = f"made for {one.run}" if one.run else "made for no run that is known"
        if one.run and self.state is RunState.UNDER_WAY:
            run += ", which is under way"
        line = f"{one.kind} {one.name!r} of the {one.where}: {one.state}, {span(self.age_seconds)} old, {run}"
        if self.error is not None:
            return f"{line}; to go, as {self.reason}; NOT REMOVED: {self.error}"
        if self.reason is None:
            return f"{line}; {'being removed' if one.leaving else 'kept by its task' if one.kept else 'stays'}"
        return f"{line}; {'being removed' if self.removed else 'to go'}, as {self.reason}"

    def to_json(self) -> dict[str, Any]:
        """It as JSON values."""
        return {
            "kind": self.what.kind,
            "name": self.what.name,
            "state": self.what.state,
            "run": self.what.run,
            "run_state": self.state.value,
            "age_seconds": round(self.age_seconds),
            "reason": self.reason,
            "removed": self.removed,
            "error": str(self.error) if self.error is not None else None,
        }


def runs_of(found: Iterable[Leftover]) -> list[str]:
    """The runs that something was made for, each once."""
    return sorted({one.run for one in found if one.run is not None})


def judge(
    found: Iterable[Leftover], rule: ReapRule, *, states: Mapping[str, RunState], now: float | None = None
) -> list[Judged]:
    """What is to become of everything that was found.

    Args:
        found: on the cluster.
        rule: which of it no one needs any more.
        states: of runs, as far as they are known, by `dag_id/run_id`.
        now: Unix time in seconds; default the present.
    """
    present = time.time() if now is None else now
    judged = []
    for one in found:
        state = states.get(one.run or "", RunState.UNKNOWN)
        age = max(0.0, present - one.created_at)
        judged.append(Judged(one, age, state, rule.reason(one, state, present), removed=one.leaving))
    return judged


async def remove(judged: Iterable[Judged]) -> list[Judged]:
    """Begins to remove what is to go. What cannot be removed does not keep the rest from being so."""
    done = []
    for one in judged:
        if one.reason is None or one.removed:
            done.append(one)
            continue
        try:
            await one.what.remove()
        except KpoMulticlusterError as error:
            done.append(replace(one, error=error))
        else:
            done.append(replace(one, removed=True))
    return done


def span(seconds: float) -> str:
    """A length of time for people."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
