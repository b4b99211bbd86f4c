"""What became of a run, read off pods as a real 1.34 API server reports them."""

from __future__ import annotations

from typing import Any

import pytest

from kpo_multicluster.errors import PodFailedError, PodLostError, PodRunError, PodStartError
from kpo_multicluster.pods.outcome import choose, doubt, judge, succeeded
from kpo_multicluster.pods.status import (
    ended_for_good,
    has_started,
    hopeless_containers,
    is_scheduled,
    waiting_for,
)

Pod = dict[str, Any]


def make(name: str = "p", *, phase: str = "Running", policy: str = "Never", **status: Any) -> Pod:
    return {
        "metadata": {
            "namespace": "ns",
            "name": name,
            "uid": f"uid-{name}",
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {"restartPolicy": policy, "containers": [{"name": "base"}, {"name": "side"}]},
        "status": {"phase": phase, **status},
    }


def terminated(name: str, code: int, reason: str = "", message: str = "") -> Pod:
    return {"name": name, "state": {"terminated": {"exitCode": code, "reason": reason, "message": message}}}


def waiting(name: str, reason: str, message: str = "") -> Pod:
    return {"name": name, "image": "img:1", "state": {"waiting": {"reason": reason, "message": message}}}


def running(name: str) -> Pod:
    return {"name": name, "state": {"running": {}}}


def test_a_base_container_that_ended_well_is_a_success_while_a_sidecar_runs() -> None:
    pod = make(containerStatuses=[terminated("base", 0, "Completed"), running("side")])
    assert judge(pod, "base") is None
    assert succeeded(pod, "base")
    assert ended_for_good(pod, "base")
    assert not ended_for_good(pod, "side")


@pytest.mark.parametrize(
    ("policy", "code", "over"),
    [("Never", 1, True), ("OnFailure", 1, False), ("OnFailure", 0, True), ("Always", 0, False)],
)
def test_a_container_that_will_be_restarted_has_not_ended(policy: str, code: int, over: bool) -> None:
    pod = make(policy=policy, containerStatuses=[terminated("base", code)])
    assert ended_for_good(pod, "base") is over


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (terminated("base", 3, "Error"), "exit code 3"),
        (terminated("base", 137, "OOMKilled"), "more memory than its limit"),
        (terminated("base", 137, "Error"), "killed by signal 9"),
        (terminated("base", 128, "StartError", "exec: not found"), "StartError"),
        (terminated("base", 1, "Error", "no such table"), "no such table"),
    ],
)
def test_a_failure_says_its_cause(status: Pod, text: str) -> None:
    error = judge(make(phase="Failed", containerStatuses=[status]), "base")
    assert isinstance(error, PodFailedError)
    assert text in str(error)
    assert "ns/p" in str(error)
    assert error.exit_code == status["state"]["terminated"]["exitCode"]


def test_a_companion_that_failed_fails_the_run_and_an_injected_sidecar_does_not() -> None:
    pod = make(phase="Failed", containerStatuses=[terminated("base", 0), terminated("side", 2, "Error")])
    assert judge(pod, "base") is None
    error = judge(pod, "base", companions=["side"])
    assert isinstance(error, PodFailedError)
    assert "'side'" in str(error)


def test_an_eviction_is_no_failure_of_the_code() -> None:
    pod = make(phase="Failed", reason="Evicted", message="The node was low on resource: memory.")
    error = judge(pod, "base")
    assert isinstance(error, PodLostError)
    assert "low on resource" in str(error)


def test_a_preemption_is_known_by_its_condition() -> None:
    condition = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": "x"}
    pod = make(phase="Failed", conditions=[condition], containerStatuses=[terminated("base", 143, "Error")])
    assert isinstance(judge(pod, "base"), PodLostError)


def test_a_deleted_pod_is_lost_unless_it_had_ended_well() -> None:
    assert isinstance(judge(make(containerStatuses=[running("base")]), "base", deleted=True), PodLostError)
    assert judge(make(containerStatuses=[terminated("base", 0)]), "base", deleted=True) is None
    error = judge(make(containerStatuses=[terminated("base", 143)]), "base", deleted=True)
    assert isinstance(error, PodLostError)
    assert "by someone else" in str(error)


def test_a_failed_init_container_is_a_start_error() -> None:
    pod = make(phase="Failed", initContainerStatuses=[terminated("fetch", 2, "Error")])
    error = judge(pod, "base")
    assert isinstance(error, PodStartError)
    assert "init container 'fetch'" in str(error)


def test_an_init_container_that_is_cut_short_by_the_deadline_is_told_with_it() -> None:
    pod = make(phase="Failed", reason="DeadlineExceeded", initContainerStatuses=[terminated("fetch", 137, "Error")])
    error = judge(pod, "base")
    assert isinstance(error, PodStartError)
    assert "exit code 137" in str(error)
    assert "DeadlineExceeded" in str(error)


def test_a_deadline_is_named() -> None:
    pod = make(phase="Failed", reason="DeadlineExceeded", message="Pod was active on the node longer than ...")
    error = judge(pod, "base")
    assert isinstance(error, PodFailedError)
    assert "DeadlineExceeded" in str(error)


def test_a_pod_that_still_runs_has_no_outcome() -> None:
    assert type(judge(make(containerStatuses=[running("base")]), "base")) is PodRunError


@pytest.mark.parametrize(
    ("reason", "message", "hopeless"),
    [
        ("InvalidImageName", "couldn't parse image name", True),
        ("ErrImageNeverPull", "", True),
        ("CreateContainerConfigError", 'secret "x" not found', True),
        ("ErrImagePull", "pull access denied, repository does not exist", True),
        ("ErrImagePull", "dial tcp: i/o timeout", False),
        ("ImagePullBackOff", 'Back-off pulling image "img:1"', False),
        ("ImagePullBackOff", 'Back-off pulling image "x": ErrImagePull: rpc error: code = NotFound', True),
        ("ImagePullBackOff", 'Back-off pulling image "x:1": ErrImagePull: no such image "x:1"', True),
        ("ErrImagePull", 'failed to pull "reg/api/orders:20250312": manifest unknown: not found', True),
        ("ErrImagePull", 'failed to do request: Head "https://r.io/v2/x": context deadline exceeded', False),
        ("ErrImagePull", "toomanyrequests: You have reached your pull rate limit", False),
        ("ErrImagePull", "unexpected status from HEAD request to https://r.io/v2/x: 504 Gateway Timeout", False),
        ("ErrImagePull", 'failed to copy: httpReadSeeker: Get "https://r.io/v2/x": EOF', False),
        ("ErrImagePull", "dial tcp: lookup r.io on 10.0.0.10:53: server misbehaving", False),
        ("CreateContainerConfigError", "failed to sync secret cache: timed out waiting for the condition", False),
        ("CreateContainerConfigError", "couldn't find key a in Secret ns/timeout", True),
        ("CreateContainerError", "context deadline exceeded", False),
        ("CreateContainerError", 'failed to reserve container name "base_p": name is reserved for "5f"', False),
        ("RunContainerError", 'exec: "nosuch": executable file not found in $PATH', True),
        ("ContainerCreating", "", False),
        ("PodInitializing", "", False),
    ],
)
def test_a_start_that_cannot_succeed_is_seen_at_once(reason: str, message: str, hopeless: bool) -> None:
    for kind in ("containerStatuses", "initContainerStatuses"):
        pod = make(phase="Pending")
        pod["status"][kind] = [waiting("base", reason, message)]
        found = dict(hopeless_containers(pod)).get("base")
        assert (found is not None) is hopeless
        if found:
            assert reason in found


def test_what_a_pod_waits_for_is_said_in_the_scheduler_s_words() -> None:
    text = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
    pod = make(phase="Pending", conditions=[{"type": "PodScheduled", "status": "False", "message": text}])
    assert not is_scheduled(pod)
    assert text in waiting_for(pod)
    pod["spec"]["nodeName"] = "n1"
    pod["status"]["containerStatuses"] = [waiting("base", "ContainerCreating")]
    assert waiting_for(pod) == "container 'base' is waiting (ContainerCreating)"


def test_a_container_has_a_log_from_its_first_start_on() -> None:
    assert not has_started(make(), "base")
    assert not has_started(make(containerStatuses=[waiting("base", "ContainerCreating")]), "base")
    assert has_started(make(containerStatuses=[running("base")]), "base")
    assert has_started(make(containerStatuses=[{**waiting("base", "CrashLoopBackOff"), "restartCount": 1}]), "base")
    last = {"lastState": terminated("base", 1)["state"]}
    assert has_started(make(containerStatuses=[{**waiting("base", "CrashLoopBackOff"), **last}]), "base")


def test_of_earlier_pods_the_living_wins_then_the_successful() -> None:
    alive = make("alive", containerStatuses=[running("base")])
    done = make("done", phase="Succeeded", containerStatuses=[terminated("base", 0)])
    failed = make("failed", phase="Failed", containerStatuses=[terminated("base", 1)])
    leaving = make("leaving", containerStatuses=[running("base")])
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:01:00Z"
    assert choose([failed, done, alive, leaving], "base") == (alive, [failed, done])
    assert choose([failed, done], "base") == (done, [failed])
    assert choose([failed], "base") == (None, [failed])
    assert choose([], "base") == (None, [])


def test_the_newest_of_several_living_pods_is_kept() -> None:
    old, new = make("old", containerStatuses=[running("base")]), make("new", containerStatuses=[running("base")])
    new["metadata"]["creationTimestamp"] = "2026-01-01T00:02:00Z"
    assert choose([old, new], "base") == (new, [old])


def test_of_pods_of_the_same_second_the_later_try_s_is_the_newer() -> None:
    first, second = (make(name, containerStatuses=[running("base")]) for name in ("first", "second"))
    first["metadata"]["labels"], second["metadata"]["labels"] = {"try_number": "1"}, {"try_number": "2"}
    assert choose([first, second], "base") == (second, [first])


def test_a_container_s_own_restart_policy_counts() -> None:
    pod = make(policy="Always", containerStatuses=[terminated("base", 1)])
    pod["spec"]["containers"][0]["restartPolicy"] = "Never"
    assert ended_for_good(pod, "base")


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        ("EvictionByEvictionAPI", "evicted"),
        ("PreemptionByScheduler", "preempted"),
        ("DeletionByTaintManager", "node_lost"),
    ],
)
@pytest.mark.parametrize("status", [terminated("base", 143, "Error"), running("base")])
def test_a_pod_that_the_cluster_is_taking_away_is_not_deleted_by_someone(status: Pod, reason: str, cause: str) -> None:
    """The run ends with the container, before the kubelet has reported the pod's own end."""
    condition = {"type": "DisruptionTarget", "status": "True", "reason": reason, "message": "x"}
    pod = make(containerStatuses=[status], conditions=[condition])
    pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:01:00Z"
    error = judge(pod, "base", deleted="running" in status["state"])
    assert isinstance(error, PodLostError)
    assert error.cause == cause
    assert reason in str(error)


def test_a_container_that_ended_well_as_its_pod_was_evicted_has_succeeded() -> None:
    condition = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "x"}
    pod = make(containerStatuses=[terminated("base", 0)], conditions=[condition])
    pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:01:00Z"
    assert judge(pod, "base") is None
    told = doubt(pod, "base")
    assert told is not None
    assert "EvictionByEvictionAPI: x" in told


@pytest.mark.parametrize(
    ("finished", "code", "deleted", "doubtful"),
    [
        ("00:00:40", 0, True, True),
        # Before anyone asked for the deletion, or not removed at all.
        ("00:00:10", 0, True, False),
        ("00:00:40", 0, False, False),
        # That is told otherwise.
        ("00:00:40", 1, True, False),
    ],
)
def test_a_success_is_in_doubt_where_the_pod_was_being_removed(
    finished: str, code: int, deleted: bool, doubtful: bool
) -> None:
    status = terminated("base", code)
    status["state"]["terminated"]["finishedAt"] = f"2026-01-01T{finished}Z"
    pod = make(containerStatuses=[status])
    if deleted:
        pod["metadata"].update(deletionTimestamp="2026-01-01T00:01:00Z", deletionGracePeriodSeconds=30)
    assert (doubt(pod, "base") is not None) == doubtful


@pytest.mark.parametrize("reason", ["OutOfcpu", "OutOfnvidia.com/gpu", "OutOfpods", "NodeAffinity"])
def test_a_pod_that_its_node_refused_is_lost(reason: str) -> None:
    error = judge(make(phase="Failed", reason=reason, message="Pod was rejected"), "base")
    assert isinstance(error, PodLostError)
    assert error.cause == "evicted"


@pytest.mark.parametrize(("finished", "own"), [("00:00:10", True), ("00:00:40", False)])
def test_a_container_that_had_failed_before_its_pod_was_deleted_failed_by_itself(finished: str, own: bool) -> None:
    status = terminated("base", 1, "Error")
    status["state"]["terminated"]["finishedAt"] = f"2026-01-01T{finished}Z"
    pod = make(containerStatuses=[status])
    pod["metadata"].update(deletionTimestamp="2026-01-01T00:01:00Z", deletionGracePeriodSeconds=30)
    for deleted in (False, True):
        error = judge(pod, "base", deleted=deleted)
        assert isinstance(error, PodFailedError if own else PodLostError)


@pytest.mark.parametrize(
    ("base", "side", "expected"),
    [(0, 0, None), (1, 0, PodFailedError), (0, 143, PodLostError), (143, 143, PodLostError)],
)
def test_what_ended_before_the_cluster_took_its_pod_away_has_ended_by_itself(
    base: int, side: int, expected: type[PodRunError] | None
) -> None:
    """A foreign sidecar goes on after the run, and is what the eviction ends; so the pod as a whole has failed."""
    statuses = [terminated("base", base), terminated("side", side), terminated("mesh", 137)]
    for status, finished in zip(statuses, (10 if base != 143 else 40, 10 if side != 143 else 40, 60), strict=True):
        status["state"]["terminated"]["finishedAt"] = f"2026-01-01T00:{finished // 60:02}:{finished % 60:02}Z"
    condition = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "x"}
    pod = make(phase="Failed", containerStatuses=statuses, conditions=[condition])
    pod["metadata"].update(deletionTimestamp="2026-01-01T00:01:00Z", deletionGracePeriodSeconds=30)
    error = judge(pod, "base", companions=["side"])
    assert error is None if expected is None else isinstance(error, expected)


def test_an_evicted_pod_is_not_harvested() -> None:
    pod = make(phase="Failed", reason="Evicted", containerStatuses=[terminated("base", 0)])
    assert choose([pod], "base") == (None, [pod])


def test_a_program_that_obeys_the_end_of_its_deadline_has_not_succeeded() -> None:
    """A kubelet reports the pod as failed and the container, which ended at SIGTERM, with exit code 0."""
    pod = make(phase="Failed", reason="DeadlineExceeded", containerStatuses=[terminated("base", 0, "Completed")])
    error = judge(pod, "base")
    assert isinstance(error, PodFailedError)
    assert "DeadlineExceeded" in str(error)
    assert not succeeded(pod, "base")
