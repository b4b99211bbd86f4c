"""A node: a set of namespaces on this machine with a containerd and a kubelet of its own in it.

The first process of the node's process namespace holds the others. When it is ended the kernel ends all the rest of the
node, containers included, and with them go the node's mounts, network devices and address translation rules. The node
sees a /run, /var/lib and /var/log of its own, so its programs use their well-known paths and socket names stay short.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from . import build, cgroups, images, kubeconfig, machine, network, pki
from .api import Administrator
from .errors import ClusterError
from .layout import SERVICE_DNS_ADDRESS, ClusterLayout, NodeLayout, write_whole
from .pki import KeyPair
from .processes import Process, launch, recorded, wait_for

PROGRAMS = ("namespaces", "containerd", "kubelet")
_SOCKET = "/run/containerd/containerd.sock"
_SETTINGS = Path("/run/kpo/settings")
_BINARIES = Path("/run/kpo/bin")
_START_TIMEOUT_SECONDS = 60.0
_SLOTS = range(1, 200)

# $0: the node's directory, $1: the Kubernetes programs. /mnt is a stepping stone only, for a directory that one of the
# other mounts would hide.
_ENTER = f"""
set -e
mount --bind "$1" "$0{_BINARIES}"
mount --rbind "$0" /mnt
mount --rbind /mnt/run /run
mount --bind /mnt/var/lib /var/lib
mount --bind /mnt/var/log /var/log
umount --recursive /mnt
mount --make-rshared /
touch /run/kpo/entered
exec {_BINARIES}/pause
"""


@dataclass(frozen=True)
class NodeSpec:
    """What a node says of itself.

    Attributes:
        name: of the Node object.
        labels: in addition to those every node has.
        taints: each with `key`, `effect` and perhaps `value`.
        capacity: extended resources, such as `{"nvidia.com/gpu": "1"}`; those of the machine cannot be changed.
    """

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: Sequence[Mapping[str, str]] = ()
    capacity: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        native = [name for name in self.capacity if "/" not in name]
        if native:
            raise ValueError(
                f"capacity takes extended resources (domain/name); {', '.join(native)} is the machine's own"
            )


def existing(cluster: ClusterLayout) -> list[NodeLayout]:
    """The nodes of a cluster that were started and not removed."""
    found = []
    for path in sorted(cluster.directory.glob("nodes/*/node.json")):
        found.append(NodeLayout(path.parent.name, json.loads(path.read_text())["slot"], cluster))
    return sorted(found, key=lambda node: node.slot)


def prepare(cluster: ClusterLayout, spec: NodeSpec) -> NodeLayout:
    """Make the node's namespaces, settings and network, and start its containerd; the API server is not needed yet.

    Raises:
        ClusterError: the node is there already, or one of its parts fails.
    """
    node = _claim(cluster, spec.name)
    try:
        _write_settings(node, spec)
        cgroups.make(node.cgroup)
        holder = _hold_namespaces(node)
        network.connect_node(node, holder.pid)
        _launch(node, "containerd", ["containerd", "--config", _SETTINGS / "containerd.toml"])
    except BaseException:
        dismantle(node)
        raise
    return node


def start_kubelet(node: NodeLayout, labels: Mapping[str, str]) -> Process:
    """Start the kubelet of a prepared node; the API server must be ready."""
    containerd = recorded(node.record("containerd"))
    socket = Path(f"{node.directory}{_SOCKET}")
    wait_for(
        lambda: True if socket.is_socket() else None,
        what=f"containerd of {node.name}",
        needs=[containerd] if containerd else [],
        log=node.log("containerd"),
        timeout_seconds=_START_TIMEOUT_SECONDS,
    )
    flags = [
        f"--config={_SETTINGS / 'kubelet.yaml'}",
        f"--kubeconfig={_SETTINGS / 'kubelet.kubeconfig'}",
        f"--hostname-override={node.name}",
        f"--node-ip={node.address}",
        f"--cert-dir={_SETTINGS}",
    ]
    if labels:
        flags.append(f"--node-labels={','.join(f'{key}={value}' for key, value in labels.items())}")
    return _launch(node, "kubelet", [_BINARIES / "kubelet", *flags])


def await_ready(node: NodeLayout, kubelet: Process, administrator: Administrator, capacity: Mapping[str, str]) -> None:
    """Wait until the node is Ready and what it has in addition can be scheduled.

    Raises:
        ClusterError: the kubelet ended, or it is not ready in time.
    """
    path = f"/api/v1/nodes/{node.name}"

    def wait(what: str, holds: Callable[[Any], bool]) -> None:
        wait_for(
            lambda: True if (found := administrator.find(path)) and holds(found["status"]) else None,
            what=f"{what} of node {node.name}",
            needs=[kubelet],
            log=node.log("kubelet"),
            timeout_seconds=_START_TIMEOUT_SECONDS,
        )

    wait("readiness", is_ready)
    if capacity:
        # Allocatable would follow by itself, with the kubelet's next report, up to ten seconds later.
        status = {"capacity": dict(capacity), "allocatable": dict(capacity)}
        administrator.request(
            "PATCH", f"{path}/status", {"status": status}, content_type="application/merge-patch+json"
        )
        wait("extended resources", lambda status: capacity.items() <= status.get("allocatable", {}).items())


def is_ready(status: Mapping[str, Any]) -> bool:
    """Whether the status of a Node object says Ready."""
    conditions = status.get("conditions", ())
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def dismantle(node: NodeLayout) -> None:
    """End everything on the node and remove what it left on the machine; its Node object is left alone."""
    holder = recorded(node.record("namespaces"))
    for init in holder.children() if holder is not None and holder.alive else []:
        # Its end is complete only when every process of the namespace has ended.
        init.end()
    for program in reversed(PROGRAMS):
        process = recorded(node.record(program))
        if process is not None:
            process.end()
        node.record(program).unlink(missing_ok=True)
    network.remove_interface(node.interface)
    cgroups.remove(node.cgroup)
    shutil.rmtree(node.directory)
    (node.cluster.directory / "slots" / str(node.slot)).rmdir()


def _claim(cluster: ClusterLayout, name: str) -> NodeLayout:
    slots = cluster.directory / "slots"
    slots.mkdir(exist_ok=True)
    directory = cluster.directory / "nodes" / name
    try:
        directory.mkdir(parents=True)
    except FileExistsError:
        raise ClusterError(f"There is a node {name} in {cluster.name} already.") from None
    for slot in _SLOTS:
        try:
            (slots / str(slot)).mkdir()
        except FileExistsError:
            continue
        write_whole(directory / "node.json", json.dumps({"slot": slot}))
        return NodeLayout(name, slot, cluster)
    raise ClusterError(f"{cluster.name} has no room for another node.")


def _hold_namespaces(node: NodeLayout) -> Process:
    namespaces = ["--mount", "--net", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--propagation=private"]
    holder = launch(
        ["unshare", *namespaces, "sh", "-c", _ENTER, node.directory, build.directory()],
        record=node.record("namespaces"),
        log=node.log("namespaces"),
    )
    entered = node.directory / "run/kpo/entered"
    wait_for(
        lambda: True if entered.exists() else None,
        what=f"namespaces of {node.name}",
        needs=[holder],
        log=node.log("namespaces"),
        timeout_seconds=_START_TIMEOUT_SECONDS,
    )
    return holder.children()[0]


def _launch(node: NodeLayout, program: str, command: Sequence[str | Path]) -> Process:
    holder = recorded(node.record("namespaces"))
    if holder is None or not (children := holder.children()):
        raise ClusterError(f"The namespaces of {node.name} are gone; their log is {node.log('namespaces')}.")
    enter = ["nsenter", "--target", str(children[0].pid), "--mount", "--net", "--pid", "--"]
    return launch([*enter, *command], record=node.record(program), log=node.log(program))


def _write_settings(node: NodeLayout, spec: NodeSpec) -> None:
    for part in ("var/lib", "var/log", "run/containerd", "run/kpo/bin"):
        (node.directory / part).mkdir(parents=True)
    settings = Path(f"{node.directory}{_SETTINGS}")
    for part in ("cni", "registries/_default"):
        (settings / part).mkdir(parents=True)
    cluster = node.cluster
    authority = KeyPair.at(cluster.pki, "ca")
    pair = KeyPair.at(settings, "kubelet")
    pki.issue(
        authority, pair, name=f"system:node:{node.name}", groups=["system:nodes"], hosts=[node.address, node.name]
    )
    shutil.copy(authority.certificate, settings / "ca.crt")
    kubeconfig.write(settings / "kubelet.kubeconfig", [kubeconfig.certificate_entry(cluster, pair)])
    (settings / "kubelet.yaml").write_text(yaml.safe_dump(_kubelet_settings(node, spec)))
    (settings / "containerd.toml").write_text(_containerd_settings())
    (settings / "cni/pods.conflist").write_text(json.dumps(_network_settings(node)))
    (settings / "registries/_default/hosts.toml").write_text(
        f'server = "{cluster.registry}"\n[host."{cluster.registry}"]\n  capabilities = ["pull", "resolve"]\n'
    )


def _kubelet_settings(node: NodeLayout, spec: NodeSpec) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": node.address,
        "healthzPort": 0,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(_SETTINGS / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(_SETTINGS / "kubelet.crt"),
        "tlsPrivateKeyFile": str(_SETTINGS / "kubelet.key"),
        "containerRuntimeEndpoint": f"unix://{_SOCKET}",
        "registerWithTaints": [dict(taint) for taint in spec.taints],
        # No one answers there, at once; without an address every pod would get a warning event.
        "clusterDNS": [SERVICE_DNS_ADDRESS],
        "clusterDomain": "cluster.local",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{node.cgroup}",
        "enforceNodeAllocatable": [],
        "failCgroupV1": False,
        "failSwapOn": False,
        "makeIPTablesUtilChains": False,
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        "oomScoreAdj": 0,
        # The disk and memory are the machine's: how full they are is not this node's affair.
        "evictionHard": {},
        "imageGCHighThresholdPercent": 100,
        # A hundred that are waited for at once leave room for others; a node's network has addresses for as many.
        "maxPods": 200,
        # The shortest there is: no test of logs that are rotated need wait for long.
        "containerLogMonitorInterval": "3s",
        # How often volumes are measured; at the default, a minute, so long would one be over its limit unnoticed.
        "volumeStatsAggPeriod": "5s",
    }


def _containerd_settings() -> str:
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    return f"""\
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
oom_score = 0
# This one would make a directory outside the node.
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
  address = "{_SOCKET}"
[{cri}]
  sandbox_image = "{images.PAUSE_REFERENCE}"
  # Works without CAP_SYS_RESOURCE too.
  restrict_oom_score_adj = true
  tolerate_missing_hugetlb_controller = true
[{cri}.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[{cri}.cni]
  bin_dir = "{machine.cni_plugins()}"
  conf_dir = "{_SETTINGS / "cni"}"
[{cri}.registry]
  config_path = "{_SETTINGS / "registries"}"
"""


def _network_settings(node: NodeLayout) -> dict[str, Any]:
    addresses = {"type": "host-local", "ranges": [[{"subnet": node.pod_network}]], "routes": [{"dst": "0.0.0.0/0"}]}
    bridge = {"type": "bridge", "bridge": "pods", "isGateway": True, "hairpinMode": True, "ipam": addresses}
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge, ports]}
