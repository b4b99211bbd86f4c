"""From a container's manifest to what the runtime is to run."""

from __future__ import annotations

import pwd
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kpo_multicluster.testing.node_context import ConfigError, PodContext
from kpo_multicluster.testing.node_env import command_line, environment
from kpo_multicluster.testing.node_images import ImageSource, default_search_path
from kpo_multicluster.testing.node_volumes import mounts_of
from kpo_multicluster.testing.runtime.spec import Command, ContainerSpec, Mount, User, VolumeContent

_HOSTS: Final = Path("/etc/hosts")
_MESSAGE_PATH: Final = "/dev/termination-log"
_MESSAGE_BYTES: Final = 4096


class CreateError(Exception):
    """The runtime would refuse to create the container (`CreateContainerError`); the text is its own."""


@dataclass(frozen=True)
class Launch:
    """One run of a container, ready to start.

    Attributes:
        spec: for the runtime.
        message_file: where the container leaves its termination message.
    """

    spec: ContainerSpec
    message_file: Path

    def message(self) -> str:
        """The termination message, its last 4 KiB."""
        try:
            data = self.message_file.read_bytes()
        except OSError as error:
            return f"Error on reading termination log {self.message_file}: {error.strerror}"
        return data[-_MESSAGE_BYTES:].decode(errors="replace")


def make_launch(
    context: PodContext,
    container: Mapping[str, Any],
    image: ImageSource,
    volumes: Mapping[str, Path | VolumeContent],
    message_file: Path,
) -> Launch:
    """Puts together what a container runs, as whom, with which variables and volumes.

    Raises:
        ConfigError: something it refers to is missing, or its user is not allowed.
        CreateError: it has nothing to run.
    """
    user = _user(context, container, image)
    own = environment(context, container)
    argv = command_line(container, image.entrypoint, image.command, own)
    if not argv:
        raise CreateError("failed to generate container spec: failed to generate spec: no command specified")
    message_file.touch()
    message_file.chmod(0o666)
    mounts = mounts_of(container, volumes, own)
    mounts.append(Mount(container.get("terminationMessagePath") or _MESSAGE_PATH, str(message_file)))
    tty = bool(container.get("tty"))
    variables = {
        "PATH": default_search_path(),
        "HOSTNAME": context.hostname,
        **({"TERM": "xterm"} if tty else {}),
        **image.env,
        **own,
    }
    variables.setdefault("HOME", _home(user.uid))
    command = Command(
        argv=argv,
        env=variables,
        cwd=container.get("workingDir") or image.working_dir or "/",
        user=user,
        tty=tty,
    )
    files = {"/etc/hostname": f"{context.hostname}\n", "/etc/hosts": _hosts(context)}
    spec = ContainerSpec(command=command, hostname=context.hostname, mounts=mounts, files=files, copies=image.copies)
    return Launch(spec, message_file)


def _user(context: PodContext, container: Mapping[str, Any], image: ImageSource) -> User:
    pod_level = context.spec.get("securityContext") or {}
    own = {**pod_level, **(container.get("securityContext") or {})}
    uid, gid = own.get("runAsUser"), own.get("runAsGroup")
    image_uid, _, image_gid = image.user.partition(":")
    if own.get("runAsNonRoot"):
        _verify_non_root(context, container, uid, image_uid)
    if uid is None:
        uid = _number(image_uid)
        gid = _number(image_gid) if gid is None else gid
    groups = [int(group) for group in pod_level.get("supplementalGroups") or []]
    if pod_level.get("fsGroup") is not None:
        groups.append(int(pod_level["fsGroup"]))
    return User(int(uid), int(gid or 0), tuple(groups))


def _verify_non_root(context: PodContext, container: Mapping[str, Any], uid: int | None, image_uid: str) -> None:
    where = f'(pod: "{context.label}", container: {container["name"]})'
    if uid is not None:
        if uid == 0:
            raise ConfigError(f"container's runAsUser breaks non-root policy {where}")
    elif image_uid and not image_uid.isdigit():
        raise ConfigError(
            f"container has runAsNonRoot and image has non-numeric user ({image_uid}), cannot verify user is non-root "
            f"{where}"
        )
    elif not _number(image_uid):
        raise ConfigError(f"container has runAsNonRoot and image will run as root {where}")


def _number(text: str) -> int:
    if text and not text.isdigit():
        try:
            return pwd.getpwnam(text).pw_uid
        except KeyError:
            raise ConfigError(f"unable to find user {text}: no matching entries in passwd file") from None
    return int(text or 0)


def _home(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_dir
    except KeyError:
        return "/"


def _hosts(context: PodContext) -> str:
    # The pod shares the machine's network, so it gets its names as a pod with `hostNetwork` does; its own come first.
    lines = [f"{context.ip}\t{context.hostname}"]
    for alias in context.spec.get("hostAliases") or []:
        lines.append("\t".join((alias["ip"], *(alias.get("hostnames") or ()))))
    try:
        inherited = _HOSTS.read_text(errors="replace")
    except OSError:
        inherited = "127.0.0.1\tlocalhost\n"
    return "\n".join(lines) + "\n" + inherited
