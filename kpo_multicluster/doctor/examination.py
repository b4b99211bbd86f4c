"""Walks the way to a cluster, within a time.

The cluster is looked up on the calling thread, and so is every connection that it turns out to name: Airflow may be
asked on one thread only. All else happens on a thread of its own, since what blocks there (a name lookup, a credential
plugin, a cloud's library) cannot be interrupted; what is late is left to its own time limit.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

from kpo_multicluster.api.client import NO_RETRY, ApiClient
from kpo_multicluster.auth.access import ClusterAccess
from kpo_multicluster.auth.connections import CloudConnection, Connections
from kpo_multicluster.auth.diagnose import explain_refusal
from kpo_multicluster.auth.registry import resolve
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.doctor.identity import authentication, credentials, permissions
from kpo_multicluster.doctor.report import STEPS, WITHIN_SECONDS, Examination, Outcome, Step
from kpo_multicluster.doctor.transport import Target, endpoint, through_proxy, tls
from kpo_multicluster.errors import ConfigurationError, KpoMulticlusterError

if TYPE_CHECKING:
    from kpo_multicluster.auth.aws_logins import AwsLogin

T = TypeVar("T")

_REQUEST_SECONDS = 4.0
_OVERLOADED = "The API server takes requests and does not answer: see whether it, or its webhook, is overloaded."
_LATE = {
    "credentials": "Look at a credential plugin that waits for input, and at the network between here and the cloud.",
    "endpoint": "Look at the name servers of this host, and at the network between it and the cluster.",
    "tls": "Look at what stands between this host and the cluster: it takes connections, and says nothing.",
    "authentication": _OVERLOADED,
    "permissions": _OVERLOADED,
}


@dataclass(frozen=True)
class Subject:
    """A cluster that is to be examined.

    Attributes:
        ref: of it.
        explained: which cluster that is, and who says so.
        connections: where connections are looked up; None outside Airflow.
        resolved: called with the access to it, on the thread that made it.
    """

    ref: ClusterRef
    explained: str
    connections: Connections | None = None
    resolved: Callable[[ClusterAccess], object] = lambda access: None


def examine(
    find: Callable[[], Subject], *, namespace: str | None = None, within_seconds: float = WITHIN_SECONDS
) -> Examination:
    """Walks all steps until one fails.

    Args:
        find: finds the cluster; called on this thread, and raises a `KpoMulticlusterError` if there is none.
        namespace: where pods are to run; default that of the cluster, else `default`.
        within_seconds: for all of it.
    """
    began = time.monotonic()
    try:
        subject = find()
    except KpoMulticlusterError as error:
        step = Step("connection", Outcome.FAILED, str(error), "", time.monotonic() - began)
        return Examination(_completed([step]))
    steps = [Step("connection", Outcome.OK, subject.explained, "", time.monotonic() - began)]
    caller = _Caller()
    walk = _Walk(subject, namespace, caller)
    threading.Thread(target=walk.run, name="examine cluster", daemon=True).start()
    steps += caller.serve(began + within_seconds)
    if steps[-1].outcome is not Outcome.FAILED and len(steps) < len(STEPS):
        late = STEPS[len(steps)]
        text = f"Not done within the {within_seconds:g} s that there are for the whole: neither an error nor a refusal."
        spent = time.monotonic() - began - sum(step.seconds for step in steps)
        steps.append(Step(late, Outcome.FAILED, text, _LATE[late], spent))
    ref = subject.ref
    public = {key: value for key, value in ref.options.items() if key != "ca_data"}
    return Examination(_completed(steps), {"kind": ref.kind, "options": public, "source": ref.source})


def _completed(steps: list[Step]) -> tuple[Step, ...]:
    reached = {step.name for step in steps}
    return (*steps, *(Step(name, Outcome.NOT_REACHED) for name in STEPS if name not in reached))


class _Caller:
    """What the calling thread does meanwhile: takes the steps, and makes the calls that only it may make."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Step | tuple[Callable[[], Any], Future[Any]] | BaseException | None] = SimpleQueue()
        self._closed = False

    def serve(self, deadline: float) -> list[Step]:
        """Gives back the steps there were until the end, or the deadline."""
        steps: list[Step] = []
        try:
            while True:
                try:
                    item = self._queue.get(timeout=max(0.0, deadline - time.monotonic()))
                except Empty:
                    return steps
                if item is None:
                    return steps
                if isinstance(item, BaseException):
                    raise item
                if isinstance(item, Step):
                    steps.append(item)
                else:
                    _answer(*item)
        finally:
            self._closed = True
            self._refuse_the_rest()

    def take(self, item: Step | BaseException | None) -> None:
        """Hands over a step, or the end, or a fault of our own."""
        self._queue.put(item)

    def call(self, work: Callable[[], T]) -> T:
        """Has something done on the calling thread."""
        answer: Future[T] = Future()
        self._queue.put((work, answer))
        if self._closed:
            self._refuse_the_rest()
        return answer.result()

    def _refuse_the_rest(self) -> None:
        while True:
            try:
                item = self._queue.get_nowait()
            except Empty:
                return
            if isinstance(item, tuple):
                item[1].set_exception(ConfigurationError("The time for the examination is over."))


def _answer(work: Callable[[], Any], answer: Future[Any]) -> None:
    try:
        answer.set_result(work())
    except BaseException as error:  # noqa: BLE001 - raised where the answer is waited for
        answer.set_exception(error)


class _ConnectionsOfCaller:
    """Looks connections up on the calling thread."""

    def __init__(self, connections: Connections, caller: _Caller) -> None:
        self._connections = connections
        self._caller = caller

    def get(self, conn_id: str) -> CloudConnection:
        return self._caller.call(lambda: self._connections.get(conn_id))

    def aws_login(self, conn_id: str, region: str | None) -> AwsLogin | None:
        return self._caller.call(lambda: self._connections.aws_login(conn_id, region))


class _FailedError(Exception):
    pass


class _Walk:
    def __init__(self, subject: Subject, namespace: str | None, caller: _Caller) -> None:
        self._subject = subject
        self._ref = subject.ref
        self._namespace = namespace
        self._caller = caller
        self._access: ClusterAccess | None = None
        self._left = iter(STEPS[1:])
        self._began = time.monotonic()

    def run(self) -> None:
        """All steps after the first, up to one that fails."""
        end: BaseException | None = None
        try:
            self._walk()
        except _FailedError:
            pass
        except KpoMulticlusterError as error:
            known = [] if self._access is None else explain_refusal(self._ref, self._access, error)
            with suppress(_FailedError):
                self._take(Step(next(self._left), Outcome.FAILED, str(error), "\n".join(known)), counted=True)
        except BaseException as error:  # noqa: BLE001 - raised where the steps are waited for
            end = error
        self._caller.take(end)

    def _take(self, step: Step, *, counted: bool = False) -> None:
        now = time.monotonic()
        self._caller.take(step.lasting(now - self._began))
        self._began = now
        if not counted:
            next(self._left)
        if step.outcome is Outcome.FAILED:
            raise _FailedError

    def _walk(self) -> None:
        given = self._subject.connections
        connections = None if given is None else _ConnectionsOfCaller(given, self._caller)
        access = self._access = resolve(self._ref, connections=connections)
        self._subject.resolved(access)
        self._take(credentials(access))
        asyncio.run(self._to_the_server(access))

    async def _to_the_server(self, access: ClusterAccess) -> None:
        target = Target.of(access)
        reached = endpoint(self._ref, access, target)
        if target.proxy is not None and reached.outcome is not Outcome.FAILED:
            reached, trusted = await through_proxy(self._ref, access, reached)
            self._take(reached)
            self._take(trusted)
        else:
            self._take(reached)
            self._take(tls(self._ref, access, target))
        async with ApiClient(
            access, retry=NO_RETRY, connect_timeout_seconds=_REQUEST_SECONDS, request_timeout_seconds=_REQUEST_SECONDS
        ) as api:
            step, minor = await authentication(api, self._ref)
            self._take(step)
            self._take(await permissions(api, self._ref, self._namespace, minor))
