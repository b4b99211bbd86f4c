"""Requests to an API server, as its administrator."""

from __future__ import annotations

import http.client
import json
import ssl
from typing import Any

from .errors import RefusedError
from .layout import API_PORT, ClusterLayout
from .pki import KeyPair

_TIMEOUT_SECONDS = 30.0


class Administrator:
    """One who may do anything on one cluster.

    Args:
        layout: of the cluster.
        port: of the API server.
    """

    def __init__(self, layout: ClusterLayout, port: int = API_PORT) -> None:
        self._address, self._port = layout.host_address, port
        pair = KeyPair.at(layout.pki, "admin")
        self._context = ssl.create_default_context(cafile=str(layout.pki / "ca.crt"))
        self._context.load_cert_chain(pair.certificate, pair.key)

    def request(self, method: str, path: str, body: Any = None, *, content_type: str = "application/json") -> Any:
        """Send one request and give back the decoded answer; text when it is not JSON.

        Raises:
            OSError: no answer.
            RefusedError: the answer is a failure.
        """
        connection = http.client.HTTPSConnection(
            self._address, self._port, context=self._context, timeout=_TIMEOUT_SECONDS
        )
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, body=data, headers={"Content-Type": content_type})
            response = connection.getresponse()
            text = response.read().decode()
        except http.client.HTTPException as error:
            raise OSError(f"{method} {path}: {error!r}") from error
        finally:
            connection.close()
        if response.status >= 400:
            raise RefusedError(method, path, response.status, text)
        return json.loads(text) if "json" in response.getheader("Content-Type", "") else text

    def find(self, path: str) -> Any | None:
        """What is at a path, or None while it is not there or the server gives no answer."""
        try:
            return self.request("GET", path)
        except RefusedError as error:
            # A server that starts refuses what its own roles, not yet written, would allow.
            if error.status in (403, 404, 429) or error.status >= 500:
                return None
            raise
        except OSError:
            return None
