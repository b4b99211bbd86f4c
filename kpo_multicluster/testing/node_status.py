"""A pod's status, as a kubelet derives it from the states of the pod's containers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from kpo_multicluster.testing.apiserver.timestamps import to_seconds
from kpo_multicluster.testing.node_context import HOST_IP

PENDING: Final = "Pending"
RUNNING: Final = "Running"
SUCCEEDED: Final = "Succeeded"
FAILED: Final = "Failed"
NEVER_STARTED: Final = "1970-01-01T00:00:00Z"

_OWN_CONDITIONS: Final = (
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
)


@dataclass
class ContainerRecord:
    """The status of one container, as it stands.

    Attributes:
        name: of the container.
        image: as the manifest names it.
        sidecar: an init container that runs beside the others (`restartPolicy: Always`).
        init: whether it is an init container.
        image_id: once the image is there.
        container_id: of the newest run.
        restart_count: how many runs came before it.
        state: `waiting`, `running` or `terminated`, with the details.
        last_state: how the run before ended; empty when there was none.
        ready: as the API defines it: running, or for an init container ended well.
        started: whether it runs.
        full_image: the image's complete name, shown once there is a container of it.
        resources: what it asks for.
        mounts: its `volumeMounts`.
    """

    name: str
    image: str
    sidecar: bool = False
    init: bool = False
    image_id: str = ""
    container_id: str = ""
    restart_count: int = 0
    state: dict[str, Any] = field(default_factory=dict)
    last_state: dict[str, Any] = field(default_factory=dict)
    ready: bool = False
    started: bool = False
    full_image: str = ""
    resources: Mapping[str, Any] = field(default_factory=dict)
    mounts: Sequence[Mapping[str, Any]] = ()

    @property
    def exit_code(self) -> int | None:
        """Of the run that `state` or, while it waits for the next one, `last_state` tells of."""
        ended = self.state.get("terminated") or ("waiting" in self.state and self.last_state.get("terminated")) or None
        return None if ended is None else int(ended["exitCode"])

    def settle(self) -> None:
        """Makes one that was never started an ended one, when its pod ends: nobody knows how it would have gone."""
        if "waiting" in self.state and self.state["waiting"].get("reason") != "PodInitializing":
            self.state = {
                "terminated": {
                    "exitCode": 137,
                    "reason": "ContainerStatusUnknown",
                    "message": "The container could not be located when the pod was terminated",
                    "startedAt": None,
                    "finishedAt": None,
                }
            }
            self.ready = self.started = False

    def to_dict(self) -> dict[str, Any]:
        """As core/v1 `ContainerStatus`."""
        status: dict[str, Any] = {
            "name": self.name,
            "state": self.state,
            "lastState": self.last_state,
            "ready": self.ready,
            "restartCount": self.restart_count,
            "image": self.image,
            "imageID": "",
            "started": self.started,
        }
        if self.container_id:
            status.update(
                image=self.full_image,
                imageID=self.image_id,
                containerID=self.container_id,
                resources=dict(self.resources),
            )
            if self.resources.get("requests"):
                status["allocatedResources"] = dict(self.resources["requests"])
        if self.mounts:
            status["volumeMounts"] = [_mount_status(mount) for mount in self.mounts]
        return status


def _mount_status(mount: Mapping[str, Any]) -> dict[str, Any]:
    status = {"name": mount["name"], "mountPath": mount["mountPath"]}
    return {**status, "readOnly": True, "recursiveReadOnly": "Disabled"} if mount.get("readOnly") else status


@dataclass(frozen=True)
class PodView:
    """What a pod's status is made of.

    Attributes:
        spec: the pod's.
        records: of all its containers.
        ip: the pod's address; empty while it has none.
        started_at: RFC 3339, when the node took it on.
        over: nothing of it will be started again.
        reason: why the node ended it, such as `DeadlineExceeded`; empty when it did not.
        message: the same for people.
        generation: the pod's `metadata.generation` that this is about; None when it has none.
    """

    spec: Mapping[str, Any]
    records: Sequence[ContainerRecord]
    ip: str
    started_at: str
    over: bool = False
    reason: str = ""
    message: str = ""
    generation: int | None = None


def build_status(view: PodView, before: Mapping[str, Any], now: float) -> dict[str, Any]:
    """The status of a pod.

    Args:
        view: what it is made of.
        before: the pod's last status; what the node does not own is kept.
        now: Unix time, for conditions that change.
    """
    phase = FAILED if view.reason else phase_of(view)
    # A final phase is told only once nothing of the pod runs any more; the conditions show it before.
    told = view.over or phase not in (SUCCEEDED, FAILED)
    status: dict[str, Any] = {
        "phase": phase if told else before.get("phase") or PENDING,
        "conditions": _conditions(view, phase, before.get("conditions") or (), now),
        "hostIP": HOST_IP,
        "hostIPs": [{"ip": HOST_IP}],
        "startTime": view.started_at,
    }
    if view.generation is not None:
        status["observedGeneration"] = view.generation
    if view.reason and told:
        status.update(reason=view.reason, message=view.message)
    if view.ip:
        status.update(podIP=view.ip, podIPs=[{"ip": view.ip}])
    inits = [record.to_dict() for record in view.records if record.init]
    if inits:
        status["initContainerStatuses"] = inits
    mains = [record for record in view.records if not record.init]
    status["containerStatuses"] = [record.to_dict() for record in sorted(mains, key=lambda record: record.name)]
    for kept in ("qosClass", "nominatedNodeName"):
        if before.get(kept):
            status[kept] = before[kept]
    return status


def phase_of(view: PodView) -> str:
    """`Pending`, `Running`, `Succeeded` or `Failed`, by what the containers do."""
    policy = view.spec.get("restartPolicy") or "Always"
    inits = [record for record in view.records if record.init and not record.sidecar]
    sidecars = [record for record in view.records if record.sidecar]
    mains = [record for record in view.records if not record.init]
    if policy == "Never" and any(record.exit_code for record in inits):
        return FAILED
    if view.over:
        return SUCCEEDED if mains and all(record.exit_code == 0 for record in mains) else FAILED
    initialized = any(not _untouched(record) for record in mains)
    pending_init = any(record.exit_code is None for record in inits)
    pending_sidecar = any(not record.started and record.exit_code is None for record in sidecars)
    if pending_init or (pending_sidecar and not initialized) or any(_untouched(record) for record in mains):
        return PENDING
    if any("running" in record.state for record in (*mains, *sidecars)):
        return RUNNING
    return _phase_of_stopped(policy, [record.exit_code for record in mains])


def _phase_of_stopped(policy: str, codes: list[int | None]) -> str:
    if policy == "Always":
        return RUNNING
    if all(code == 0 for code in codes):
        return SUCCEEDED
    return FAILED if policy == "Never" else RUNNING


def _untouched(record: ContainerRecord) -> bool:
    return "waiting" in record.state and not record.last_state


def _conditions(view: PodView, phase: str, before: Iterable[Mapping[str, Any]], now: float) -> list[dict[str, Any]]:
    old = {condition["type"]: condition for condition in before}
    ready = _ready(view, phase)
    made: list[tuple[str, bool, str, str]] = [
        ("PodReadyToStartContainers", bool(view.ip) and not view.over, "", ""),
        ("Initialized", *_initialized(view, phase)),
        ("Ready", *ready),
        ("ContainersReady", *ready),
        ("PodScheduled", True, "", ""),
    ]
    conditions = [dict(condition) for kind, condition in old.items() if kind not in _OWN_CONDITIONS]
    for kind, holds, reason, message in made:
        condition: dict[str, Any] = {"type": kind, "status": "True" if holds else "False", "lastProbeTime": None}
        previous = old.get(kind)
        unchanged = previous is not None and previous["status"] == condition["status"]
        moment = previous.get("lastTransitionTime") if previous is not None and unchanged else None
        condition["lastTransitionTime"] = moment or to_seconds(now)
        condition.update({key: text for key, text in (("reason", reason), ("message", message)) if text})
        if view.generation is not None:
            condition["observedGeneration"] = view.generation
        conditions.append(condition)
    return conditions


def _ready(view: PodView, phase: str) -> tuple[bool, str, str]:
    if phase == SUCCEEDED:
        return False, "PodCompleted", ""
    if phase == FAILED:
        return False, "PodFailed", ""
    counted = [record for record in view.records if record.sidecar or not record.init]
    unready = [record.name for record in counted if not record.ready]
    if unready:
        return False, "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]"
    return True, "", ""


def _initialized(view: PodView, phase: str) -> tuple[bool, str, str]:
    if phase == SUCCEEDED:
        return True, "PodCompleted", ""
    if any("running" in record.state or record.last_state for record in view.records if not record.init):
        return True, "", ""
    incomplete = [
        record.name
        for record in view.records
        if record.init and not (record.started if record.sidecar else record.ready)
    ]
    if incomplete:
        message = f"containers with incomplete status: [{' '.join(incomplete)}]"
        return False, "ContainersNotInitialized", message
    return True, "", ""
