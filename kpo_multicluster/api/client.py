"""`ApiClient`: requests, watches, log streams and commands on one API server."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from kpo_multicluster.api.connection import Call, Connection, Params, Try, query, with_headers
from kpo_multicluster.api.exec import ExecResult, run_command
from kpo_multicluster.api.faults import LIBRARY_ERRORS, FaultError, next_part
from kpo_multicluster.api.pace import Pace
from kpo_multicluster.api.retry import NO_RETRY, Clock, RetryPolicy
from kpo_multicluster.api.watch import WatchEvent, watch_events
from kpo_multicluster.auth.access import ClusterAccess
from kpo_multicluster.errors import ApiError

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["NO_RETRY", "ApiClient", "Clock", "ExecResult", "RetryPolicy", "WatchEvent"]

_REAL_CLOCK = Clock()


class ApiClient:
    """Talks to one API server, from one event loop; an async context manager.

    Every call asks for a fresh credential, and answers a 401 with one renewal and one replay. Faults that may pass are
    tried again within the retry budget; before the server has answered anything, a failure to connect is reported after
    `connect_timeout_seconds`. The proxy is that of `access`, else the environment's; netrc is never read.

    Args:
        access: the cluster.
        retry: how long a call is tried again.
        connect_timeout_seconds: to open a connection: name resolution, TCP, proxy and TLS.
        request_timeout_seconds: for one try of a `request`, connecting included.
        clock: of the retries; a test gives its own.

    Raises:
        ConfigurationError: the server's or the proxy's address cannot be used, or a credential would be sent in the
            clear.
    """

    def __init__(
        self,
        access: ClusterAccess,
        *,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
        connect_timeout_seconds: float = 10.0,
        request_timeout_seconds: float = 60.0,
        clock: Clock = _REAL_CLOCK,
    ) -> None:
        self.access = access
        self._request_seconds = request_timeout_seconds
        self._connection = Connection(access, retry=retry, connect_timeout_seconds=connect_timeout_seconds, clock=clock)

    @property
    def accepted(self) -> bool:
        """Whether the server has taken this client's credential at least once: a later refusal may pass."""
        return self._connection.acceptances > 0

    @property
    def acceptances(self) -> int:
        """How often the server has taken this client's credential."""
        return self._connection.acceptances

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        body: Any = None,
        content_type: str = "application/json",
        retry: RetryPolicy | None = None,
    ) -> dict[str, Any]:
        """One request and its answer.

        POST and DELETE are tried again too when no answer came: the caller makes them idempotent.

        Args:
            method: HTTP method.
            path: from the server's base URL on, such as `/api/v1/namespaces/default/pods`.
            params: of the query.
            body: JSON values; None for none.
            content_type: of the body, such as `application/merge-patch+json`.
            retry: in place of the client's.

        Raises:
            ApiError: the server refused it, or answered with something other than a JSON object.
            ConnectError: the server could not be reached or did not answer.
            CredentialError: there is no credential to ask with.
            ConfigurationError: the cluster's certificates cannot be used, or a dependency is missing.
        """
        call = self._connection.call(method, path, policy=retry, answer_seconds=self._request_seconds)
        data = None if body is None else json.dumps(body).encode()
        typed = {} if data is None else {"Content-Type": content_type}

        async def attempt(tried: Try) -> bytes:
            options = {**tried.options, "headers": with_headers(tried.options["headers"], typed)}
            async with tried.session.request(
                method,
                tried.url,
                params=query(params),
                data=data,
                allow_redirects=False,
                timeout=tried.timeout(total=self._request_seconds),
                **options,
            ) as response:
                return await response.read()

        return _object(await self._connection.run(call, attempt), call)

    def watch(
        self,
        path: str,
        *,
        resource_version: str,
        params: Params | None = None,
        timeout_seconds: int = 300,
        reconnect: bool = True,
        retry: RetryPolicy | None = None,
    ) -> AsyncGenerator[WatchEvent, None]:
        """The events of a collection from a resource version on, followed across cuts and the server's timeouts.

        Bookmarks are consumed: they only move the version from which a cut watch resumes. Close the iterator
        (`contextlib.aclosing`) to end the watch.

        Args:
            path: of the collection.
            resource_version: of the list or object the watch continues.
            params: of the query, such as selectors.
            timeout_seconds: after which the server ends one connection; one silent for longer counts as cut.
            reconnect: False ends the iterator with its first connection, a cut raises.
            retry: in place of the client's; also spaces the connections after a cut.

        Raises:
            GoneError: the version is too old: list again.
            ApiError: the server refused the watch, or ended it with an ERROR event that is no passing fault of its own.
            ConnectError: the server could not be reached, or cut every connection, for the whole retry budget.
            CredentialError: there is no credential to ask with.
        """
        return watch_events(
            self._connection,
            path,
            resource_version=resource_version,
            params=params or {},
            timeout_seconds=timeout_seconds,
            reconnect=reconnect,
            policy=retry or self._connection.retry,
        )

    async def stream(
        self, path: str, *, params: Params | None = None, idle_seconds: float | None = None
    ) -> AsyncGenerator[bytes, None]:
        """An answer's body as it arrives, such as a log that is followed; ends with the answer.

        Only the opening is tried again: what was read cannot be asked for again here.

        Args:
            path: such as that of a pod's `log`.
            params: of the query.
            idle_seconds: the longest silence allowed; with None only TCP keep-alive notices a peer that vanished.

        Raises:
            ApiError: the server refused it.
            ConnectError: the server could not be reached, or the answer was cut in its middle.
            CredentialError: there is no credential to ask with.
        """
        call = self._connection.call("GET", path, answer_seconds=idle_seconds)
        response = await self._connection.open(call, params=params, idle_seconds=idle_seconds)
        cut: BaseException | None = None
        pace = Pace(response)
        try:
            while part := await next_part(response):
                yield part
                await pace.read(len(part))
        except (FaultError, *LIBRARY_ERRORS) as error:
            cut = error
        finally:
            response.close()
        if cut is not None:
            raise self._connection.lost(cut, call)

    async def exec(
        self,
        path: str,
        command: Sequence[str],
        *,
        container: str,
        stdin: bytes | None = None,
        timeout_seconds: float = 60.0,
    ) -> ExecResult:
        """Runs a command in a running container, and waits for its end.

        Tried again only when the command cannot have been started. An exit code other than 0 is a result, no error.

        Args:
            path: of the pod's `exec`.
            command: the program and its arguments; no shell is involved.
            container: its name.
            stdin: the command's input, which then ends; needs Kubernetes 1.30. None gives it none.
            timeout_seconds: for the whole of it.

        Raises:
            ExecError: it could not be started or did not end in time, its output is incomplete, or the server cannot
                end its input.
            ApiError: the server refused it.
            ConnectError: the server could not be reached.
            CredentialError: there is no credential to ask with.
        """
        return await run_command(
            self._connection, path, command, container=container, stdin=stdin, timeout_seconds=timeout_seconds
        )

    async def close(self) -> None:
        """Closes every connection. Calls under way fail, new ones are refused."""
        await self._connection.close()


def _object(answer: bytes, call: Call) -> dict[str, Any]:
    try:
        decoded = json.loads(answer)
    except ValueError:
        decoded = None
    if not isinstance(decoded, dict):
        raise ApiError(
            200,
            request=call.request,
            detail="the answer is no JSON object: check that the server's address is that of an API server",
        )
    return decoded
