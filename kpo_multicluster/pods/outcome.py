"""What became of a run, decided from the pod alone; pure functions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kpo_multicluster.errors import PodFailedError, PodLostError, PodRunError, PodStartError
from kpo_multicluster.pods.status import (
    REPLACED,
    disruption,
    ended_before_deletion,
    ended_for_good,
    explain_exit,
    failed_init_container,
    is_terminal,
    loss_cause,
    lost_reason,
    name_of,
    phase_of,
    pod_reason,
    termination,
)


def judge(
    pod: dict[str, Any], base: str, *, companions: Iterable[str] = (), deleted: bool = False
) -> PodRunError | None:
    """The error a run ends with, or None if it succeeded.

    Args:
        pod: as last seen.
        base: name of the container whose end is the run's end.
        companions: other containers of the same request, whose failure fails the run too.
        deleted: whether the pod is gone.
    """
    name = name_of(pod)
    lost, ended = lost_reason(pod), termination(pod, base)
    # What a container did of its own accord before that, it did.
    if lost is not None and not ended_before_deletion(pod, base):
        return _taken_away(pod, lost)
    removed = deleted or "deletionTimestamp" in pod["metadata"]
    if ended is not None and ended.exit_code != 0 and removed and not ended_before_deletion(pod, base):
        return _removed(pod, f"while it ran; {explain_exit(ended)}")
    for container in (base, *companions):
        end = termination(pod, container)
        if end is not None and end.exit_code != 0 and (ended_for_good(pod, container) or removed):
            if lost is not None and not ended_before_deletion(pod, container):
                return _taken_away(pod, lost)
            return PodFailedError(
                f"Pod {name} failed: {_with_pod_reason(pod, explain_exit(end))}.",
                reason=end.reason,
                exit_code=end.exit_code,
            )
    if ended is not None and _was_cut_short(pod):
        return PodFailedError(
            f"Pod {name} failed: {_with_pod_reason(pod, explain_exit(ended))}.", reason=pod_reason(pod).split(":")[0]
        )
    if ended is not None and (ended_for_good(pod, base) or removed):
        return None
    return _never_ended(pod, name, base, deleted=deleted)


def _taken_away(pod: dict[str, Any], reason: str) -> PodLostError:
    text = f"Pod {name_of(pod)} was taken away by the cluster ({reason}). The task's own code did not fail: retry it."
    if reason.startswith(REPLACED):
        text = f"Pod {name_of(pod)} is not there ({reason}). The task's own code did not fail: retry it."
    return PodLostError(text, cause=loss_cause(reason))


def _removed(pod: dict[str, Any], when: str) -> PodLostError:
    """For a pod whose deletion was asked for: a drain, a preemption and the like say so in a condition."""
    reason = disruption(pod)
    if reason is not None:
        return _taken_away(pod, reason)
    return PodLostError(
        f"Pod {name_of(pod)} was deleted by someone else {when}. Look at the API server's audit log for who did it.",
        cause="deleted",
    )


def _never_ended(pod: dict[str, Any], name: str, base: str, *, deleted: bool) -> PodRunError | None:
    if deleted:
        return _removed(pod, f"before its container {base!r} had ended")
    init = failed_init_container(pod)
    if init is not None:
        why = _with_pod_reason(pod, explain_exit(init))
        return PodStartError(f"Pod {name} failed before container {base!r} started: init {why}.")
    if phase_of(pod) == "Succeeded":
        return None
    if is_terminal(pod):
        why = pod_reason(pod) or "the kubelet gave no reason"
        return PodFailedError(
            f"Pod {name} failed before container {base!r} ended: {why}.", reason=pod_reason(pod).split(":")[0]
        )
    return PodRunError(f"Pod {name} has not ended: its phase is {phase_of(pod) or 'unknown'}.")


def _was_cut_short(pod: dict[str, Any]) -> bool:
    """Whether the kubelet ended the pod, as at its deadline: a program that obeys SIGTERM may then end with 0."""
    return phase_of(pod) == "Failed" and bool(pod.get("status", {}).get("reason"))


def _with_pod_reason(pod: dict[str, Any], text: str) -> str:
    reason = pod_reason(pod)
    return f"{text}; {reason}" if reason else text


def succeeded(pod: dict[str, Any], base: str) -> bool:
    """Whether the base container has ended well and for good."""
    end = termination(pod, base)
    if end is None:
        return phase_of(pod) == "Succeeded"
    return end.exit_code == 0 and ended_for_good(pod, base) and not _was_cut_short(pod)


def doubt(pod: dict[str, Any], base: str) -> str | None:
    """What to tell of a run that counts as a success, although its pod was being removed when it ended.

    A program that obeys SIGTERM may end with 0 half-way, or have been about to end anyway: no one else can tell.

    Args:
        pod: as last seen.
        base: name of the container whose end is the run's end.
    """
    ended = termination(pod, base)
    why = disruption(pod) or ("its deletion was asked for" if "deletionTimestamp" in pod["metadata"] else None)
    if why is None or ended is None or ended.exit_code != 0 or ended_before_deletion(pod, base):
        return None
    if lost_reason(pod) is not None or _was_cut_short(pod):
        return None
    return (
        f"Pod {name_of(pod)} was being removed ({why}) when its container {base!r} ended with exit code 0, which "
        "counts as a success. If its program ends so when it is told to stop, its work may be incomplete: have it end "
        "with another code then."
    )


def choose(pods: Iterable[dict[str, Any]], base: str) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """Of the pods that an earlier attempt left: the one to go on with, and those to clear away.

    A pod that still runs is gone on with, the newest first; else one that succeeded while no one watched is harvested.
    A pod that is being deleted is left alone.
    """
    present = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    newest_first = sorted(present, key=_age, reverse=True)
    alive = [pod for pod in newest_first if not ended_for_good(pod, base) and lost_reason(pod) is None]
    done = [pod for pod in newest_first if succeeded(pod, base) and lost_reason(pod) is None]
    chosen = next(iter(alive or done), None)
    return chosen, [pod for pod in newest_first if pod is not chosen]


def _age(pod: dict[str, Any]) -> tuple[str, int]:
    """Orders pods by age; the time of creation is in whole seconds, within one the try decides."""
    metadata = pod["metadata"]
    number = str((metadata.get("labels") or {}).get("try_number", ""))
    return str(metadata.get("creationTimestamp", "")), int(number) if number.isdigit() else 0
