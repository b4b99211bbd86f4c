"""A cluster's control plane: etcd, API server, controller manager and scheduler, and the registry of its images."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from . import build, kubeconfig, pki, registry
from .api import Administrator
from .layout import API_PORT, IMAGES, REGISTRY_PORT, SERVICE_API_ADDRESS, SERVICE_NETWORK, ClusterLayout
from .pki import KeyPair
from .processes import Process, launch, recorded, wait_for

API_SERVER = "kube-apiserver"
PROGRAMS = ("etcd", API_SERVER, "kube-controller-manager", "kube-scheduler", "registry")

_ETCD_PORT = 2379
_ETCD_PEER_PORT = 2380
CONTROLLER_MANAGER_PORT = 10257
SCHEDULER_PORT = 10259
_START_TIMEOUT_SECONDS = 90.0
_STOP_TIMEOUT_SECONDS = 90.0

# What nodes, controllers and health checks ask for all the time is not what a test wants to count.
_AUDIT_POLICY: dict[str, Any] = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "rules": [
        {"level": "None", "userGroups": ["system:nodes"]},
        {"level": "None", "userGroups": ["system:serviceaccounts:kube-system"]},
        # Which node a pod was given stands in the request.
        {
            "level": "Request",
            "users": ["system:kube-scheduler"],
            "resources": [{"group": "", "resources": ["pods/binding"]}],
        },
        {"level": "None", "users": ["system:apiserver", "system:kube-controller-manager", "system:kube-scheduler"]},
        {"level": "None", "nonResourceURLs": ["/healthz*", "/livez*", "/readyz*"]},
        {"level": "Metadata"},
    ],
}


def make_credentials(layout: ClusterLayout) -> None:
    """Make the cluster's keys, certificates and kubeconfigs."""
    directory = layout.pki
    authority = KeyPair.at(directory, "ca")
    storage_authority = KeyPair.at(directory, "etcd-ca")
    pki.make_authority(authority, f"{layout.name} cluster")
    pki.make_authority(storage_authority, f"{layout.name} etcd")
    pki.make_signing_key(directory / "service-accounts.key", directory / "service-accounts.pub")
    pki.issue(storage_authority, KeyPair.at(directory, "etcd"), name="etcd", hosts=[layout.loopback_address])
    hosts = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
    addresses = (layout.host_address, SERVICE_API_ADDRESS)
    pki.issue(authority, KeyPair.at(directory, "server"), name="kube-apiserver", hosts=[*hosts, *addresses])
    for name, user, group in (
        ("admin", "admin", "system:masters"),
        ("kubelet-client", "kube-apiserver-kubelet-client", "system:masters"),
        ("kube-controller-manager", "system:kube-controller-manager", ""),
        ("kube-scheduler", "system:kube-scheduler", ""),
    ):
        pair = KeyPair.at(directory, name)
        pki.issue(authority, pair, name=user, groups=[group] if group else [])
        kubeconfig.write(directory / f"{name}.kubeconfig", [kubeconfig.certificate_entry(layout, pair)])
    (layout.directory / "audit-policy.yaml").write_text(yaml.safe_dump(_AUDIT_POLICY))


def start_storage(layout: ClusterLayout) -> None:
    """Start etcd and the registry: what needs nothing else."""
    authority, pair = layout.pki / "etcd-ca.crt", KeyPair.at(layout.pki, "etcd")
    peer = f"https://{layout.loopback_address}:{_ETCD_PEER_PORT}"
    flags = [
        f"--data-dir={layout.directory / 'etcd'}",
        "--name=etcd",
        f"--listen-client-urls={_etcd(layout)}",
        f"--advertise-client-urls={_etcd(layout)}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=etcd={peer}",
        # A test cluster that loses its machine has lost nothing.
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]
    for prefix in ("", "peer-"):
        flags += [f"--{prefix}cert-file={pair.certificate}", f"--{prefix}key-file={pair.key}"]
        flags += [f"--{prefix}trusted-ca-file={authority}", f"--{prefix}client-cert-auth"]
    _launch(layout, "etcd", flags)
    program = Path(registry.__file__)
    command: list[str | Path] = [sys.executable, "-I", program, layout.host_address, str(REGISTRY_PORT), IMAGES]
    launch(command, record=layout.record("registry"), log=layout.log("registry"))


def start_api_server(layout: ClusterLayout, extra_flags: Sequence[str] = (), *, name: str = API_SERVER) -> Process:
    """Start the API server, without waiting for it.

    Args:
        layout: of the cluster.
        extra_flags: added to its command line, such as `--authentication-token-webhook-config-file=...`; of a flag that
            is given twice the later counts.
        name: of its record and log, for one more beside the first.
    """
    directory = layout.pki
    flags = [
        f"--bind-address={layout.host_address}",
        f"--advertise-address={layout.host_address}",
        f"--secure-port={API_PORT}",
        f"--etcd-servers={_etcd(layout)}",
        f"--etcd-cafile={directory / 'etcd-ca.crt'}",
        f"--etcd-certfile={directory / 'etcd.crt'}",
        f"--etcd-keyfile={directory / 'etcd.key'}",
        f"--tls-cert-file={directory / 'server.crt'}",
        f"--tls-private-key-file={directory / 'server.key'}",
        f"--client-ca-file={directory / 'ca.crt'}",
        f"--kubelet-certificate-authority={directory / 'ca.crt'}",
        f"--kubelet-client-certificate={directory / 'kubelet-client.crt'}",
        f"--kubelet-client-key={directory / 'kubelet-client.key'}",
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={directory / 'service-accounts.pub'}",
        f"--service-account-signing-key-file={directory / 'service-accounts.key'}",
        f"--service-cluster-ip-range={SERVICE_NETWORK}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        # No endpoint is needed: each node translates the service's address itself.
        "--endpoint-reconciler-type=none",
        f"--audit-policy-file={layout.directory / 'audit-policy.yaml'}",
        f"--audit-log-path={layout.audit_log}",
        "--profiling=false",
        *extra_flags,
    ]
    program = build.directory() / API_SERVER
    return launch([program, *flags], record=layout.record(name), log=layout.log(name))


def await_api_server(layout: ClusterLayout) -> Administrator:
    """Wait until the API server is ready, and give back its administrator.

    Raises:
        ClusterError: it ended, or is not ready in time.
    """
    administrator = Administrator(layout)
    needs = [process for name in ("etcd", API_SERVER) if (process := recorded(layout.record(name))) is not None]
    wait_for(
        lambda: administrator.find("/readyz"),
        what=f"API server of {layout.name}",
        needs=needs,
        log=layout.log(API_SERVER),
        timeout_seconds=_START_TIMEOUT_SECONDS,
    )
    return administrator


def stop_api_server(layout: ClusterLayout, number: signal.Signals) -> None:
    """End the API server, and wait until it has ended; what runs on the nodes goes on."""
    process = recorded(layout.record(API_SERVER))
    if process is not None:
        process.end(number, _STOP_TIMEOUT_SECONDS)


def start_controllers(layout: ClusterLayout) -> None:
    """Start the controller manager and the scheduler; the API server must be ready."""
    directory = layout.pki
    _launch(
        layout,
        "kube-controller-manager",
        [
            f"--kubeconfig={directory / 'kube-controller-manager.kubeconfig'}",
            f"--bind-address={layout.loopback_address}",
            f"--secure-port={CONTROLLER_MANAGER_PORT}",
            "--use-service-account-credentials=true",
            f"--service-account-private-key-file={directory / 'service-accounts.key'}",
            f"--root-ca-file={directory / 'ca.crt'}",
            f"--cluster-signing-cert-file={directory / 'ca.crt'}",
            f"--cluster-signing-key-file={directory / 'ca.key'}",
            "--leader-elect=false",
            "--profiling=false",
            # Its own limit would stretch the start of its controllers over five seconds.
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
        ],
    )
    _launch(
        layout,
        "kube-scheduler",
        [
            f"--kubeconfig={directory / 'kube-scheduler.kubeconfig'}",
            f"--bind-address={layout.loopback_address}",
            f"--secure-port={SCHEDULER_PORT}",
            "--leader-elect=false",
            "--profiling=false",
        ],
    )


def _etcd(layout: ClusterLayout) -> str:
    return f"https://{layout.loopback_address}:{_ETCD_PORT}"


def _launch(layout: ClusterLayout, program: str, flags: Sequence[str]) -> Process:
    return launch([build.directory() / program, *flags], record=layout.record(program), log=layout.log(program))
