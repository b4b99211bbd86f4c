"""A container runtime with short words for what its tests do."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from kpo_multicluster.testing.interfaces import LogOptions
from kpo_multicluster.testing.runtime.local import Container, LocalRuntime
from kpo_multicluster.testing.runtime.log_reader import read_log
from kpo_multicluster.testing.runtime.logs import ContainerLog
from kpo_multicluster.testing.runtime.processes import Session
from kpo_multicluster.testing.runtime.spec import Command, ContainerSpec, Mount, User

from .node_cases import Output

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Machine:
    """A runtime with short words for what the tests do."""

    def __init__(self, runtime: LocalRuntime) -> None:
        self.runtime = runtime

    def start(
        self,
        *argv: str,
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
        user: User = User(),  # noqa: B008
        tty: bool = False,
        mounts: tuple[Mount, ...] = (),
        copies: tuple[tuple[str, str], ...] = (),
    ) -> Container:
        command = Command(argv, {"PATH": PATH, **(env or {})}, cwd, user, tty)
        spec = ContainerSpec(command, "a-pod", mounts, {"/etc/hostname": "a-pod\n"}, copies)
        log = ContainerLog(self.runtime.directory / "pods", secrets.token_hex(8))
        return self.runtime.run(spec, log)

    async def run(self, *argv: str, **options: object) -> tuple[int, str]:
        container = self.start(*argv, **options)  # type: ignore[arg-type]
        await container.process.started
        code = await container.ended
        return code, await text_of(container)

    async def sh(self, script: str, **options: object) -> str:
        code, text = await self.run("sh", "-c", script, **options)
        assert code == 0, text
        return text

    async def exec(
        self, container: Container, *argv: str, stdin: bytes | None = None, tty: bool = False, cwd: str = "/"
    ) -> Output:
        command = Command(argv, {"PATH": PATH}, cwd, tty=tty)
        session = await self.runtime.exec(container, command, stdin=stdin is not None)
        if stdin is not None:
            output, _ = await asyncio.gather(Output.of(session), feed(session, stdin))
            return output
        return await Output.of(session)

    def volume(self) -> Path:
        path = self.runtime.directory / "pods" / secrets.token_hex(4)
        path.mkdir()
        path.chmod(0o777)
        return path


async def feed(session: Session, data: bytes) -> None:
    await session.write_stdin(data)
    await session.close_stdin()


async def text_of(container: Container) -> str:
    return b"".join([batch async for batch in read_log(container.log, LogOptions())]).decode()


@contextlib.asynccontextmanager
async def started(*, overlay: bool = True) -> AsyncIterator[Machine]:
    runtime = LocalRuntime(overlay=overlay)
    await runtime.start()
    try:
        yield Machine(runtime)
    finally:
        await runtime.close()


def processes_with(marker: str) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if marker.encode() in (entry / "cmdline").read_bytes():
                    found.append(entry.name)
    return found


async def log_has(container: Container, text: str) -> None:
    said = b""
    batches = read_log(container.log, LogOptions(follow=True))
    async for batch in batches:
        said += batch
        if text.encode() in said:
            break
    assert text.encode() in said
    await batches.aclose()  # type: ignore[attr-defined]


def keeper_of(runtime: LocalRuntime) -> int:
    keeper = runtime._keeper
    assert keeper is not None
    return keeper.pid
