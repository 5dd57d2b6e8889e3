"""Blocking clients on bare sockets: they cost next to nothing beside what they measure."""

import contextlib
import socket
from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote, urlsplit

HOST: Final = "127.0.0.1"
TIMEOUT_SECONDS: Final = 20.0
HEAD_END: Final = b"\r\n\r\n"


def connect(port: int) -> socket.socket:
    """Open a socket that sends at once and gives up in time."""
    opened = socket.create_connection((HOST, port), timeout=TIMEOUT_SECONDS)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return opened


def post_request(path: str, *, token: str, body: bytes) -> bytes:
    """Make a POST of JSON as bytes."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def follow_request(path: str, *, token: str) -> bytes:
    """Make a GET of an SSE stream as bytes."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {token}\r\n"
        "Accept: text/event-stream\r\n\r\n"
    ).encode()


class HttpSocket:
    """One kept-alive connection; one request at a time."""

    def __init__(self, port: int) -> None:
        self.socket = connect(port)

    @staticmethod
    def answers(port: int) -> bool:
        """Tell whether a server answers there, whatever it says."""
        with contextlib.suppress(OSError), contextlib.closing(HttpSocket(port)) as client:
            client.socket.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            return client.read()[0] > 0
        return False

    def send(self, request: bytes) -> tuple[int, bytes]:
        """Send a request and return status and body."""
        self.socket.sendall(request)
        return self.read()

    def read(self) -> tuple[int, bytes]:
        """Read one answer that has a Content-Length."""
        answer = self._more()
        while (end := answer.find(HEAD_END)) < 0:
            answer += self._more()
        head, body = answer[:end], answer[end + len(HEAD_END) :]
        length = content_length(head)
        while len(body) < length:
            body += self._more()
        return int(head[9:12]), body

    def close(self) -> None:
        self.socket.close()

    def _more(self) -> bytes:
        received = self.socket.recv(65536)
        if not received:
            raise ConnectionResetError("the server hung up")
        return received


class RedisSocket:
    """One connection to Redis that sends commands and takes raw replies."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.socket = connect(parts.port or 6379)
        if parts.password:
            self.call("AUTH", unquote(parts.password))

    def send(self, *arguments: str | bytes) -> None:
        self.socket.sendall(resp(arguments))

    def call(self, *arguments: str | bytes) -> bytes:
        """Send a command and return its reply, which must fit one read."""
        self.send(*arguments)
        return self.socket.recv(65536)

    def close(self) -> None:
        self.socket.close()


def resp(arguments: Iterable[str | bytes]) -> bytes:
    """Write a command in Redis's protocol."""
    raw = [part.encode() if isinstance(part, str) else part for part in arguments]
    return b"*%d\r\n" % len(raw) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in raw)


def content_length(head: bytes) -> int:
    """Read the length of the body from an answer's head."""
    _, found, rest = head.lower().partition(b"content-length:")
    return int(rest.split(b"\r\n", 1)[0]) if found else 0
