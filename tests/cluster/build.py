"""Builds the Kubernetes programs from source, once for each version of that source."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from . import machine
from .errors import ClusterError, NotPossibleHereError
from .layout import BUILT

SOURCE = Path(__file__).resolve().parent / "kube"
PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl")
_DISK_BYTES = 6 * 10**9
# What the compiler says when it is the network that fails it.
_OUT_OF_REACH = re.compile(r"dial tcp|proxyconnect|i/o timeout|TLS handshake|reading https?://\S+: \d{3} ")


def key() -> str:
    """Names this version of the source."""
    digest = hashlib.sha256()
    for path in sorted((*SOURCE.rglob("*.go"), SOURCE / "go.mod", SOURCE / "go.sum")):
        digest.update(f"{path.relative_to(SOURCE)}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def directory() -> Path:
    """Where the programs of this version are, or will be."""
    return BUILT / key()


def is_built() -> bool:
    """Whether `build` has nothing to do."""
    return (directory() / "kubelet").exists()


def version() -> str:
    """The version of Kubernetes, as its programs give it."""
    found = re.search(r"^\s*k8s\.io/kubernetes (v\S+)$", (SOURCE / "go.mod").read_text(), re.MULTILINE)
    if found is None:
        raise ClusterError(f"{SOURCE / 'go.mod'} requires no k8s.io/kubernetes")
    return found[1]


def build(say: Callable[[str], None]) -> Path:
    """Build the programs unless they are there, and give back their directory.

    Raises:
        NotPossibleHereError: there is no Go compiler, not enough room, or no way to the modules.
        ClusterError: the build failed.
    """
    target = directory()
    if is_built():
        return target
    compiler = machine.go()
    BUILT.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(BUILT).free
    if free < _DISK_BYTES:
        raise NotPossibleHereError(
            f"Building Kubernetes needs {_DISK_BYTES / 1e9:.0f} GB of disk; {free / 1e9:.1f} are free."
        )
    say(f"building Kubernetes {version()}: some 5 minutes the first time on 2 cores")
    started = time.monotonic()
    partial = BUILT / f"{target.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    _compile(compiler, partial)
    for program in PROGRAMS:
        (partial / program).symlink_to("kube")
    for older in BUILT.iterdir():
        if older != partial:
            shutil.rmtree(older)
    partial.rename(target)
    say(f"built in {time.monotonic() - started:.0f} s")
    return target


def _compile(compiler: str, target: Path) -> None:
    major, minor, _ = version().removeprefix("v").split(".")
    stamp = "-X k8s.io/component-base/version."
    flags = f"-s -w {stamp}gitVersion={version()} {stamp}gitMajor={major} {stamp}gitMinor={minor}"
    environment = {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOFLAGS": "-mod=readonly",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }
    command = [compiler, "build", "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", f"{target}/", "./..."]
    done = subprocess.run(command, cwd=SOURCE, env=environment, capture_output=True, text=True, check=False)
    if done.returncode and _OUT_OF_REACH.search(done.stderr):
        raise NotPossibleHereError(f"The modules of Kubernetes cannot be had:\n{done.stderr.strip()[-1000:]}")
    if done.returncode:
        raise ClusterError(f"Kubernetes could not be built:\n{done.stderr.strip()[-2000:]}")
