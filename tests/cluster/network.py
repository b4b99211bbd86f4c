"""The only network devices that the clusters make on the machine: a bridge for each, and a cable for each node.

All else, such as the pods' bridge and the rules that translate addresses, is made inside a node's own network
namespace and vanishes with it. Nothing is forwarded by the machine: nodes and pods reach its end of the bridge and
no further.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from .errors import ClusterError
from .layout import API_PORT, SERVICE_API_ADDRESS, ClusterLayout, NodeLayout

_INTERFACES = Path("/sys/class/net")


def run(command: Sequence[str | Path]) -> str:
    """Run a short command and give back its output.

    Raises:
        ClusterError: it failed; with what it said.
    """
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise ClusterError(f"`{' '.join(str(part) for part in command)}` failed: {said}")
    return done.stdout


def free_indexes() -> list[int]:
    """The numbers whose network and bridge no one on this machine uses."""
    routes = json.loads(run(["ip", "-json", "-4", "route", "show", "table", "all"]) or "[]")
    prefixes = {str(route.get("dst", "")).rsplit(".", 1)[0] for route in routes}
    return [
        index
        for index in range(1, 255)
        if f"198.18.{index}" not in prefixes and not (_INTERFACES / f"kpo{index}").exists()
    ]


def make_bridge(layout: ClusterLayout) -> bool:
    """Make the cluster's bridge; false when another working copy was faster to take its number."""
    try:
        run(["ip", "link", "add", layout.bridge, "type", "bridge"])
    except ClusterError:
        if (_INTERFACES / layout.bridge).exists():
            return False
        raise
    # Says whose bridge this is, to `remove_bridge`.
    (_INTERFACES / layout.bridge / "ifalias").write_text(str(layout.directory))
    run(["ip", "address", "add", f"{layout.host_address}/24", "dev", layout.bridge])
    run(["ip", "link", "set", layout.bridge, "up"])
    return True


def remove_bridge(layout: ClusterLayout) -> None:
    """Remove the cluster's bridge and the cables in it, if they are still there and its own."""
    directory = _INTERFACES / layout.bridge
    try:
        owner = (directory / "ifalias").read_text().strip()
    except FileNotFoundError:
        return
    if owner not in ("", str(layout.directory)):
        return
    for port in list((directory / "brif").iterdir()):
        remove_interface(port.name)
    remove_interface(layout.bridge)


def connect_node(node: NodeLayout, init_pid: int) -> None:
    """Join a node's network namespace to its cluster's bridge, and lead its pods to the API server.

    Args:
        node: to connect.
        init_pid: of the process that holds the node's namespaces.
    """
    inside = ["nsenter", "--target", str(init_pid), "--net", "--"]
    bridge = node.cluster.bridge
    run(["ip", "link", "add", node.interface, "type", "veth", "peer", "name", "eth0", "netns", str(init_pid)])
    run(["ip", "link", "set", node.interface, "master", bridge, "up"])
    run([*inside, "ip", "link", "set", "lo", "up"])
    run([*inside, "ip", "address", "add", f"{node.address}/24", "dev", "eth0"])
    run([*inside, "ip", "link", "set", "eth0", "up"])
    run([*inside, "sysctl", "-q", "-w", "net.ipv4.ip_forward=1"])
    nat = [*inside, "iptables", "-w", "-t", "nat", "-A"]
    api_server = f"{node.cluster.host_address}:{API_PORT}"
    run(
        [*nat, "PREROUTING", "-d", SERVICE_API_ADDRESS, "-p", "tcp", "--dport", "443", "-j", "DNAT", "--to", api_server]
    )
    run([*nat, "POSTROUTING", "-s", node.pod_network, "-o", "eth0", "-j", "MASQUERADE"])


def remove_interface(name: str) -> None:
    """Remove a network device, unless it is gone already: a cable goes when either end does."""
    try:
        run(["ip", "link", "delete", name])
    except ClusterError:
        if (_INTERFACES / name).exists():
            raise
