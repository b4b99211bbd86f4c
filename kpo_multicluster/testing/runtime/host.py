"""Why this machine does not let containers run, and what to change."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from kpo_multicluster.errors import ConfigurationError

_REFUSED: Final = (errno.EPERM, errno.EACCES)
_SYSCTLS: Final = Path("/proc/sys")


def explain(failures: Sequence[dict[str, Any]], sysctls: Path = _SYSCTLS) -> ConfigurationError:
    """The error for a set-up that failed in every way tried.

    Args:
        failures: for each way its `mode`, the `stage` refused and the `errno`.
        sysctls: where the kernel's settings are read.
    """
    first = failures[0]
    number = int(first["errno"])
    what = f"{first['stage']}: {os.strerror(number) if number else 'unexpected failure'}"
    cause = _cause(first["stage"], number, sysctls)
    return ConfigurationError(
        f"The embedded cluster cannot run containers on this machine: the kernel refused the {what}. {cause} "
        "Running as root on a machine (not in a restricted container) works as well."
    )


def not_linux(platform: str) -> ConfigurationError:
    """The error for a system without namespaces."""
    return ConfigurationError(
        f"The embedded cluster runs containers as processes in Linux namespaces, and this system is {platform!r}. "
        "Run it on Linux: a virtual machine or WSL 2 will do."
    )


def not_started(detail: str) -> ConfigurationError:
    """The error for a warden that ended before it could say why."""
    return ConfigurationError(
        "The embedded cluster could not start the process that holds its containers"
        + (f": {detail.strip()[-1000:]}" if detail.strip() else ": it ended without a word.")
        + " Check that this Python interpreter can run `python -I -S -c 'import ctypes'`."
    )


def _cause(stage: str, number: int, sysctls: Path) -> str:
    if _setting(sysctls, "user/max_user_namespaces") == "0":
        return _fix("user.max_user_namespaces is 0, which forbids user namespaces", "user.max_user_namespaces=15000")
    if _setting(sysctls, "kernel/unprivileged_userns_clone") == "0":
        return _fix("kernel.unprivileged_userns_clone is 0", "kernel.unprivileged_userns_clone=1")
    if _setting(sysctls, "kernel/apparmor_restrict_unprivileged_userns") == "1":
        name = "kernel.apparmor_restrict_unprivileged_userns"
        return _fix(f"{name} is 1, the default since Ubuntu 23.10", f"{name}=0")
    if number == errno.ENOSPC:
        limits = ", ".join(f"user.max_{kind}_namespaces" for kind in ("user", "mnt", "pid"))
        return f"A limit on namespaces is used up; raise one of {limits} (see `sysctl user`)."
    if stage == "proc" and number in _REFUSED:
        return (
            "Parts of /proc are masked, as container runtimes do. In Docker run with `--security-opt "
            "systempaths=unconfined` (or `--privileged`); in Kubernetes set `securityContext.procMount: Unmasked`."
        )
    if number in _REFUSED:
        return (
            "No kernel setting explains it, so a seccomp or security profile forbids it, as in a container. In Docker "
            "run with `--security-opt seccomp=unconfined --security-opt apparmor=unconfined "
            "--security-opt systempaths=unconfined` (or `--privileged`)."
        )
    return "Namespaces need a kernel built with CONFIG_USER_NS, CONFIG_PID_NS and CONFIG_NAMESPACES."


def _fix(cause: str, assignment: str) -> str:
    name = assignment.partition("=")[0].replace(".", "-").replace("_", "-")
    return (
        f"The setting {cause}. Allow it with: sudo sysctl -w {assignment} "
        f"(for good: put `{assignment}` into /etc/sysctl.d/{name}.conf)."
    )


def _setting(sysctls: Path, name: str) -> str:
    try:
        return (sysctls / name).read_text().strip()
    except OSError:
        return ""
