"""One container of a pod: its starts, its end, its restarts, and how it is stopped."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import signal
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from kpo_multicluster.testing.apiserver.timestamps import to_seconds
from kpo_multicluster.testing.interfaces import LogOptions
from kpo_multicluster.testing.node_backoff import Backoff, duration
from kpo_multicluster.testing.node_context import ConfigError
from kpo_multicluster.testing.node_hooks import HookError, run_hook
from kpo_multicluster.testing.node_images import ImageSource, canonical_reference, find_image, name_error
from kpo_multicluster.testing.node_launch import CreateError, Launch, make_launch
from kpo_multicluster.testing.node_scope import PodScope
from kpo_multicluster.testing.node_status import NEVER_STARTED, ContainerRecord
from kpo_multicluster.testing.runtime.local import Container
from kpo_multicluster.testing.runtime.log_reader import read_log
from kpo_multicluster.testing.runtime.logs import ContainerLog
from kpo_multicluster.testing.runtime.processes import StartError

_logger = logging.getLogger(__name__)

# As kubelet and runtime word it together; the inner text is the runtime's.
_START_FAILURE: Final = (
    "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: "
    "unable to start container process: {}: unknown"
)
_START_FAILURE_CODE: Final = 128
_FALLBACK_LINES: Final = 80
_FALLBACK_BYTES: Final = 2048
_KEPT_LOGS: Final = 2


class ContainerRunner:
    """Runs one container for as long as the pod's restart policy wants it to run.

    Args:
        scope: the pod's.
        container: its part of the manifest.
        record: its status, which is kept here.
    """

    def __init__(self, scope: PodScope, container: Mapping[str, Any], record: ContainerRecord) -> None:
        settings = scope.context.node.settings
        self._scope = scope
        self._container = container
        self._backoff = Backoff(settings.backoff_seconds, settings.max_backoff_seconds)
        self._current: Container | None = None
        self._launch: Launch | None = None
        self._logs: dict[str, ContainerLog] = {}
        self._last_but_one: dict[str, Any] = {}
        self._finished = 0.0
        self._told = ""
        self._killing = False
        self.record = record
        self.up = asyncio.Event()

    @property
    def name(self) -> str:
        """The container's name."""
        return self.record.name

    @property
    def running(self) -> Container | None:
        """The container, if it runs."""
        return self._current if self._current is not None and self._current.running else None

    @property
    def launch(self) -> Launch | None:
        """How the newest run was started."""
        return self._launch

    async def supervise(self) -> None:
        """Starts the container, and again as the policy wants, until it has ended for good or the pod is stopped."""
        try:
            while await self._run_once() and self._wants_restart():
                if await self._wait_for_restart():
                    break
        finally:
            if self._scope.stopping.is_set():
                self._end_waiting()

    def log_of(self, container_id: str) -> ContainerLog | None:
        """The log of one of the last two runs."""
        return self._logs.get(container_id)

    async def kill(self, deadline: float, after: Sequence[ContainerRunner] = (), *, message: str | None = None) -> None:
        """Stops the container: preStop hook, SIGTERM, and SIGKILL at the deadline; returns once it has ended.

        Args:
            deadline: by the loop's clock.
            after: containers that are to end first, if they do before the deadline.
            message: of the event; default that the container is being stopped.
        """
        current = self._current
        if current is None or current.ended.done():
            return
        loop = asyncio.get_running_loop()
        first, self._killing = not self._killing, True
        with contextlib.suppress(StartError):
            await asyncio.shield(current.process.started)
        if first:
            text = message or f"Stopping container {self.name}"
            await self._scope.event("Killing", text, container=self.name)
            await self._pre_stop(current, deadline)
        for other in after:
            await other.wait_ended(max(0.0, deadline - loop.time()))
        if first:
            current.process.signal(signal.SIGTERM)
            deadline = max(deadline, loop.time() + self._scope.context.node.settings.minimum_grace_seconds)
        await self.wait_ended(max(0.0, deadline - loop.time()))
        current.process.kill()
        await asyncio.shield(current.ended)

    async def wait_ended(self, seconds: float) -> None:
        """Waits, no longer than this, for the present run to end."""
        if self._current is not None:
            await asyncio.wait((self._current.ended,), timeout=seconds)

    async def _run_once(self) -> bool:
        """One run from image to end; False when the pod was stopped before it began."""
        launch = await self._prepare()
        if launch is None:
            return False
        log = self._begin_run()
        self._launch, self._killing = launch, False
        current = self._current = self._scope.context.node.runtime.run(launch.spec, log)
        try:
            await asyncio.shield(current.process.started)
        except StartError as error:
            await asyncio.shield(current.ended)
            await self._start_failed(str(error))
            return True
        started = time.time()
        self.record.state = {"running": {"startedAt": to_seconds(started)}}
        self.record.ready = self.record.sidecar or not self.record.init
        self.record.started = True
        await self._scope.publish()
        await self._scope.event("Started", f"Started container {self.name}", container=self.name)
        self.up.set()
        hook = asyncio.create_task(self._post_start(current))
        try:
            code = await asyncio.shield(current.ended)
        finally:
            hook.cancel()
            await asyncio.gather(hook, return_exceptions=True)
        await self._ended(code, started)
        return True

    async def _prepare(self) -> Launch | None:
        """Everything before the start, again and again until it succeeds; None when the pod is stopped."""
        scope = self._scope
        while not scope.stopping.is_set():
            try:
                image = await self._image()
                if image is None:
                    return None
                file = scope.messages / f"{self.name}-{secrets.token_hex(4)}"
                launch = make_launch(scope.context, self._container, image, scope.volumes, file)
                await scope.event("Created", f"Created container: {self.name}", container=self.name)
            except ConfigError as error:
                await self._wait_as("CreateContainerConfigError", str(error))
            except CreateError as error:
                await self._wait_as("CreateContainerError", str(error))
            else:
                return None if scope.stopping.is_set() else launch
            if await scope.pause(scope.context.node.settings.retry_seconds):
                return None
        return None

    async def _image(self) -> ImageSource | None:
        """The image's source; waits for as long as it cannot be had, None when the pod is stopped meanwhile."""
        name = self.record.image
        waits = Backoff(self._scope.context.node.settings.backoff_seconds, 300)
        while True:
            problem = name_error(name)
            if problem:
                await self._wait_as("InvalidImageName", problem, event="InspectFailed")
            else:
                source = find_image(self._scope.context.node.images, name)
                if source is None or not source.pull_error:
                    await self._announce_image(declared=source is not None)
                    self.record.full_image = canonical_reference(name)
                    self.record.image_id = f"local://{self.record.full_image}"
                    return source or ImageSource()
                if await self._not_pulled(name, source.pull_error):
                    return None
            waits.started(time.time())
            if await self._scope.pause(waits.seconds):
                return None

    async def _not_pulled(self, name: str, error: str) -> bool:
        """Tells of an image that cannot be had; whether the pod is stopped meanwhile."""
        if self._container.get("imagePullPolicy") == "Never":
            text = f'Container image "{name}" is not present with pull policy of Never'
            await self._wait_as("ErrImageNeverPull", text, event="ErrImageNeverPull")
            return False
        await self._scope.event("Pulling", f'Pulling image "{name}"', container=self.name)
        failed = f'Failed to pull image "{name}": {error}'
        await self._scope.event("Failed", failed, kind="Warning", container=self.name)
        await self._wait_as("ErrImagePull", error, told="ErrImagePull")
        if await self._scope.pause(self._scope.context.node.settings.retry_seconds):
            return True
        back_off = f'Back-off pulling image "{name}"'
        await self._scope.event("BackOff", back_off, container=self.name)
        await self._wait_as("ImagePullBackOff", f"{back_off}: ErrImagePull: {error}", told="ImagePullBackOff")
        return False

    async def _announce_image(self, *, declared: bool) -> None:
        name = self.record.image
        if not declared:
            notice = f'Image "{name}" is not pulled: its command runs with the files of this machine'
            if name not in self._scope.context.node.undeclared:
                self._scope.context.node.undeclared.add(name)
                _logger.warning("%s (first in pod %s)", notice, self._scope.context.label)
            await self._scope.event("ImageNotPulled", notice, container=self.name)
        await self._scope.event("Pulled", f'Container image "{name}" already present on machine', container=self.name)

    def _begin_run(self) -> ContainerLog:
        record = self.record
        if record.container_id:
            record.restart_count += 1
        self._last_but_one = record.last_state
        if "terminated" in record.state:
            record.last_state = record.state
        max_bytes = self._scope.context.node.settings.log_max_bytes
        log = ContainerLog(self._scope.logs, f"{self.name}-{record.restart_count}", max_bytes=max_bytes)
        record.container_id = f"local://{secrets.token_hex(32)}"
        self._logs[record.container_id] = log
        for old in tuple(self._logs)[:-_KEPT_LOGS]:
            self._logs.pop(old).remove()
        return log

    async def _start_failed(self, text: str) -> None:
        message = _START_FAILURE.format(text)
        self._set_ended(_START_FAILURE_CODE, "StartError", message, NEVER_STARTED)
        await self._scope.event("Failed", f"Error: {message}", kind="Warning", container=self.name)
        if self._wants_restart():
            self._set_waiting("RunContainerError", message)
        await self._scope.publish()

    async def _ended(self, code: int, started: float) -> None:
        assert self._launch is not None
        message = self._launch.message()
        if not message and code and self._container.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            log = self._logs[self.record.container_id]
            tail = [batch async for batch in read_log(log, LogOptions(tail_lines=_FALLBACK_LINES))]
            message = b"".join(tail)[-_FALLBACK_BYTES:].decode(errors="replace")
        self._set_ended(code, "Error" if code else "Completed", message, to_seconds(started))
        await self._scope.publish()

    def _set_ended(self, code: int, reason: str, message: str, started_at: str) -> None:
        self._finished = time.time()
        ended = {
            "exitCode": code,
            "reason": reason,
            **({"message": message} if message else {}),
            "startedAt": started_at,
            "finishedAt": to_seconds(self._finished),
            "containerID": self.record.container_id,
        }
        self.record.state = {"terminated": ended}
        self.record.ready = self.record.init and not self.record.sidecar and code == 0
        self.record.started = False

    def _wants_restart(self) -> bool:
        if self._scope.stopping.is_set():
            return False
        if self.record.sidecar:
            return True
        policy = self._scope.context.spec.get("restartPolicy") or "Always"
        if policy == "Never":
            return False
        failed = self.record.exit_code != 0
        return failed or (policy == "Always" and not self.record.init)

    async def _wait_for_restart(self) -> bool:
        """Waits as the back-off says; True when the pod was stopped meanwhile."""
        wait = self._backoff.remaining(self._finished, time.time())
        if wait:
            label = self._scope.context.label
            message = f"Back-off restarting failed container {self.name} in pod {label}"
            await self._scope.event("BackOff", message, kind="Warning", container=self.name)
            text = f"back-off {duration(self._backoff.seconds)} restarting failed container={self.name} pod={label}"
            self._set_waiting("CrashLoopBackOff", text)
            await self._scope.publish()
            if await self._scope.pause(wait):
                return True
        self._backoff.started(time.time())
        return False

    def _set_waiting(self, reason: str, message: str) -> None:
        if "terminated" in self.record.state:
            self._last_but_one = self.record.last_state
            self.record.last_state = self.record.state
        self.record.state = {"waiting": {"reason": reason, "message": message}}
        self.record.ready = self.record.started = False

    def _end_waiting(self) -> None:
        """What waited for a restart that will not come has ended."""
        if "waiting" in self.record.state and self.record.last_state:
            self.record.state, self.record.last_state = self.record.last_state, self._last_but_one

    async def _wait_as(self, reason: str, message: str, *, told: str = "", event: str = "") -> None:
        """Makes the container a waiting one; the events about it are recorded once for each reason."""
        self._set_waiting(reason, message)
        if self._told != reason + message:
            self._told = reason + message
            if event:
                await self._scope.event(event, message, kind="Warning", container=self.name)
            text = told or (reason if event else message)
            await self._scope.event("Failed", f"Error: {text}", kind="Warning", container=self.name)
        await self._scope.publish()

    async def _post_start(self, current: Container) -> None:
        handler = (self._container.get("lifecycle") or {}).get("postStart")
        if not handler or self._launch is None:
            return
        try:
            await run_hook(self._scope.context.node.runtime, current, self._launch.spec.command, handler)
        except HookError:
            scope = self._scope
            await scope.event("FailedPostStartHook", "PostStartHook failed", kind="Warning", container=self.name)
            grace = float(scope.context.spec.get("terminationGracePeriodSeconds") or 0)
            await self.kill(asyncio.get_running_loop().time() + grace, message="FailedPostStartHook")

    async def _pre_stop(self, current: Container, deadline: float) -> None:
        handler = (self._container.get("lifecycle") or {}).get("preStop")
        left = deadline - asyncio.get_running_loop().time()
        if not handler or self._launch is None or left <= 0:
            return
        hook = run_hook(self._scope.context.node.runtime, current, self._launch.spec.command, handler)
        try:
            await asyncio.wait_for(hook, left)
        except asyncio.TimeoutError:
            return
        except HookError:
            await self._scope.event("FailedPreStopHook", "PreStopHook failed", kind="Warning", container=self.name)
