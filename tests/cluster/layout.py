"""Where the clusters keep their files, and which addresses they use.

A cluster owns one number, its `index`, and everything on the machine that is not a file is named by it: the bridge
`kpo<index>` with the network 198.18.<index>.0/24 (set aside for benchmarks, so it is no one's network), the loopback
address 127.18.<index>.1 for what only the control plane uses, and the cgroup `kpo<index>`.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
CACHE = REPOSITORY / ".cache"
BUILT = CACHE / "kube"
IMAGES = CACHE / "images"
# Another directory is another pair of clusters, with nothing in common but the machine.
STATE_VARIABLE = "KPO_CLUSTER_STATE"
# Handed on to every process of the clusters: whoever set it finds by it what was left of what they started.
OWNER_VARIABLE = "KPO_CLUSTER_OWNER"
STATE = Path(os.environ.get(STATE_VARIABLE) or CACHE / "cluster")

# Set for the tests by `make test-cluster`: the contexts of clusters that the user has, or why there are none.
CONTEXTS_VARIABLE = "KPO_TEST_CONTEXTS"
KUBECONFIG_VARIABLE = "KPO_TEST_KUBECONFIG"
MISSING_VARIABLE = "KPO_TEST_CLUSTERS_MISSING"

CLUSTER_NAMES = ("alpha", "beta")

SERVICE_NETWORK = "10.96.0.0/16"
SERVICE_API_ADDRESS = "10.96.0.1"
SERVICE_DNS_ADDRESS = "10.96.0.10"
API_PORT = 6443
REGISTRY_PORT = 5000


@dataclass(frozen=True)
class NodeLayout:
    """The places of one node.

    Attributes:
        name: of the Node object.
        slot: its number within the cluster, from 1; decides its addresses.
        cluster: the cluster it belongs to.
    """

    name: str
    slot: int
    cluster: ClusterLayout

    @property
    def directory(self) -> Path:
        """What the node sees as /run, /var/lib and /var/log lies below this."""
        return self.cluster.directory / "nodes" / self.name

    @property
    def address(self) -> str:
        """The node's InternalIP."""
        return f"198.18.{self.cluster.index}.{10 + self.slot}"

    @property
    def pod_network(self) -> str:
        """The pods' addresses; known inside the node only."""
        return f"10.244.{self.slot}.0/24"

    @property
    def interface(self) -> str:
        """The machine's end of the node's network cable."""
        return f"kpo{self.cluster.index}n{self.slot}"

    @property
    def cgroup(self) -> str:
        """The parent of the pods' cgroups."""
        return f"{self.cluster.cgroup}/{self.name}"

    def record(self, program: str) -> Path:
        """Where the process of `program` on this node is recorded."""
        return self.cluster.records / f"{self.name}.{program}"

    def log(self, program: str) -> Path:
        """Where `program` on this node logs to."""
        return self.cluster.logs / f"{self.name}.{program}.log"


@dataclass(frozen=True)
class ClusterLayout:
    """The places of one cluster.

    Attributes:
        name: `alpha` or `beta`; also the name of its kubeconfig context.
        index: the number that its addresses and interfaces carry, 0 to 255.
        state: the directory of all clusters of this working copy.
    """

    name: str
    index: int
    state: Path = STATE

    @property
    def directory(self) -> Path:
        """Everything this cluster writes."""
        return self.state / self.name

    @property
    def records(self) -> Path:
        """One file for each process, written by the process itself."""
        return self.directory / "processes"

    @property
    def logs(self) -> Path:
        """One file for each program."""
        return self.directory / "log"

    @property
    def pki(self) -> Path:
        """Keys and certificates."""
        return self.directory / "pki"

    @property
    def audit_log(self) -> Path:
        """What the API server was asked, one JSON event a line."""
        return self.directory / "audit.log"

    @property
    def bridge(self) -> str:
        """The network that joins the nodes to the control plane."""
        return f"kpo{self.index}"

    @property
    def host_address(self) -> str:
        """Where the API server and the registry listen."""
        return f"198.18.{self.index}.1"

    @property
    def loopback_address(self) -> str:
        """Where etcd, controller manager and scheduler listen: nodes and pods cannot reach it."""
        return f"127.18.{self.index}.1"

    @property
    def server(self) -> str:
        """The URL of the API server."""
        return f"https://{self.host_address}:{API_PORT}"

    @property
    def registry(self) -> str:
        """The URL of the image registry."""
        return f"http://{self.host_address}:{REGISTRY_PORT}"

    @property
    def cgroup(self) -> str:
        """The parent of the nodes' cgroups, relative to the root of the hierarchy."""
        return f"kpo{self.index}"

    def record(self, program: str) -> Path:
        """Where the process of a control plane program is recorded."""
        return self.records / program

    def log(self, program: str) -> Path:
        """Where a control plane program logs to."""
        return self.logs / f"{program}.log"

    def save(self) -> None:
        """Write down which number this cluster owns, before anything on the machine is named by it."""
        for directory in (self.directory, self.records, self.logs, self.pki):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(self.directory / "cluster.json", json.dumps({"index": self.index}))

    @classmethod
    def load(cls, name: str, state: Path = STATE) -> ClusterLayout | None:
        """The layout of a cluster that was started, or None."""
        try:
            saved = json.loads((state / name / "cluster.json").read_text())
        except FileNotFoundError:
            return None
        return cls(name=name, index=saved["index"], state=state)


def write_whole(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file so that it is there with all its text or not at all."""
    partial = path.with_suffix(".partial")
    partial.touch(mode=mode)
    partial.write_text(text)
    partial.replace(path)
