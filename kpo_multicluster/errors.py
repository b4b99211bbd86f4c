"""Every error this package raises, in one tree.

Each message says what happened, where the value in question came from, and what to do next. None carries a secret.

    KpoMulticlusterError
    ├── ConfigurationError              what the user gave cannot work: an argument, a connection, a kubeconfig
    │   ├── UnknownClusterKindError     no resolver is registered for the kind of cluster
    │   ├── KubeconfigError             missing file, malformed YAML, unknown context or user
    │   └── MissingExtraError           an optional dependency is needed; names the `pip install` to run
    ├── CredentialError                 a credential could not be obtained or renewed
    │   └── ExecPluginError             an exec plugin of a kubeconfig is absent, failed, timed out or answered nonsense
    ├── ConnectError                    no answer from the API server: DNS, TCP, timeout, retry budget used up
    │   ├── TLSError                    the server's certificate, or the handshake, was refused
    │   └── ProxyError                  the proxy refused or could not be reached
    ├── ApiError                        the API server answered with a failure (`Status`)
    │   ├── BadRequestError             400
    │   ├── UnauthorizedError           401
    │   ├── ForbiddenError              403
    │   ├── NotFoundError               404
    │   ├── ConflictError               409, reasons Conflict and AlreadyExists
    │   ├── GoneError                   410, the resourceVersion is too old: list again
    │   ├── InvalidError                422, with the server's field errors
    │   ├── ThrottledError              429
    │   └── ServerError                 5xx
    ├── NodeGroupError                  a node group could not be made, changed or removed
    │   ├── NodeGroupMismatchError      one of that name is there and differs from what is asked for
    │   ├── NodeGroupFailedError        the cloud gave up, or reports trouble; carries its code and reason
    │   └── NodeGroupTimeoutError       it did not become ready, or go, within its time; carries the missing stage
    ├── ExecError                       a command run in a container through the exec subresource failed
    └── PodRunError                     a run of a pod ended badly
        ├── PodStartError               the pod can never start, or did not within its time
        │   └── PodStartTimeoutError    it did not within its time
        ├── PodFailedError              a container failed; carries reason and exit code
        ├── PodLostError                the pod vanished: deleted by someone else, evicted, node lost
        └── XComError                   the run's result could not be read or is not JSON
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_TEXT_LIMIT = 2000


class KpoMulticlusterError(Exception):
    """Base of all errors of this package.

    Attributes:
        in_doubt: whether what was asked for may have been done all the same, as a try of it got no answer.
        findings: why it was refused or not answered, as far as that was found out; the message has them, too.
    """

    in_doubt: bool = False
    findings: tuple[str, ...] = ()


class ConfigurationError(KpoMulticlusterError):
    """What the user gave cannot work; raised before anything is created."""


class UnknownClusterKindError(ConfigurationError):
    """No resolver is registered for this kind of cluster."""


class KubeconfigError(ConfigurationError):
    """A kubeconfig is missing, malformed, or lacks what was asked of it."""


class MissingExtraError(ConfigurationError):
    """An optional dependency is not installed.

    Args:
        feature: what needs it, as the user would call it.
        extra: the extra of this distribution that brings it.
    """

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(
            f"{feature} needs an optional dependency. Install it with: pip install 'kpo-multicluster[{extra}]'"
        )
        self.extra = extra


class CredentialError(KpoMulticlusterError):
    """A credential could not be obtained or renewed.

    Args:
        message: as for any error.
        final: whether asking again is of no use: who issues credentials refused, or what they are made from is wrong.
    """

    def __init__(self, message: str, *, final: bool = False) -> None:
        super().__init__(message)
        self.final = final


class ExecPluginError(CredentialError):
    """An exec plugin named by a kubeconfig could not be run, failed, or answered with something unusable."""


class ConnectError(KpoMulticlusterError):
    """The API server gave no answer."""


class TLSError(ConnectError):
    """The TLS handshake failed: wrong CA, wrong name, expired or refused certificate."""


class ProxyError(ConnectError):
    """The HTTP or SOCKS proxy refused the connection or could not be reached."""


class ApiError(KpoMulticlusterError):
    """The API server answered with a failure.

    Attributes:
        status: HTTP status code.
        reason: the server's machine-readable reason, such as `NotFound`; may be empty.
        detail: the server's own message, cut to 2,000 characters.
        body: the decoded `Status` object, empty when the answer was not JSON.
        retry_after_seconds: what the `Retry-After` header asked for, if it did.
    """

    def __init__(
        self,
        status: int,
        *,
        request: str,
        detail: str = "",
        reason: str = "",
        body: Mapping[str, Any] | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        self.status = status
        self.reason = reason
        self.detail = detail[:_TEXT_LIMIT]
        self.request = request
        self.body: Mapping[str, Any] = body or {}
        self.retry_after_seconds = retry_after_seconds
        label = f"{status} {reason}".strip()
        super().__init__(f"{request}: {label}" + (f": {self.detail}" if self.detail else ""))


class BadRequestError(ApiError):
    """400."""


class UnauthorizedError(ApiError):
    """401: the credential was refused, also after it was renewed once."""


class ForbiddenError(ApiError):
    """403: known who, not allowed what."""


class NotFoundError(ApiError):
    """404."""


class ConflictError(ApiError):
    """409: the name is taken, or a precondition does not hold."""


class GoneError(ApiError):
    """410: the resourceVersion is too old."""


class InvalidError(ApiError):
    """422: the object was refused; `detail` lists the fields."""


class ThrottledError(ApiError):
    """429."""


class ServerError(ApiError):
    """5xx."""


class NodeGroupError(KpoMulticlusterError):
    """A node group could not be made, changed or removed."""


class NodeGroupMismatchError(NodeGroupError):
    """A node group of that name is there, and differs from what is asked for.

    Attributes:
        differences: a phrase each, such as "labels: asked for team=ml, it has none".
    """

    def __init__(self, message: str, *, differences: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.differences = differences


class NodeGroupFailedError(NodeGroupError):
    """The cloud gave up on a node group, or reports that it is in trouble.

    Attributes:
        code: the cloud's own, of the first reason it gives, such as `AsgInstanceLaunchFailures`, `GCE_STOCKOUT` or
            `QuotaExceeded`; empty where it gives none.
    """

    def __init__(self, message: str, *, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class NodeGroupTimeoutError(NodeGroupError):
    """A node group did not become ready, or was not gone, within its time.

    Attributes:
        stage: that is missing, such as `registered`.
    """

    def __init__(self, message: str, *, stage: str = "") -> None:
        super().__init__(message)
        self.stage = stage


class ExecError(KpoMulticlusterError):
    """A command run in a container through the exec subresource failed.

    Attributes:
        exit_code: of the command, when it ran; None when the stream itself failed.
        stderr: what it wrote there, decoded, cut to 2,000 characters.
    """

    def __init__(self, message: str, *, exit_code: int | None = None, stderr: str = "") -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.stderr = stderr[:_TEXT_LIMIT]


class PodRunError(KpoMulticlusterError):
    """A run of a pod ended badly."""


class PodStartError(PodRunError):
    """The pod can never start, or did not start within its time."""


class PodStartTimeoutError(PodStartError):
    """The pod did not start within its time; it might have later."""


class PodFailedError(PodRunError):
    """A container of the pod failed.

    Attributes:
        reason: the reason Kubernetes gives, such as `Error`, `OOMKilled`.
        exit_code: of the container that failed, when it ran.
    """

    def __init__(self, message: str, *, reason: str = "", exit_code: int | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.exit_code = exit_code


class PodLostError(PodRunError):
    """The pod vanished while it was needed: deleted by someone else, evicted, or its node was lost.

    Attributes:
        cause: `evicted`, `preempted`, `node_lost` or `deleted`.
    """

    def __init__(self, message: str, *, cause: str) -> None:
        super().__init__(message)
        self.cause = cause


class XComError(PodRunError):
    """The result of the run could not be read, or is not JSON."""
