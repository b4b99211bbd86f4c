"""Tries a cluster out: does it answer, and whom does it take us for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING

from kpo_multicluster.auth.access import ClusterAccess
from kpo_multicluster.errors import ConnectError, CredentialError, ForbiddenError, NotFoundError

if TYPE_CHECKING:
    from kpo_multicluster.api.client import ApiClient

# For each of the two requests.
_REQUEST_SECONDS = 4.0
_REVIEWS = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
_ANONYMOUS = "system:anonymous"


def probe(reach: Callable[[], ClusterAccess], *, within_seconds: float = 10.0) -> str:
    """What a cluster answers, in a sentence.

    Args:
        reach: gives access to the cluster; called in another thread, as it may block.
        within_seconds: for all of it.

    Raises:
        KpoMulticlusterError: it cannot be reached, does not answer in time, or refuses the credentials.
    """
    answer: Future[str] = Future()

    def work() -> None:
        try:
            answer.set_result(asyncio.run(_ask(reach())))
        except BaseException as error:  # noqa: BLE001 - raised where the answer is waited for
            answer.set_exception(error)

    # A name lookup or a credential plugin cannot be interrupted: it is left to its own time limit.
    threading.Thread(target=work, name="probe cluster", daemon=True).start()
    try:
        return answer.result(within_seconds)
    except FutureTimeoutError:
        raise ConnectError(
            f"There was no answer within {within_seconds:g} s: neither an error nor a refusal. Look at the network "
            "between Airflow and the cluster, and at credential plugins that wait for input."
        ) from None


async def _ask(access: ClusterAccess) -> str:
    from kpo_multicluster.api.client import NO_RETRY, ApiClient

    async with ApiClient(
        access, retry=NO_RETRY, connect_timeout_seconds=_REQUEST_SECONDS, request_timeout_seconds=_REQUEST_SECONDS
    ) as api:
        version = (await api.request("GET", "/version")).get("gitVersion", "of an unknown version")
        # Anyone may read the version: a credential that is worth nothing shows only when the server is asked for it.
        user = await _user(api)
    if user == _ANONYMOUS:
        raise CredentialError(
            f"{access.server} answers, but takes us for {_ANONYMOUS}: the credentials from {access.source} are empty. "
            "Add a token, a client certificate or an exec plugin there."
        )
    known = f", and knows us as {user}" if user else ""
    return f"Kubernetes {version} at {access.server} answers{known}; it is the cluster of {access.source}."


async def _user(api: ApiClient) -> str | None:
    """Who the server takes us for; None where it does not tell (before Kubernetes 1.28)."""
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    try:
        review = await api.request("POST", _REVIEWS, body=body)
    except NotFoundError:
        return None
    except ForbiddenError as error:
        # Everyone may ask, by default, who is someone.
        return _ANONYMOUS if _ANONYMOUS in error.detail else None
    name = review.get("status", {}).get("userInfo", {}).get("username")
    return None if name is None else str(name)
