"""What may stand where an API server should: TLS with any certificate, a proxy, a listener that says nothing."""

from __future__ import annotations

import selectors
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import trustme


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = False
    block_on_close = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves is none of our business."""


@contextmanager
def serving(handle: Any) -> Iterator[int]:
    """Serves connections on loopback by `handle(socket)`; gives the port."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                handle(self.request)

    with _Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def tls_server(leaf: trustme.LeafCert) -> Iterator[str]:
    """Ends every connection once it has shown a certificate; gives its URL."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    leaf.configure_cert(context)

    def handle(connection: socket.socket) -> None:
        connection.settimeout(10)
        with context.wrap_socket(connection, server_side=True) as wrapped:
            wrapped.recv(1)

    with serving(handle) as port:
        yield f"https://127.0.0.1:{port}"


@contextmanager
def proxy(asked: list[str], *, refusal: str = "") -> Iterator[int]:
    """An HTTP proxy that tunnels, or answers with `refusal`; notes in `asked` what it was asked."""

    def handle(inner: socket.socket) -> None:
        inner.settimeout(10)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            received = inner.recv(1)
            if not received:
                return
            head += received
        asked.append(head.decode().splitlines()[0])
        if refusal:
            inner.sendall(f"HTTP/1.1 {refusal}\r\nContent-Length: 0\r\n\r\n".encode())
            return
        host, _, port = head.split()[1].decode().rpartition(":")
        with socket.create_connection((host, int(port)), 10) as outer:
            inner.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            _tunnel(inner, outer)

    with serving(handle) as port:
        yield port


def _tunnel(one: socket.socket, other: socket.socket) -> None:
    with selectors.DefaultSelector() as selector:
        for source, target in ((one, other), (other, one)):
            selector.register(source, selectors.EVENT_READ, target)
        while True:
            for key, _ in selector.select(10):
                data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                if not data:
                    return
                key.data.sendall(data)


@contextmanager
def silence() -> Iterator[str]:
    """Takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"


def closed_port() -> int:
    """A port that no one listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port
