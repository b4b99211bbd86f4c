"""Outlasts credentials that fail for a while: a pod is well, and its run goes on, while a token service is away.

How long depends on what is known. A cluster that has accepted this client before is given two minutes, whatever the
failure: what is refused in the middle of a run mostly passes. A client that was never accepted is believed to be
refused for good by a 401, and by an issuer's own verdict (`CredentialError.final`): a wrong key, a role that may not be
assumed. A credential that just cannot be had, such as from an issuer that does not answer, gets half a minute.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from kpo_multicluster.api.client import ApiClient, Clock, RetryPolicy
from kpo_multicluster.api.retry import Backoff
from kpo_multicluster.errors import CredentialError, UnauthorizedError

T = TypeVar("T")

ACCEPTED_SECONDS = 120.0
UNPROVEN_SECONDS = 30.0
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 5.0
# A call that was let in and lasted longer before it failed, such as a watch, had a good credential meanwhile.
_WORKED_SECONDS = 2.0


class Patience:
    """Asks again where a credential cannot be had or is refused.

    Args:
        api: of the cluster.
        warn: is awaited with what the user should be told, once for each time that credentials fail.
        accepted_seconds: how long a cluster is asked again that has accepted this client before.
        unproven_seconds: how long one that has not is asked again.
        accepted: whether it has accepted another client of the same credentials.
    """

    def __init__(
        self,
        api: ApiClient,
        warn: Callable[[str], Awaitable[None]],
        *,
        accepted_seconds: float = ACCEPTED_SECONDS,
        unproven_seconds: float = UNPROVEN_SECONDS,
        accepted: bool = False,
    ) -> None:
        self._api = api
        self._warn = warn
        self._accepted_seconds = accepted_seconds
        self._unproven_seconds = unproven_seconds
        self._accepted = accepted

    async def insist(self, ask: Callable[[], Awaitable[T]]) -> T:
        """What `ask` gives.

        Raises:
            CredentialError: there is no credential to ask with, and will be none, or was none for too long.
            UnauthorizedError: the same of one that is refused.
            KpoMulticlusterError: any other error of `ask`, at once.
        """
        loop, pauses = asyncio.get_running_loop(), None
        while True:
            began, acceptances = loop.time(), self._api.acceptances
            try:
                return await ask()
            except (CredentialError, UnauthorizedError) as error:
                seconds = self._seconds_for(error)
                # An issuer that does not answer takes long to fail as well.
                worked = loop.time() - began > _WORKED_SECONDS and self._api.acceptances > acceptances
                if pauses is None or worked:
                    if seconds:
                        await self._warn(f"The cluster cannot be asked: {error} Trying again for {seconds:g} s.")
                    pauses = Backoff(RetryPolicy(seconds, _FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS), Clock())
                if not await pauses.pause(limit_seconds=seconds):
                    raise

    def _seconds_for(self, error: CredentialError | UnauthorizedError) -> float:
        if self._accepted or self._api.accepted:
            return self._accepted_seconds
        if isinstance(error, UnauthorizedError) or error.final:
            return 0.0
        return self._unproven_seconds
