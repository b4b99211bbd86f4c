"""What a pod's status says: pure functions over pod objects as the API server sends them.

Field names and reasons are those of the Kubernetes API (core/v1 PodStatus) and of the kubelet.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

Pod = Mapping[str, Any]

# A container in one of these never starts by waiting longer: the manifest or what it refers to must change.
_HOPELESS_WAITING = {
    "InvalidImageName": "its image name is malformed",
    "ErrImageNeverPull": "its image is not on the node and imagePullPolicy is Never",
    "CreateContainerConfigError": "a secret, config map or key it refers to is missing",
    "CreateContainerError": "the container runtime refused its configuration",
    "RunContainerError": "its command could not be run",
}
_PULL_WAITING = {"ErrImagePull", "ImagePullBackOff"}
# What the kubelet says of a failure that it tries again and that passes by itself; any other is a wrong name, a missing
# right, or something that is not there.
_TRANSIENT = re.compile(
    r"timed out|client\.timeout|(?<![\w./\"-])time-?out(?![\w./\"-])|deadline exceeded|context canceled"
    r"|i/o |connection re|temporar|too ?many ?requests|pull qps|\beof\b"
    r"|tls handshake|network is unreachable|no route to host|server misbehaving"
    # A manager of the kubelet that has not yet heard of what the pod refers to; a try that is still under way.
    r"|failed to sync \w+ cache|failed to reserve container name"
    # HTTP codes, not digits of a tag or digest.
    r"|(?<![\w.:/@-])(?:429|50[0234])(?![\w.:/-])"
)
# Until the manifest changes, trying again gives the same.
_NEVER_TRANSIENT = ("InvalidImageName", "ErrImageNeverPull")
# Not of Kubernetes, which cannot know.
REPLACED = "ClusterReplaced"
_LOST_REASONS = {
    REPLACED,
    "Evicted",
    "Preempting",
    "Preempted",
    "NodeLost",
    "NodeShutdown",
    "Terminated",
    "Shutdown",
    "UnexpectedAdmissionError",
}
# A kubelet that refuses a pod the scheduler gave it: OutOfcpu, OutOfpods, OutOfnvidia.com/gpu, ...
_REJECTIONS = ("OutOf", "NodeAffinity", "TopologyAffinity")


class Termination(NamedTuple):
    """How a container ended, from `state.terminated`."""

    container: str
    exit_code: int
    reason: str
    message: str


def name_of(pod: Pod) -> str:
    """`namespace/name`."""
    return f"{pod['metadata'].get('namespace', '')}/{pod['metadata']['name']}"


def uid_of(pod: Pod) -> str:
    """The uid that pins this pod among others that may carry its name."""
    return str(pod["metadata"].get("uid", ""))


def phase_of(pod: Pod) -> str:
    """Pending, Running, Succeeded, Failed or Unknown; empty before the first status."""
    return str(pod.get("status", {}).get("phase", ""))


def is_terminal(pod: Pod) -> bool:
    """Whether the pod as a whole has ended."""
    return phase_of(pod) in ("Succeeded", "Failed")


def is_active(pod: Pod) -> bool:
    """Whether something of the pod runs, or may yet; its phase tells the end of all containers a moment late."""
    return any(not ended_for_good(pod, container) for container in container_names(pod, "containers"))


def container_names(pod: Pod, *fields: str) -> set[str]:
    """Names of the containers that the pod's specification has in these fields; by default in both.

    Args:
        pod: whose.
        fields: `initContainers` or `containers`.
    """
    spec = pod.get("spec", {})
    return {entry["name"] for field in fields or ("initContainers", "containers") for entry in spec.get(field) or ()}


def container_statuses(pod: Pod) -> Iterator[Mapping[str, Any]]:
    """Init containers' statuses in order, then the others'."""
    status = pod.get("status", {})
    yield from status.get("initContainerStatuses") or ()
    yield from status.get("containerStatuses") or ()


def container_status(pod: Pod, container: str) -> Mapping[str, Any] | None:
    """The status of one container, of either kind; None before the kubelet has reported it."""
    return next((status for status in container_statuses(pod) if status.get("name") == container), None)


def _state(pod: Pod, container: str) -> Mapping[str, Any]:
    status = container_status(pod, container)
    return (status.get("state") or {}) if status else {}


def has_started(pod: Pod, container: str) -> bool:
    """Whether the container runs or has run, so that it has a log."""
    status = container_status(pod, container)
    if status is None:
        return False
    state, last = status.get("state") or {}, status.get("lastState") or {}
    # One that waits for its restart has run.
    return bool("running" in state or "terminated" in state or "terminated" in last or status.get("restartCount"))


def is_running(pod: Pod, container: str) -> bool:
    """Whether the container runs at this moment."""
    return "running" in _state(pod, container)


def termination(pod: Pod, container: str) -> Termination | None:
    """How the container ended if it is not running now; it may still be restarted, see `ended_for_good`."""
    terminated = _state(pod, container).get("terminated")
    if not terminated:
        return None
    return Termination(
        container,
        int(terminated.get("exitCode", 0)),
        str(terminated.get("reason") or ""),
        str(terminated.get("message") or "").strip(),
    )


def finished_at(pod: Pod, container: str, restart: int) -> float | None:
    """Unix time, in whole seconds, at which a run of the container ended; None if that is not known.

    Args:
        pod: whose.
        container: its name.
        restart: restart count of the run; only the present one and the one before it are known.
    """
    status = container_status(pod, container) or {}
    state = "state" if int(status.get("restartCount") or 0) == restart else "lastState"
    finished = ((status.get(state) or {}).get("terminated") or {}).get("finishedAt")
    return _time(finished).timestamp() if finished else None


def ended_for_good(pod: Pod, container: str) -> bool:
    """Whether the container has ended and will not be restarted."""
    if is_terminal(pod):
        return True
    ended = termination(pod, container)
    if ended is None:
        return False
    if "deletionTimestamp" in pod["metadata"] or not may_restart(pod, container):
        return True
    return _restart_policy(pod, container) == "OnFailure" and ended.exit_code == 0


def may_restart(pod: Pod, container: str) -> bool:
    """Whether the container can be started again after an end."""
    return _restart_policy(pod, container) != "Never"


def _restart_policy(pod: Pod, container: str) -> str:
    spec = pod.get("spec", {})
    for entry in spec.get("initContainers") or ():
        if entry.get("name") == container:
            # An init container that is not a sidecar runs once: Always means OnFailure for it.
            default = "OnFailure" if spec.get("restartPolicy", "Always") != "Never" else "Never"
            return str(entry.get("restartPolicy") or default)
    for entry in spec.get("containers") or ():
        if entry.get("name") == container and entry.get("restartPolicy"):
            return str(entry["restartPolicy"])
    return str(spec.get("restartPolicy") or "Always")


def hopeless_containers(pod: Pod) -> Iterator[tuple[str, str]]:
    """Containers that can never start, each with why; init containers first."""
    for status in container_statuses(pod):
        why = _hopeless(status)
        if why is not None:
            yield str(status.get("name")), why


def _hopeless(status: Mapping[str, Any]) -> str | None:
    waiting = (status.get("state") or {}).get("waiting") or {}
    reason, message = str(waiting.get("reason") or ""), str(waiting.get("message") or "")
    if reason not in _NEVER_TRANSIENT and _TRANSIENT.search(message.lower()):
        return None
    if reason in _HOPELESS_WAITING:
        return _waiting_text(status, reason, _HOPELESS_WAITING[reason], message)
    if reason in _PULL_WAITING and _tells_cause(message):
        return _waiting_text(status, reason, f"its image {status.get('image')!r} cannot be pulled", message)
    return None


def _waiting_text(status: Mapping[str, Any], reason: str, meaning: str, message: str) -> str:
    text = f"container {status.get('name')!r} cannot start, {meaning} ({reason})"
    return f"{text}: {message}" if message else text


def _tells_cause(message: str) -> bool:
    """Whether a pull error says more than that it is waited: the cause stands in the status before it, or the next."""
    lowered = message.lower()
    return bool(lowered) and (not lowered.startswith("back-off pulling image") or "err" in lowered.split('"', 2)[-1])


def is_scheduled(pod: Pod) -> bool:
    """Whether a node was found for the pod."""
    return bool(pod.get("spec", {}).get("nodeName")) or (_condition(pod, "PodScheduled") or {}).get("status") == "True"


def _condition(pod: Pod, kind: str) -> Mapping[str, Any] | None:
    conditions = pod.get("status", {}).get("conditions") or ()
    return next((condition for condition in conditions if condition.get("type") == kind), None)


def waiting_for(pod: Pod) -> str:
    """What a pod that has not started waits for, as one phrase for a message."""
    if not is_scheduled(pod):
        why = (_condition(pod, "PodScheduled") or {}).get("message")
        return f"no node was found for it: {why}" if why else "the scheduler has not yet placed it on a node"
    for status in container_statuses(pod):
        state = status.get("state") or {}
        if "waiting" in state:
            reason = state["waiting"].get("reason") or "Waiting"
            message = state["waiting"].get("message")
            text = f"container {status.get('name')!r} is waiting ({reason})"
            return f"{text}: {message}" if message else text
        if status in _running_init_containers(pod):
            return f"init container {status.get('name')!r} is still running"
    node = pod.get("spec", {}).get("nodeName")
    return f"the kubelet of node {node!r} has not yet started its containers"


def _running_init_containers(pod: Pod) -> list[Mapping[str, Any]]:
    """Statuses of those that hold up the others: not of sidecars, which go on once they have started."""
    init_containers = pod.get("spec", {}).get("initContainers") or ()
    sidecars = {entry["name"] for entry in init_containers if entry.get("restartPolicy") == "Always"}
    return [
        status
        for status in pod.get("status", {}).get("initContainerStatuses") or ()
        if "running" in (status.get("state") or {}) and not (status.get("name") in sidecars and status.get("started"))
    ]


def waiting_since(pod: Pod) -> str | None:
    """When what a pod that has not started waits for began, by its cluster's clock; None if that is not known."""
    if not is_scheduled(pod):
        created = pod["metadata"].get("creationTimestamp")
        return str(created) if created else None
    for status in _running_init_containers(pod):
        started = status["state"]["running"].get("startedAt")
        return str(started) if started else None
    placed = (_condition(pod, "PodScheduled") or {}).get("lastTransitionTime")
    return str(placed) if placed else None


def failed_init_container(pod: Pod) -> Termination | None:
    """The init container that failed a pod that is Failed, if one did."""
    if phase_of(pod) != "Failed":
        return None
    for status in pod.get("status", {}).get("initContainerStatuses") or ():
        ended = termination(pod, str(status.get("name")))
        if ended is not None and ended.exit_code != 0:
            return ended
    return None


def lost_reason(pod: Pod) -> str | None:
    """Why the infrastructure took the pod away (eviction, preemption, node loss), or None if it did not."""
    status = pod.get("status", {})
    reason, message = str(status.get("reason") or ""), str(status.get("message") or "")
    if reason in _LOST_REASONS or reason.startswith(_REJECTIONS):
        return f"{reason}: {message}" if message else reason
    return disruption(pod) if phase_of(pod) == "Failed" else None


def disruption(pod: Pod) -> str | None:
    """Why the cluster is about to end the pod, or did; None if it is not."""
    condition = _condition(pod, "DisruptionTarget")
    if not condition or condition.get("status") != "True":
        return None
    cause = str(condition.get("reason") or "DisruptionTarget")
    return f"{cause}: {condition.get('message')}" if condition.get("message") else cause


def loss_cause(reason: str) -> str:
    """Which of the causes of `PodLostError` a reason of `lost_reason` means."""
    word = reason.split(":")[0].lower()
    if word == REPLACED.lower():
        return "deleted"
    if "preempt" in word:
        return "preempted"
    if any(part in word for part in ("evict", "admission", *map(str.lower, _REJECTIONS))):
        return "evicted"
    return "node_lost"


def ended_before_deletion(pod: Pod, container: str) -> bool:
    """Whether the container had ended before the pod's deletion was asked for."""
    metadata = pod["metadata"]
    finished = (_state(pod, container).get("terminated") or {}).get("finishedAt")
    gone_by = metadata.get("deletionTimestamp")
    if not finished or not gone_by:
        return False
    # The deletion timestamp is when the grace, which begins with the request, is over; both are in whole seconds.
    asked = _time(gone_by) - timedelta(seconds=int(metadata.get("deletionGracePeriodSeconds") or 0))
    return _time(finished) < asked


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def pod_reason(pod: Pod) -> str:
    """The pod's own reason and message, such as DeadlineExceeded; empty if there is none."""
    status = pod.get("status", {})
    reason, message = str(status.get("reason") or ""), str(status.get("message") or "")
    return f"{reason}: {message}" if reason and message else reason or message


def explain_exit(ended: Termination) -> str:
    """One phrase on how a container ended: exit code, signal, reason, termination message."""
    text = f"container {ended.container!r} ended with exit code {ended.exit_code}"
    if ended.reason == "OOMKilled":
        text += " (OOMKilled: it used more memory than its limit; raise the limit in container_resources)"
    elif ended.reason and ended.reason not in ("Error", "Completed"):
        text += f" ({ended.reason})"
    elif ended.exit_code > 128:
        text += f" (killed by signal {ended.exit_code - 128})"
    return f"{text}: {ended.message}" if ended.message else text
