"""Brings the clusters up and takes them down."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import shutil
import signal
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import build, cgroups, control_plane, images, kubeconfig, machine, network, node
from .api import Administrator
from .control_plane import CONTROLLER_MANAGER_PORT, SCHEDULER_PORT
from .errors import ClusterError
from .layout import API_PORT, CLUSTER_NAMES, REGISTRY_PORT, STATE, ClusterLayout, NodeLayout
from .node import NodeSpec
from .pki import KeyPair
from .processes import recorded, wait_for

KUBECONFIG = STATE / "kubeconfig"
OLD_LOGS = STATE.with_name(f"{STATE.name}-logs")

_HEALTH_TIMEOUT_SECONDS = 30.0
_ACCOUNT_TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True)
class Health:
    """How one part of a cluster is.

    Attributes:
        cluster: the cluster's name.
        part: a program, or a node and a program.
        fault: what is wrong with it; empty when nothing is.
        pid: its process.
    """

    cluster: str
    part: str
    fault: str
    pid: int | None


def up(say: Callable[[str], None]) -> bool:
    """Bring the clusters up; false when they are up and well already.

    Raises:
        NotPossibleHereError: this machine cannot run them; nothing was left on it.
        ClusterError: something failed; what had been made was removed, the logs were kept.
    """
    with _lock(say):
        if KUBECONFIG.exists() and not any(part.fault for part in health()):
            return False
        if STATE.exists():
            say("clearing away clusters that are not whole")
            _dismantle()
        machine.check()
        machine.install_packages(say)
        machine.check_kernel()
        build.build(say)
        images.prepare(say)
        try:
            _start(say)
        except BaseException:
            say(f"that failed; removing what was made (logs are kept in {OLD_LOGS})")
            _dismantle()
            raise
    return True


def down(say: Callable[[str], None]) -> bool:
    """Take the clusters down, with everything they made on the machine; false when there was nothing."""
    with _lock(say):
        found = STATE.exists()
        _dismantle()
    return found


def clusters() -> dict[str, ClusterLayout]:
    """The clusters that were started, by name."""
    return {name: layout for name in CLUSTER_NAMES if (layout := ClusterLayout.load(name)) is not None}


def nodes(cluster: str) -> list[NodeLayout]:
    """The nodes of a cluster, in the order they were started."""
    return node.existing(_running(cluster))


def add_node(
    cluster: str,
    name: str,
    *,
    labels: Mapping[str, str] | None = None,
    taints: Sequence[Mapping[str, str]] = (),
    capacity: Mapping[str, str] | None = None,
) -> NodeLayout:
    """Start one more node and wait until it is Ready.

    Args:
        cluster: `alpha` or `beta`.
        name: of the Node object.
        labels: those a kubelet may give itself; `kubernetes.io` allows it a few only.
        taints: each with `key`, `effect` and perhaps `value`.
        capacity: extended resources, such as `{"nvidia.com/gpu": "1"}`.

    Raises:
        ClusterError: it could not be started; nothing of it is left.
    """
    layout = _running(cluster)
    spec = NodeSpec(name, labels or {}, taints, capacity or {})
    added = node.prepare(layout, spec)
    try:
        kubelet = node.start_kubelet(added, spec.labels)
        node.await_ready(added, kubelet, Administrator(layout), spec.capacity)
    except BaseException:
        remove_node(cluster, name)
        raise
    return added


def remove_node(cluster: str, name: str, *, delete_object: bool = True) -> None:
    """End a node and everything that runs on it, at once, as a machine does that is switched off.

    Args:
        cluster: `alpha` or `beta`.
        name: of the node.
        delete_object: also delete the Node object, as a cloud does; otherwise the cluster finds out for itself.

    Raises:
        ClusterError: there is no such node.
    """
    layout = _running(cluster)
    found = next((each for each in node.existing(layout) if each.name == name), None)
    if found is None:
        raise ClusterError(f"There is no node {name} in {cluster}.")
    node.dismantle(found)
    administrator = Administrator(layout)
    if delete_object and administrator.find(f"/api/v1/nodes/{name}") is not None:
        administrator.request("DELETE", f"/api/v1/nodes/{name}")


def stop_api_server(cluster: str, number: signal.Signals = signal.SIGKILL) -> None:
    """End a cluster's API server, and wait until it has ended; what runs on the nodes goes on.

    Args:
        cluster: `alpha` or `beta`.
        number: the signal; SIGTERM lets it take leave of its watchers, for up to a minute.
    """
    control_plane.stop_api_server(_running(cluster), number)


def start_api_server(cluster: str, extra_flags: Sequence[str] = ()) -> None:
    """Start a cluster's API server after `stop_api_server`, and wait until it is ready.

    Args:
        cluster: `alpha` or `beta`.
        extra_flags: added to its command line, such as `--authentication-token-webhook-config-file=...`.

    Raises:
        ClusterError: it ended, or is not ready in time.
    """
    layout = _running(cluster)
    control_plane.start_api_server(layout, extra_flags)
    control_plane.await_api_server(layout)


def health() -> list[Health]:
    """How each part of each cluster is."""
    return [part for layout in clusters().values() for part in (*_control_plane_health(layout), *_node_health(layout))]


def _start(say: Callable[[str], None]) -> None:
    started = time.monotonic()
    # Both at once, step by step: what one waits for, the other's programs do at the same time.
    layouts = [_claim(name) for name in CLUSTER_NAMES]
    for layout in layouts:
        control_plane.make_credentials(layout)
        control_plane.start_storage(layout)
        control_plane.start_api_server(layout)
    nodes = [node.prepare(layout, NodeSpec(f"{layout.name}-1")) for layout in layouts]
    administrators = []
    for layout, first in zip(layouts, nodes, strict=True):
        administrators.append(control_plane.await_api_server(layout))
        control_plane.start_controllers(layout)
        node.start_kubelet(first, {})
    say(f"API servers ready after {time.monotonic() - started:.1f} s")
    for first, administrator in zip(nodes, administrators, strict=True):
        kubelet = recorded(first.record("kubelet"))
        if kubelet is None:
            raise ClusterError(f"The kubelet of {first.name} was not started; its log is {first.log('kubelet')}.")
        node.await_ready(first, kubelet, administrator, {})
        _await_accounts(first.cluster, administrator)
    say(f"nodes ready after {time.monotonic() - started:.1f} s")
    entries = [kubeconfig.certificate_entry(layout, KeyPair.at(layout.pki, "admin")) for layout in layouts]
    kubeconfig.write(KUBECONFIG, entries)


def _claim(name: str) -> ClusterLayout:
    for index in network.free_indexes():
        layout = ClusterLayout(name, index)
        layout.save()
        if network.make_bridge(layout):
            return layout
    raise ClusterError("Every network from 198.18.1.0/24 to 198.18.254.0/24 is in use on this machine.")


def _await_accounts(layout: ClusterLayout, administrator: Administrator) -> None:
    # No pod is admitted to a namespace before these are there.
    for path in ("serviceaccounts/default", "configmaps/kube-root-ca.crt"):
        wait_for(
            lambda path=path: administrator.find(f"/api/v1/namespaces/default/{path}"),  # type: ignore[misc]
            what=f"{path} of {layout.name}",
            needs=[process] if (process := recorded(layout.record("kube-controller-manager"))) else [],
            log=layout.log("kube-controller-manager"),
            timeout_seconds=_ACCOUNT_TIMEOUT_SECONDS,
        )


def _dismantle() -> None:
    for layout in clusters().values():
        for each in node.existing(layout):
            node.dismantle(each)
        for record in layout.records.glob("*"):
            process = recorded(record)
            if process is not None:
                process.end()
        network.remove_bridge(layout)
        cgroups.remove(layout.cgroup)
        _keep_logs(layout)
    # Nothing on the machine is named by a directory without a saved layout.
    for name in CLUSTER_NAMES:
        shutil.rmtree(STATE / name, ignore_errors=True)
    KUBECONFIG.unlink(missing_ok=True)
    if STATE.exists():
        STATE.rmdir()


def _keep_logs(layout: ClusterLayout) -> None:
    kept = OLD_LOGS / layout.name
    shutil.rmtree(kept, ignore_errors=True)
    kept.parent.mkdir(exist_ok=True)
    if layout.logs.exists():
        layout.logs.rename(kept)


def _running(name: str) -> ClusterLayout:
    layout = clusters().get(name)
    if layout is None or not KUBECONFIG.exists():
        raise ClusterError(f"Cluster {name} is not up; `make cluster-up` brings it up.")
    return layout


def _control_plane_health(layout: ClusterLayout) -> list[Health]:
    administrator = Administrator(layout)
    local = layout.loopback_address
    answers: dict[str, Callable[[], str]] = {
        # The API server's own check of it; nobody else may ask etcd.
        "etcd": lambda: "" if administrator.find("/readyz/etcd") else "the API server cannot use it",
        control_plane.API_SERVER: lambda: _answer_fault("https", layout.host_address, API_PORT, "/readyz"),
        "kube-controller-manager": lambda: _answer_fault("https", local, CONTROLLER_MANAGER_PORT, "/healthz"),
        "kube-scheduler": lambda: _answer_fault("https", local, SCHEDULER_PORT, "/healthz"),
        "registry": lambda: _answer_fault("http", layout.host_address, REGISTRY_PORT, "/v2/"),
    }
    found = []
    for program, answer in answers.items():
        fault, pid = _process_fault(layout.record(program))
        found.append(Health(layout.name, program, fault or answer(), pid))
    return found


def _node_health(layout: ClusterLayout) -> list[Health]:
    administrator = Administrator(layout)
    found = []
    for each in node.existing(layout):
        for program in node.PROGRAMS:
            fault, pid = _process_fault(each.record(program))
            if not fault and program == "kubelet":
                seen = administrator.find(f"/api/v1/nodes/{each.name}")
                fault = "" if seen and node.is_ready(seen["status"]) else "the node is not Ready"
            found.append(Health(layout.name, f"{each.name}: {program}", fault, pid))
    return found


def _process_fault(record: Path) -> tuple[str, int | None]:
    process = recorded(record)
    if process is None:
        return "not started", None
    return ("" if process.alive else "has ended"), process.pid


def _answer_fault(scheme: str, host: str, port: int, path: str) -> str:
    # Only whether it answers is asked, and it is not trusted with anything: no certificate is checked.
    context = ssl._create_unverified_context()
    connection = (
        http.client.HTTPSConnection(host, port, timeout=_HEALTH_TIMEOUT_SECONDS, context=context)
        if scheme == "https"
        else http.client.HTTPConnection(host, port, timeout=_HEALTH_TIMEOUT_SECONDS)
    )
    try:
        connection.request("GET", path)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"{path}: {error}"
    finally:
        connection.close()
    return "" if status == http.client.OK else f"{path}: HTTP {status}"


@contextlib.contextmanager
def _lock(say: Callable[[str], None]) -> Iterator[None]:
    STATE.parent.mkdir(parents=True, exist_ok=True)
    with STATE.with_name(f"{STATE.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another cluster command to end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
