"""What the machine must offer, and the Debian packages that are installed when they are missing."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from .errors import NotPossibleHereError
from .layout import CACHE

# The program that shows a package to be there (another distributor's containerd is as good), and the package.
_PACKAGES = {
    "containerd": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "ip": "iproute2",
    "sysctl": "procps",
    "busybox": "busybox-static",
    "debootstrap": "debootstrap",
}
_CNI_DIRECTORIES = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
_CNI_PACKAGE = "containernetworking-plugins"
_POLICY = Path("/usr/sbin/policy-rc.d")
_SERVICE = "containerd.service"
_CGROUP_CONTROLLERS = ("cpu", "cpuset", "memory", "pids")
_MEMORY_BYTES = 3 * 2**30
_GO_VERSION = (1, 24)

# Tries, in namespaces that end with it, each thing that a node will need of the kernel.
_TRIAL = """
need() { what=$1; shift; "$@" >/dev/null 2>&1 || { echo "$what"; exit 1; }; }
need "bridge devices" ip link add trial0 type bridge
need "veth devices" ip link add trial1 type veth peer name trial2
need "address translation (iptables -t nat)" iptables -w -t nat -A POSTROUTING -s 10.244.0.0/24 -j MASQUERADE
need "a tmpfs" mount -t tmpfs tmpfs "$1"
need "overlay file systems" sh -c 'cd "$0" && mkdir low up work all && mount -t overlay -o \
lowerdir=low,upperdir=up,workdir=work overlay all' "$1"
"""


def check_root() -> None:
    """Raise `NotPossibleHereError` if this is not root on Linux."""
    if sys.platform != "linux" or os.geteuid() != 0:
        raise NotPossibleHereError("The test clusters need root on Linux: they make namespaces, mounts and cgroups.")


def check() -> None:
    """Raise `NotPossibleHereError` if this is no machine for the clusters, for a reason no package can mend."""
    check_root()
    system = _os_release()
    if system.get("ID") != "debian" or shutil.which("apt-get") is None:
        found = system.get("PRETTY_NAME", "an unknown system")
        raise NotPossibleHereError(f"The test clusters need Debian, for its container packages; this is {found}.")
    available = _available_memory()
    if available < _MEMORY_BYTES:
        raise NotPossibleHereError(
            f"The test clusters need {_MEMORY_BYTES / 2**30:.0f} GiB of free memory; here are {available / 2**30:.1f}."
        )
    missing = [controller for controller in _CGROUP_CONTROLLERS if controller not in _controllers()]
    if missing:
        raise NotPossibleHereError(
            f"The kernel offers no cgroup controller {', '.join(missing)} below /sys/fs/cgroup; containers need it."
        )


def check_kernel() -> None:
    """Raise `NotPossibleHereError` if the kernel lacks what a node needs; asks it by trying, and leaves nothing."""
    trial = CACHE / "trial"
    trial.mkdir(parents=True, exist_ok=True)
    namespaces = ["unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "--propagation", "private"]
    done = subprocess.run(
        [*namespaces, "sh", "-c", _TRIAL, "trial", str(trial)], capture_output=True, text=True, check=False
    )
    trial.rmdir()
    if done.returncode:
        lacks = done.stdout.strip() or f"mount, network and process namespaces ({done.stderr.strip()})"
        raise NotPossibleHereError(f"The kernel, or the container this runs in, does not allow {lacks}.")


def cni_plugins() -> Path:
    """The directory of the network plugins."""
    for directory in _CNI_DIRECTORIES:
        if (directory / "bridge").exists():
            return directory
    raise NotPossibleHereError(f"There are no CNI plugins in {' or '.join(map(str, _CNI_DIRECTORIES))}.")


def go() -> str:
    """The Go compiler.

    Raises:
        NotPossibleHereError: there is none, or it is too old.
    """
    needed = ".".join(map(str, _GO_VERSION))
    program = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if program is None:
        raise NotPossibleHereError(f"Kubernetes is built with Go {needed} or newer; there is no `go` on PATH.")
    said = subprocess.run([program, "env", "GOVERSION"], capture_output=True, text=True, check=False).stdout.strip()
    version = re.match(r"go(\d+)\.(\d+)", said)
    if version is None or (int(version[1]), int(version[2])) < _GO_VERSION:
        raise NotPossibleHereError(f"Kubernetes is built with Go {needed} or newer; {program} is {said or 'unknown'}.")
    return program


def install_packages(say: Callable[[str], None]) -> None:
    """Install what is missing, without letting a package start a service.

    Raises:
        NotPossibleHereError: a package cannot be had.
    """
    missing = [package for program, package in _PACKAGES.items() if shutil.which(program) is None]
    if not any((directory / "bridge").exists() for directory in _CNI_DIRECTORIES):
        missing.append(_CNI_PACKAGE)
    if not missing:
        return
    install(missing, say)
    if "containerd" in missing:
        # It would be started by the next boot; nothing but these clusters asked for it.
        subprocess.run(["systemctl", "disable", _SERVICE], capture_output=True, check=False)


def install(packages: Sequence[str], say: Callable[[str], None]) -> None:
    """Install Debian packages, without letting one start a service.

    Raises:
        NotPossibleHereError: one cannot be had.
    """
    say(f"installing {', '.join(packages)}")
    _apt("update", "--quiet")
    with services_kept_off():
        _apt("install", "--quiet", "--yes", "--no-install-recommends", *packages)


def _apt(*arguments: str) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(["apt-get", *arguments], capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-1000:]
        raise NotPossibleHereError(f"`apt-get {' '.join(arguments)}` failed: {said}")


@contextlib.contextmanager
def services_kept_off() -> Iterator[None]:
    """Let no package that is installed meanwhile start a service."""
    if _POLICY.exists():
        # Someone decides already which services packages may start. What that lets through is stopped below.
        yield
    else:
        _POLICY.write_text("#!/bin/sh\nexit 101\n")
        _POLICY.chmod(0o755)
        try:
            yield
        finally:
            _POLICY.unlink()


def _os_release() -> dict[str, str]:
    try:
        lines = Path("/etc/os-release").read_text().splitlines()
    except FileNotFoundError:
        return {}
    return {key: value.strip('"') for key, _, value in (line.partition("=") for line in lines)}


def _available_memory() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def _controllers() -> set[str]:
    root = Path("/sys/fs/cgroup")
    unified = root / "cgroup.controllers"
    if unified.exists():
        return set(unified.read_text().split())
    return {path.name for path in root.iterdir()} | {part for path in root.iterdir() for part in path.name.split(",")}
