"""What the runtime is asked to run, and how that travels to the process that runs it."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class User:
    """Whom a container's processes run as, by the container's own numbers.

    Attributes:
        uid: user id.
        gid: group id.
        groups: supplementary group ids; given where the node runs as root, nobody else can give any.
    """

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()


@dataclass(frozen=True)
class VolumeContent:
    """Files of a secret, configMap or the like; they exist in the container's memory only.

    Attributes:
        files: content and mode by path relative to the volume.
        version: names the directory of this version in the volume, as a kubelet's time stamp does.
    """

    files: Mapping[str, tuple[bytes, int]]
    version: str = "1"

    def encoded(self) -> dict[str, Any]:
        """As JSON."""
        files = {path: (base64.b64encode(data).decode("ascii"), mode) for path, (data, mode) in self.files.items()}
        return {"version": self.version, "files": files}


@dataclass(frozen=True)
class Mount:
    """One volume at one place of a container.

    Attributes:
        target: absolute path in the container.
        source: file or directory on the host; unused with `content`.
        content: files to be made in the container.
        sub_path: the part of the volume that is mounted; all of it when empty.
        read_only: whether the container may not write there.
    """

    target: str
    source: str = ""
    content: VolumeContent | None = None
    sub_path: str = ""
    read_only: bool = False

    def encoded(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "target": self.target,
            "source": self.source,
            "content": self.content.encoded() if self.content else None,
            "sub_path": self.sub_path,
            "read_only": self.read_only,
        }


@dataclass(frozen=True)
class Command:
    """A command and what it is run with.

    Attributes:
        argv: the command and its arguments; never empty.
        env: its whole environment.
        cwd: its working directory, made if there is none.
        user: whom it runs as.
        tty: whether its stdin, stdout and stderr are a terminal.
    """

    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    cwd: str = "/"
    user: User = User()
    tty: bool = False

    def encoded(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "argv": list(self.argv),
            "env": dict(self.env),
            "cwd": self.cwd,
            "uid": self.user.uid,
            "gid": self.user.gid,
            "groups": list(self.user.groups),
            "tty": self.tty,
            "joined": False,
        }


@dataclass(frozen=True)
class ContainerSpec:
    """A container: a command in a file system and namespaces of its own.

    Attributes:
        command: its first process.
        hostname: the host name it sees.
        mounts: volumes.
        files: text files written into it, by absolute path.
        copies: files and directories of the host that an image brings, as (host path, path in the container).
    """

    command: Command
    hostname: str
    mounts: Sequence[Mount] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    copies: Sequence[tuple[str, str]] = ()

    def encoded(self) -> dict[str, Any]:
        """As JSON."""
        return {
            **self.command.encoded(),
            "hostname": self.hostname,
            "mounts": [mount.encoded() for mount in self.mounts],
            "files": dict(self.files),
            "copies": [{"source": source, "target": target} for source, target in self.copies],
        }


def encode(spec: ContainerSpec | Command) -> bytes:
    """A spec as the process that runs it reads it."""
    return json.dumps(spec.encoded(), separators=(",", ":")).encode()
