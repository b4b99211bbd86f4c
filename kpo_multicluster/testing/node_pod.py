"""One pod on a node: what starts when, what ends it, and what is left to tell."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from kpo_multicluster.testing.interfaces import ExecSession, LogOptions
from kpo_multicluster.testing.node_container import ContainerRunner
from kpo_multicluster.testing.node_context import PodContext
from kpo_multicluster.testing.node_scope import PodScope
from kpo_multicluster.testing.node_status import ContainerRecord
from kpo_multicluster.testing.node_volumes import prepare, unsupported
from kpo_multicluster.testing.runtime.log_reader import read_log, since_seconds_of
from kpo_multicluster.testing.runtime.logs import ContainerLog
from kpo_multicluster.testing.runtime.processes import StartError
from kpo_multicluster.testing.runtime.spec import Command

_logger = logging.getLogger(__name__)

_DEADLINE_MESSAGE: Final = "Pod was active on the node longer than the specified deadline"
_WAITING_TEXTS: Final = {
    "ErrImagePull": "image can't be pulled",
    "ImagePullBackOff": "trying and failing to pull image",
}


class PodWorker:
    """Runs one pod from its binding to its removal.

    Args:
        context: the pod and its node.
        directory: the pod's own; made when it begins.
    """

    def __init__(self, context: PodContext, directory: Path) -> None:
        init_specs: Sequence[dict[str, Any]] = context.spec.get("initContainers") or []
        main_specs: Sequence[dict[str, Any]] = context.spec["containers"]
        waiting = "PodInitializing" if init_specs else "ContainerCreating"
        records = [_record(spec, waiting, init=True) for spec in init_specs]
        records += [_record(spec, waiting, init=False) for spec in main_specs]
        self._context = context
        self._scope = PodScope(context, directory, records)
        everyone = [
            ContainerRunner(self._scope, spec, record)
            for spec, record in zip((*init_specs, *main_specs), records, strict=True)
        ]
        self._inits = everyone[: len(init_specs)]
        self._mains = everyone[len(init_specs) :]
        self._sidecars: list[tuple[ContainerRunner, asyncio.Task[None]]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._main_task: asyncio.Task[None] | None = None
        self._deadline: asyncio.Task[None] | None = None
        self._deadline_seconds = context.spec.get("activeDeadlineSeconds")

    def begin(self) -> None:
        """Starts to run the pod; returns at once."""
        self._main_task = self._spawn(self._run_guarded())

    async def update(self, pod: Mapping[str, Any]) -> None:
        """Takes on a changed manifest: its generation and its `activeDeadlineSeconds`."""
        seconds = pod["spec"].get("activeDeadlineSeconds")
        if seconds != self._deadline_seconds:
            self._deadline_seconds = seconds
            self._watch_deadline()
        self._scope.generation = pod["metadata"].get("generation")
        await self._scope.publish()

    async def stop(self, grace_seconds: float) -> None:
        """Stops all that runs; a second call with a shorter grace period shortens the first one's."""
        deadline = asyncio.get_running_loop().time() + grace_seconds
        self._scope.stopping.set()
        self._scope.ending = True
        sidecars = [runner for runner in self._inits if runner.record.sidecar]
        others = [runner for runner in (*self._inits, *self._mains) if not runner.record.sidecar]
        stops = [runner.kill(deadline) for runner in others]
        # The last sidecar ends first, and all of them after the containers that they serve.
        stops += [runner.kill(deadline, (*others, *sidecars[at + 1 :])) for at, runner in enumerate(sidecars)]
        await asyncio.gather(*stops)
        if self._main_task is not None:
            await asyncio.wait([self._main_task])

    async def remove(self) -> None:
        """Removes what the pod left on this machine."""
        await self._context.node.runtime.remove_tree(self._scope.directory)

    async def close(self) -> None:
        """Gives up on the pod, without another word to the server."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def read_log(self, name: str, options: LogOptions) -> AsyncIterator[bytes]:
        """A container's log.

        Raises:
            LookupError: there is none, in a kubelet's words.
            ValueError: `since_time` is no time.
        """
        if options.since_time is not None:
            since_seconds_of(options.since_time)
        runner = self._runner(name)
        if runner is None:
            raise LookupError(f'container "{name}" in pod "{self._context.name}" is not available')
        return read_log(self._log(runner, previous=options.previous), options)

    async def exec(self, name: str, argv: Sequence[str], *, stdin: bool, tty: bool) -> ExecSession:
        """Runs a command in a running container.

        Raises:
            LookupError: it does not run.
            OSError: the command cannot be started; errno and text are the runtime's.
        """
        runner = self._runner(name)
        container = runner.running if runner is not None else None
        if runner is None or container is None or runner.launch is None:
            raise LookupError(f'container not found ("{name}")')
        own = runner.launch.spec.command
        env = {**own.env, "TERM": own.env.get("TERM", "xterm")} if tty else own.env
        command = Command(argv=tuple(argv), env=env, cwd=own.cwd, user=own.user, tty=tty)
        try:
            return await self._context.node.runtime.exec(container, command, stdin=stdin)
        except StartError as error:
            if error.number == errno.ESRCH:
                raise LookupError(f'container not found ("{name}")') from error
            reason = str(error).removeprefix(f"exec: {json.dumps(argv[0], ensure_ascii=False)}: ")
            raise OSError(error.number or errno.EINVAL, reason, argv[0]) from error

    async def _run_guarded(self) -> None:
        try:
            await self._run()
        except Exception:
            _logger.exception("The embedded node failed to run pod %s", self._context.label)
            self._scope.fail("NodeError", "the embedded node failed to run this pod; its log says more")
            self._scope.stopping.set()
            now = asyncio.get_running_loop().time()
            await asyncio.gather(*(runner.kill(now) for runner in (*self._inits, *self._mains)))
        await self._stop_sidecars()
        if self._deadline is not None:
            self._deadline.cancel()
        self._scope.over = True
        await self._scope.publish()
        await self._context.node.runtime.remove_tree(self._scope.volume_directory)

    async def _run(self) -> None:
        refusal = unsupported(self._context.spec)
        if refusal:
            self._scope.fail("VolumeNotSupported", refusal)
            await self._scope.event("FailedMount", refusal, kind="Warning")
            return
        self._scope.make_directories()
        await self._scope.publish()
        self._watch_deadline()
        self._scope.has_ip = await self._set_up_volumes()
        if self._scope.has_ip and await self._initialize():
            await asyncio.gather(*(runner.supervise() for runner in self._mains))
        for runner in self._mains:
            runner.record.settle()

    async def _set_up_volumes(self) -> bool:
        told: set[str] = set()
        while True:
            self._scope.volumes, problems = prepare(self._context, self._scope.volume_directory)
            if not problems:
                return True
            for problem in problems:
                if problem not in told:
                    told.add(problem)
                    await self._scope.event("FailedMount", problem, kind="Warning")
            if await self._scope.pause(self._context.node.settings.retry_seconds):
                return False

    async def _initialize(self) -> bool:
        """Runs the init containers in order; False when the others are not to start."""
        for runner in self._inits:
            if self._scope.stopping.is_set():
                return False
            if runner.record.sidecar:
                task = self._spawn(runner.supervise())
                self._sidecars.append((runner, task))
                up = asyncio.create_task(runner.up.wait())
                await asyncio.wait((up, task), return_when=asyncio.FIRST_COMPLETED)
                up.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await up
            else:
                await runner.supervise()
                if runner.record.exit_code != 0:
                    return False
        return not self._scope.stopping.is_set()

    async def _stop_sidecars(self) -> None:
        """Ends the sidecars, the last one first; they outlive the others and decide nothing."""
        self._scope.stopping.set()
        deadline = asyncio.get_running_loop().time() + self._grace_seconds
        for runner, task in reversed(self._sidecars):
            await runner.kill(deadline)
            await task

    def _watch_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        if self._deadline_seconds is not None:
            self._deadline = self._spawn(self._end_at_deadline(float(self._deadline_seconds)))

    async def _end_at_deadline(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, self._scope.started + seconds - time.time()))
        if self._main_task is None or self._main_task.done() or self._scope.stopping.is_set():
            return
        self._scope.fail("DeadlineExceeded", _DEADLINE_MESSAGE)
        await self._scope.publish()
        await self._scope.event("DeadlineExceeded", _DEADLINE_MESSAGE)
        # Not in this task, which ends with the pod's own.
        self._spawn(self.stop(self._grace_seconds))

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _runner(self, name: str) -> ContainerRunner | None:
        return next((runner for runner in (*self._mains, *self._inits) if runner.name == name), None)

    def _log(self, runner: ContainerRunner, *, previous: bool) -> ContainerLog:
        record, pod = runner.record, self._context.name
        last = record.last_state.get("terminated")
        if previous:
            log = runner.log_of(last["containerID"]) if last else None
            if log is None:
                raise LookupError(f'previous terminated container "{runner.name}" in pod "{pod}" not found')
            return log
        waiting = record.state.get("waiting")
        log = runner.log_of(last["containerID"] if waiting and last else record.container_id)
        if log is None or (waiting and not last):
            reason = waiting["reason"] if waiting else "no logs yet"
            text = _WAITING_TEXTS.get(reason, reason)
            raise LookupError(f'container "{runner.name}" in pod "{pod}" is waiting to start: {text}')
        return log

    @property
    def _grace_seconds(self) -> float:
        return float(self._context.spec.get("terminationGracePeriodSeconds") or 0)


def _record(spec: dict[str, Any], waiting: str, *, init: bool) -> ContainerRecord:
    return ContainerRecord(
        name=spec["name"],
        image=spec.get("image") or "",
        init=init,
        sidecar=init and spec.get("restartPolicy") == "Always",
        resources=spec.get("resources") or {},
        mounts=spec.get("volumeMounts") or (),
        state={"waiting": {"reason": waiting}},
    )
