"""What is secret about a cluster is told to Airflow, which then writes `***` for it wherever it stands in a log.

Airflow is told through the channel that a task process shares with its supervisor, and two threads in that channel
corrupt each other. A credential is renewed on any thread: what other threads than the main one learn is kept until the
main one, which alone writes to the log, comes by.
"""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections import deque
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from kpo_multicluster.airflow_names import mask_secret, mask_secret_async
from kpo_multicluster.auth.access import ClusterAccess, Token

# A triggerer tells Airflow of a cluster's secrets when it is first used: it need not keep all tokens that follow.
_KEPT = 64


class CredentialMask:
    """The secrets of one cluster on their way to Airflow's masker."""

    def __init__(self) -> None:
        self._waiting: deque[Any] = deque(maxlen=_KEPT)
        self._key: str | None = None

    def cover_ref(self, secrets: Mapping[str, Any]) -> None:
        """Takes in what a cluster's reference holds inline.

        Args:
            secrets: of the reference.
        """
        for value in secrets.values():
            if isinstance(value, str):
                self._waiting.append(value)
            # What is JSON, a service account's key or a kubeconfig, is masked by the names in it as well.
            named = _parsed(value)
            if isinstance(named, Mapping):
                self._waiting.append(dict(named))
        self.tell_airflow()

    def cover(self, access: ClusterAccess) -> ClusterAccess:
        """Takes in the keys of `access`, and each of its tokens as they are made; gives it back."""
        self._learn_key(access.client_key)
        password = urlsplit(access.proxy_url or "").password
        if password:
            self._waiting.append(unquote(password))
        if access.tokens is not None:
            access.tokens.announce_to(self._learn)
        self.tell_airflow()
        return access

    def tell_airflow(self) -> None:
        """Tells Airflow what is new, if this is the main thread and it runs no event loop; cheap if nothing is."""
        if not self._waiting or threading.current_thread() is not threading.main_thread() or _on_a_loop():
            return
        while self._waiting:
            mask_secret(self._waiting.popleft())

    async def tell_airflow_async(self) -> None:
        """Tells Airflow what is new, from the event loop of a triggerer."""
        while self._waiting:
            await mask_secret_async(self._waiting.popleft())

    def _learn(self, token: Token) -> None:
        if token.value:
            self._waiting.append(token.value)
        self._learn_key(token.client_key)
        self.tell_airflow()

    def _learn_key(self, pem: str | None) -> None:
        # A certificate that is looked at again mostly has the same.
        if pem and pem != self._key:
            self._key = pem
            # As it stands in a file, and as it stands in a kubeconfig.
            self._waiting.extend((pem.strip(), base64.b64encode(pem.encode()).decode()))


def _parsed(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return None


def _on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
