"""An image registry that answers for every registry there is: it looks at the last part of an image's name only.

Only what a node asks for when it pulls is served (the `pull` part of the OCI distribution specification). It reads the
store anew for each request, so an image that is added while it runs is there at once. Needs the standard library only.

    python registry.py ADDRESS PORT STORE
"""

from __future__ import annotations

import http.server
import json
import re
import shutil
import sys
from http import HTTPStatus
from pathlib import Path

_REQUEST = re.compile(r"/v2/(?P<name>.+)/(?P<kind>manifests|blobs)/(?P<reference>[^/?]+)(?:\?.*)?")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
ANY_TAG = "*"


def find(store: Path, name: str, reference: str) -> str | None:
    """The digest of an image's manifest.

    Args:
        store: the directory that `images` writes.
        name: of the image, with or without a registry's path before it.
        reference: a tag, or the digest itself.
    """
    if _DIGEST.fullmatch(reference):
        return reference
    tags = json.loads((store / "index.json").read_text()).get(name.rpartition("/")[2], {})
    digest = tags.get(reference, tags.get(ANY_TAG))
    return str(digest) if digest else None


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    store: Path

    def do_GET(self) -> None:
        """Serve a manifest or a blob."""
        if self.path == "/v2/":
            self._answer(HTTPStatus.OK, b"{}", "application/json")
            return
        request = _REQUEST.fullmatch(self.path)
        if request is None:
            self._refuse("UNSUPPORTED")
        elif request["kind"] == "manifests":
            digest = find(self.store, request["name"], request["reference"])
            self._blob(digest, MANIFEST_TYPE, "MANIFEST_UNKNOWN")
        else:
            self._blob(request["reference"], "application/octet-stream", "BLOB_UNKNOWN")

    do_HEAD = do_GET

    def _blob(self, digest: str | None, media_type: str, code: str) -> None:
        path = self.store / "blobs" / "sha256" / (digest or "").removeprefix("sha256:")
        if digest is None or not _DIGEST.fullmatch(digest) or not path.is_file():
            self._refuse(code)
            return
        with path.open("rb") as blob:
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(path.stat().st_size))
            self.send_header("Docker-Content-Digest", digest)
            self.end_headers()
            if self.command == "GET":
                shutil.copyfileobj(blob, self.wfile, 1 << 20)

    def _refuse(self, code: str) -> None:
        body = json.dumps({"errors": [{"code": code, "message": "not served by this registry"}]}).encode()
        self._answer(HTTPStatus.NOT_FOUND, body, "application/json")

    def _answer(self, status: HTTPStatus, body: bytes, media_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


def serve(address: str, port: int, store: Path) -> http.server.ThreadingHTTPServer:
    """A server bound to an address; the caller lets it run."""
    handler = type("StoreHandler", (Handler,), {"store": store})
    return http.server.ThreadingHTTPServer((address, port), handler)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])).serve_forever()
