"""What the API server and a node of the embedded cluster ask of each other.

The server owns objects, the node owns processes. Everything here runs on the server's event loop.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

STDOUT: Final = 1
STDERR: Final = 2


@dataclass(frozen=True)
class LogOptions:
    """The query of `GET pods/NAME/log`, as core/v1 `PodLogOptions` defines it.

    Attributes:
        follow: keep the answer open until the container ends.
        timestamps: prefix each line with the RFC 3339 time (nanoseconds) at which it was written.
        since_time: RFC 3339; only lines from then on. Real kubelets compare whole seconds, inclusively.
        since_seconds: relative form of `since_time`.
        tail_lines: only that many last lines.
        limit_bytes: end the answer after that many bytes.
        previous: the log of the container's previous run.
    """

    follow: bool = False
    timestamps: bool = False
    since_time: str | None = None
    since_seconds: int | None = None
    tail_lines: int | None = None
    limit_bytes: int | None = None
    previous: bool = False


class ExecSession(Protocol):
    """A command running in a container."""

    def read(self) -> AsyncIterator[tuple[int, bytes]]:
        """Output as it comes, as (`STDOUT` or `STDERR`, bytes); ends once both are closed."""
        ...

    async def write_stdin(self, data: bytes) -> None:
        """Gives the command input; a command that closed its stdin takes it silently."""
        ...

    async def close_stdin(self) -> None:
        """Ends the command's input."""
        ...

    async def wait(self) -> int:
        """The exit code; 128 + N for a command ended by signal N."""
        ...

    async def kill(self) -> None:
        """Ends the command at once; harmless when it has ended."""
        ...


class NodeStore(Protocol):
    """What the server gives a node."""

    async def set_status(self, namespace: str, name: str, uid: str, status: dict[str, Any]) -> None:
        """Replaces a pod's status; ignored once the pod of that uid is gone."""
        ...

    async def remove(self, namespace: str, name: str, uid: str) -> None:
        """Removes a pod whose containers have stopped; ignored once the pod of that uid is gone."""
        ...

    async def record_event(
        self, pod: dict[str, Any], *, type: str, reason: str, message: str, field_path: str = ""
    ) -> None:
        """Records an event about a pod.

        Args:
            pod: the pod it is about.
            type: `Normal` or `Warning`.
            reason: machine-readable, such as `Started`.
            message: for people.
            field_path: the part of the pod concerned, such as `spec.containers{base}`.
        """
        ...

    def get(self, resource: str, namespace: str, name: str) -> dict[str, Any] | None:
        """A stored object of a plural resource name such as `secrets`; None when there is none."""
        ...


class Node(Protocol):
    """What a node gives the server."""

    @property
    def name(self) -> str:
        """The node's name, as pods carry it in `spec.nodeName`."""
        ...

    async def start(self) -> None:
        """Readies the node; raises a `ConfigurationError` when this machine cannot run one."""
        ...

    async def run_pod(self, pod: dict[str, Any]) -> None:
        """Begins to run a pod that was bound to this node; returns at once."""
        ...

    async def update_pod(self, pod: dict[str, Any]) -> None:
        """Takes on a changed spec of a pod that runs here; only `activeDeadlineSeconds` can matter to it."""
        ...

    async def stop_pod(self, pod: dict[str, Any], grace_seconds: float) -> None:
        """Ends a pod whose deletion began, then calls `NodeStore.remove`; returns at once.

        A later call with a shorter grace period shortens it.
        """
        ...

    def read_log(self, uid: str, container: str, options: LogOptions) -> AsyncIterator[bytes]:
        """A container's log.

        Raises:
            LookupError: there is no such log; the text is what a real server answers.
        """
        ...

    async def exec(self, uid: str, container: str, command: Sequence[str], *, stdin: bool, tty: bool) -> ExecSession:
        """Runs a command in a running container.

        Raises:
            LookupError: the pod or container does not run here; the text is what a real server answers.
            OSError: the command cannot be started.
        """
        ...

    async def close(self) -> None:
        """Ends every container and removes all that the node made on this machine."""
        ...
