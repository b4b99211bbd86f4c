"""A token webhook on loopback: API servers ask it whose a token is, and it asks the cloud that issued the token.

Source: Kubernetes, "Webhook Token Authentication", and the API `TokenReview` of `authentication.k8s.io/v1`.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kpo_multicluster.testing import kubeconfig as kubeconfigs
from kpo_multicluster.testing.clouds.identity import Identifier, Identity, TokenRefused
from kpo_multicluster.testing.clouds.server import CloudFaults, LoopbackServer, Record, Request, Response, Service
from kpo_multicluster.testing.startable import Startable
from kpo_multicluster.testing.tls import Authority

if TYPE_CHECKING:
    from typing_extensions import Self

_VERSIONS = ("authentication.k8s.io/v1", "authentication.k8s.io/v1beta1")


@dataclass(frozen=True)
class Review:
    """What came of one question.

    Attributes:
        fingerprint: tells tokens apart: twelve hex digits.
        identity: whose the token is; None for no one's.
        reason: why it was refused; empty when it was not.
        at: when it was asked, Unix time in seconds.
    """

    fingerprint: str
    identity: Identity | None
    reason: str
    at: float


class TokenReviewer:
    """Tells the tokens of one cluster, can refuse some of them before their end, and remembers what it was asked.

    Embedded clusters ask it as it is (`EmbeddedCluster.accept_tokens_of`), real ones through a `TokenWebhook`.

    Args:
        identifier: whom to ask.
        clock: Unix time in seconds.
    """

    def __init__(self, identifier: Identifier, *, clock: Callable[[], float] = time.time) -> None:
        self._identifier = identifier
        self._clock = clock
        self._lock = threading.Lock()
        self._reviews: list[Review] = []
        self._revoked: set[str] = set()

    def identify(self, token: str) -> Identity:
        """Whose a token is, now.

        Raises:
            TokenRefused: it is no one's, or was revoked here.
        """
        try:
            identity = self._told(token)
        except TokenRefused as refused:
            self._note(token, None, refused.reason)
            raise
        self._note(token, identity, "")
        return identity

    def revoke(self, token: str) -> None:
        """Refuses a token from now on; an API server may take it as long as it remembers the last answer."""
        with self._lock:
            self._revoked.add(_fingerprint(token))

    def revoke_all(self) -> None:
        """Refuses every token that was shown until now."""
        with self._lock:
            self._revoked.update(review.fingerprint for review in self._reviews)

    @property
    def reviews(self) -> tuple[Review, ...]:
        """What was asked, in order."""
        with self._lock:
            return tuple(self._reviews)

    def _told(self, token: str) -> Identity:
        with self._lock:
            revoked = _fingerprint(token) in self._revoked
        if revoked:
            raise TokenRefused("it was revoked")
        return self._identifier.identify(token)

    def _note(self, token: str, identity: Identity | None, reason: str) -> None:
        with self._lock:
            self._reviews.append(Review(_fingerprint(token), identity, reason, self._clock()))


class TokenWebhook(Startable):
    """Answers API servers over https, for any number of clusters, each at a path of its own. Use it in a `with` block.

    Attributes:
        faults: to inject, aimed at `POST /CLUSTER`.
    """

    def __init__(self) -> None:
        self.faults = CloudFaults()
        self._authority = Authority("token-webhook")
        self._reviewers: dict[str, TokenReviewer] = {}
        service = Service(self._answer, _refusal)
        self._server = LoopbackServer(service, self.faults, Record(), self._authority.server_context())

    def serve(self, cluster: str, reviewer: TokenReviewer) -> None:
        """Answers for a cluster from now on.

        Args:
            cluster: its name here, a segment of a path.
            reviewer: whom to ask for it.
        """
        self._reviewers[cluster] = reviewer

    def kubeconfig(self, cluster: str) -> dict[str, Any]:
        """What a kube-apiserver is to be given as `--authentication-token-webhook-config-file`.

        Raises:
            KeyError: it does not answer for that cluster.
            ConfigurationError: it is not running.
        """
        if cluster not in self._reviewers:
            raise KeyError(cluster)
        url = f"{self._server.url}/{cluster}"
        entry = kubeconfigs.KubeconfigEntry("webhook", url, self._authority.pem, "api-server", {})
        return kubeconfigs.document([entry])

    def start(self) -> Self:
        """Starts to answer."""
        self._server.start()
        return self

    def stop(self) -> None:
        """Ends all requests and threads. Harmless when it is not running."""
        self._server.stop()

    def _answer(self, request: Request) -> Response:
        reviewer = self._reviewers.get(request.path.strip("/"))
        if reviewer is None:
            return _plain(404, "no such cluster")
        if request.method != "POST":
            return _plain(405, "expected POST")
        review, version = request.json, request.json.get("apiVersion")
        spec = review.get("spec")
        token = spec.get("token") if isinstance(spec, dict) else None
        if review.get("kind") != "TokenReview" or version not in _VERSIONS or not isinstance(token, str):
            return _plain(400, "expected a TokenReview with a token")
        return Response(200, {"apiVersion": version, "kind": "TokenReview", "status": _status(reviewer, token)})


def _status(reviewer: TokenReviewer, token: str) -> dict[str, Any]:
    try:
        identity = reviewer.identify(token)
    except TokenRefused as refused:
        # With an error, an API server asks anew the next time; without one it would remember the refusal.
        return {"authenticated": False, "error": refused.reason}
    user = {"username": identity.name, "uid": f"cloud:{identity.name}", "groups": list(identity.groups)}
    return {"authenticated": True, "user": user}


def _refusal(request: Request, status: int, code: str, message: str) -> Response:
    return _plain(status, f"{code} {message}".strip())


def _plain(status: int, text: str) -> Response:
    return Response(status, f"{text}\n".encode(), {"Content-Type": "text/plain; charset=utf-8"})


def _fingerprint(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()[:12]
