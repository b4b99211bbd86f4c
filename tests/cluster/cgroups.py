"""The cgroups below which a node's kubelet makes those of its pods. They outlive the processes in them."""

from __future__ import annotations

import os
import time
from pathlib import Path

from .errors import ClusterError

_ROOT = Path("/sys/fs/cgroup")
_TIMEOUT_SECONDS = 30.0


def make(name: str) -> None:
    """Make a cgroup in every hierarchy, with all that the machine's own root has to give.

    Args:
        name: relative to the root of the hierarchy; may have several parts.
    """
    unified = (_ROOT / "cgroup.controllers").exists()
    roots = [_ROOT] if unified else [path for path in _ROOT.iterdir() if (path / "cgroup.procs").exists()]
    for root in roots:
        parent = root
        for part in Path(name).parts:
            if unified:
                controllers = (parent / "cgroup.controllers").read_text().split()
                (parent / "cgroup.subtree_control").write_text(" ".join(f"+{each}" for each in controllers))
            made = parent / part
            made.mkdir(exist_ok=True)
            # The older cpuset controller starts a new group without any processor or memory.
            for setting in ("cpuset.cpus", "cpuset.mems") if not unified and root.name == "cpuset" else ():
                (made / setting).write_text((parent / setting).read_text())
            parent = made


def hierarchies(name: str) -> list[Path]:
    """Where a cgroup exists: once under the unified hierarchy, once for each controller under the older ones."""
    return [path for path in (_ROOT / name, *_ROOT.glob(f"*/{name}")) if path.is_dir()]


def remove(name: str) -> None:
    """Remove a cgroup and all below it, from every hierarchy.

    Args:
        name: relative to the root of the hierarchy.

    Raises:
        ClusterError: a process is still in one.
    """
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while remaining := hierarchies(name):
        failures = [failure for path in remaining for failure in _remove_tree(path)]
        if failures and time.monotonic() > deadline:
            raise ClusterError(f"Cgroups cannot be removed: {failures[0]}")
        if failures:
            # The kernel frees the last process of a cgroup a moment after the process is gone.
            time.sleep(0.02)


def _remove_tree(top: Path) -> list[OSError]:
    failures = []
    for directory, _, _ in os.walk(top, topdown=False):
        try:
            Path(directory).rmdir()
        except FileNotFoundError:
            continue
        except OSError as error:
            failures.append(error)
    return failures
