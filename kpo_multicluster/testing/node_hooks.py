"""Lifecycle hooks: commands that a node runs in a container after its start and before its stop."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kpo_multicluster.testing.runtime.local import Container, LocalRuntime
from kpo_multicluster.testing.runtime.processes import StartError
from kpo_multicluster.testing.runtime.spec import Command


class HookError(Exception):
    """A hook failed, or is of a kind that is not served (`httpGet`, `tcpSocket`)."""


async def run_hook(runtime: LocalRuntime, container: Container, command: Command, handler: Mapping[str, Any]) -> None:
    """Runs a hook to its end.

    Args:
        runtime: of the node.
        container: the container.
        command: the container's own, for its user, directory and variables.
        handler: the hook, a core/v1 `LifecycleHandler`.

    Raises:
        HookError: it failed.
    """
    if handler.get("sleep") is not None:
        await asyncio.sleep(float(handler["sleep"].get("seconds") or 0))
        return
    argv = (handler.get("exec") or {}).get("command")
    if not argv:
        raise HookError(f"hooks of kind {', '.join(handler)} are not served by the embedded cluster")
    try:
        session = await runtime.exec(container, replace(command, argv=argv, tty=False), stdin=False)
    except StartError as error:
        raise HookError(str(error)) from error
    try:
        async for _ in session.read():
            pass
        code = await session.wait()
    finally:
        await session.kill()
        session.discard()
    if code:
        raise HookError(f"command terminated with exit code {code}")
