"""As what an error of this package leaves a task: itself, an `AirflowException`, and what upstream raises in its place.

So `except PodFailedError` and `except PodLaunchTimeoutException` both hold, and callbacks of Airflow find the kind of
exception they expect.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kpo_multicluster import errors, exceptions
from kpo_multicluster.airflow_names import AirflowException
from kpo_multicluster.errors import KpoMulticlusterError

_API = (exceptions.KubernetesApiError, exceptions.KubernetesApiException)
# The first that an error is an instance of holds.
_UPSTREAM: tuple[tuple[type[KpoMulticlusterError], tuple[type[AirflowException], ...]], ...] = (
    (errors.PodStartTimeoutError, (exceptions.PodLaunchTimeoutException,)),
    (errors.PodStartError, (exceptions.PodLaunchFailedException,)),
    (errors.XComError, (exceptions.XComRetrievalError,)),
    (errors.ExecError, (exceptions.PodCommandException,)),
    (errors.CredentialError, (exceptions.PodCredentialsExpiredFailure,)),
    (errors.UnauthorizedError, (exceptions.PodCredentialsExpiredFailure, *_API)),
    (errors.ForbiddenError, (exceptions.KubernetesApiPermissionError, *_API)),
    (errors.ApiError, _API),
    (errors.ConnectError, _API),
    (KpoMulticlusterError, (AirflowException,)),
)
_made: dict[tuple[type, tuple[type, ...]], type[KpoMulticlusterError]] = {}


def as_airflow(error: KpoMulticlusterError) -> KpoMulticlusterError:
    """Makes an error what it is to leave a task as; returns that same error."""
    if not isinstance(error, AirflowException):
        # The object stays: its attributes, traceback, cause and notes with it.
        error.__class__ = _both(type(error), _upstream(error))
    return error


@contextmanager
def airflow_errors() -> Iterator[None]:
    """Within it, errors of this package are raised as they are to leave a task. Also a decorator."""
    try:
        yield
    except KpoMulticlusterError as error:
        as_airflow(error)
        raise


def _upstream(error: KpoMulticlusterError) -> tuple[type[AirflowException], ...]:
    if isinstance(error, errors.PodLostError) and error.cause == "deleted":
        return (exceptions.PodNotFoundException,)
    return next(names for kind, names in _UPSTREAM if isinstance(error, kind))


def _both(kind: type[KpoMulticlusterError], names: tuple[type[AirflowException], ...]) -> type[KpoMulticlusterError]:
    if (kind, names) not in _made:
        # Readers of a traceback know it by the name it has in `errors`, where pickle would find the other class.
        body = {"__module__": kind.__module__, "__doc__": kind.__doc__, "__reduce__": _reduced}
        _made[kind, names] = type(kind.__name__, (kind, *names), body)
    return _made[kind, names]


def _reduced(error: KpoMulticlusterError) -> tuple[Any, ...]:
    return _restored, (type(error).__bases__[0], error.args, vars(error))


def _restored(
    kind: type[KpoMulticlusterError], arguments: tuple[Any, ...], attributes: dict[str, Any]
) -> KpoMulticlusterError:
    error = kind.__new__(kind, *arguments)
    vars(error).update(attributes)
    return as_airflow(error)
