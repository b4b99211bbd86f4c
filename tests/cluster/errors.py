"""What can go wrong with the test clusters."""

from __future__ import annotations


class ClusterError(Exception):
    """Something that should have worked did not; the message says where to look."""


class RefusedError(ClusterError):
    """An API server answered with a failure.

    Attributes:
        status: of the HTTP answer.
        body: what it said.
    """

    def __init__(self, method: str, path: str, status: int, body: str) -> None:
        super().__init__(f"{method} {path}: {status} {body[:500]}")
        self.status = status
        self.body = body


class NotPossibleHereError(Exception):
    """This machine cannot run the clusters; the message says what it lacks.

    The command line ends with `EXIT_CODE`, so that a caller can tell this from a failure.
    """

    EXIT_CODE = 3
