"""The kernel's own directories of a container: /dev, /proc and /sys."""

from __future__ import annotations

import os
from typing import Final

from . import syscalls
from .rootfs import make_point

_DEVICES: Final = ("full", "null", "random", "tty", "urandom", "zero")
_LINKS: Final = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
)
# Switches of the whole machine: a container that runs as root could turn them.
_GUARDED: Final = ("bus", "fs", "irq", "sys", "sysrq-trigger")
_QUIET: Final = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC


def mount_proc(target: str) -> None:
    """Mounts a /proc that shows the processes of this process's PID namespace and no others."""
    os.makedirs(target, exist_ok=True)
    syscalls.mount("proc", target, "proc", _QUIET)


def guard_proc(target: str) -> None:
    """Makes the machine's switches in a mounted /proc read-only."""
    for name in _GUARDED:
        path = f"{target}/{name}"
        if os.path.exists(path):
            syscalls.bind(path, path)
            syscalls.read_only(path)


def mount_sys(target: str) -> None:
    """Shows the host's /sys, read-only."""
    os.makedirs(target, exist_ok=True)
    syscalls.bind("/sys", target, recursive=True)
    syscalls.read_only(target)


def mount_dev(target: str) -> None:
    """Mounts a /dev with the devices every container has, terminals and shared memory of its own."""
    os.makedirs(target, exist_ok=True)
    syscalls.mount("tmpfs", target, "tmpfs", syscalls.MS_NOSUID, "mode=0755,size=64k")
    for name in _DEVICES:
        if os.path.exists(f"/dev/{name}"):
            make_point(f"{target}/{name}", is_file=True)
            syscalls.bind(f"/dev/{name}", f"{target}/{name}")
    for name, leads_to in _LINKS:
        os.symlink(leads_to, f"{target}/{name}")
    os.mkdir(f"{target}/pts")
    terminals = "newinstance,ptmxmode=0666,mode=0620"
    syscalls.mount("devpts", f"{target}/pts", "devpts", syscalls.MS_NOSUID | syscalls.MS_NOEXEC, terminals)
    os.mkdir(f"{target}/shm")
    syscalls.mount("tmpfs", f"{target}/shm", "tmpfs", _QUIET, "mode=1777")
