"""An engine that only answers: the few calls we make of its HTTP API, on a Unix socket.

It runs nothing. What a command prints and how it ends is said in advance; `asked` keeps what
was sent, so that a test sees what a real engine would have been told.
"""

import json
import re
import socketserver
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any


class FakeEngine:
    def __init__(self) -> None:
        self.asked: list[tuple[str, str, Any]] = []
        self.containers: dict[str, dict[str, Any]] = {}
        self.images = {"python:3.12-slim"}
        self.execs: dict[str, dict[str, Any]] = {}
        self.prints: list[bytes] = [b"hello\n"]
        self.exit_code = 0
        self.hangs = threading.Event()
        """Set by the engine when a hanging command is ended."""
        self.hang = False
        self.on_command: Callable[[], None] = lambda: None

    def bodies(self, path: str) -> list[Any]:
        return [body for _, asked, body in self.asked if re.search(path, asked)]

    def answer(  # noqa: PLR0911 - one per call of the API
        self, method: str, path: str, body: Any
    ) -> tuple[int, Any]:
        match method, path.split("?", maxsplit=1)[0].split("/")[1:]:
            case "GET", ["version"]:
                return 200, {"ApiVersion": "1.44", "MinAPIVersion": "1.24"}
            case "POST", ["containers", "create"]:
                return self._create(path.partition("name=")[2].partition("&")[0], body)
            case "GET", ["containers", "json"]:
                return 200, [{"Id": each} for each in self.containers]
            case _, ["containers", name, *rest]:
                if name not in self.containers:
                    return 404, {"message": f"No such container: {name}"}
                return self._container(method, name, rest, body)
            case "GET", ["exec", exec_id, "json"]:
                return 200, self.execs[exec_id]
            case "POST", ["images", "create"]:
                return 404, {"message": "no such image"}
            case _:
                return 404, {"message": f"nothing at {path}"}

    def _create(self, name: str, body: Any) -> tuple[int, Any]:
        if body["Image"] not in self.images:
            return 404, {"message": f"No such image: {body['Image']}"}
        if name in self.containers:
            return 409, {"message": "name in use"}
        state = {"Status": "created", "Running": False}
        self.containers[name] = {
            "Id": name,
            "Name": f"/{name}",
            "State": state,
            "Config": body,
            "ExecIDs": None,
        }
        return 201, {"Id": name}

    def _container(self, method: str, name: str, rest: list[str], body: Any) -> tuple[int, Any]:
        match method, rest:
            case "GET", ["json"]:
                return 200, self.containers[name]
            case "POST", ["start"]:
                self.containers[name]["State"] = {"Status": "running", "Running": True}
                return 204, None
            case "POST", ["exec"]:
                exec_id = f"exec{len(self.execs)}"
                self.execs[exec_id] = {"Running": True, "ExitCode": None, "Asked": body}
                return 201, {"Id": exec_id}
            case "DELETE", []:
                del self.containers[name]
                return 204, None
            case _:
                return 404, {"message": "nothing"}

    def output(self, exec_id: str) -> Iterator[bytes]:
        ran = self.execs[exec_id]
        if "ARBE_COMMAND" in str(ran["Asked"].get("Env")):
            self.on_command()
            yield from self.prints
            if self.hang:
                self.hangs.wait(10)
            ran |= {"Running": False, "ExitCode": self.exit_code}
            return
        ran |= {"Running": False, "ExitCode": 0}
        if "kill" in str(ran["Asked"]["Cmd"]):
            self.hangs.set()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    engine: FakeEngine

    def handle_any(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = json.loads(raw) if raw else None
        path = re.sub(r"^/v1\.\d+", "", self.path)
        self.engine.asked.append((self.command, path, body))
        if found := re.fullmatch(r"/exec/(\w+)/start", path):
            self._upgrade(found[1])
            return
        status, answer = self.engine.answer(self.command, path, body)
        encoded = b"" if answer is None else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    do_GET = do_POST = do_DELETE = handle_any  # noqa: N815

    def _upgrade(self, exec_id: str) -> None:
        self.close_connection = True
        self.send_response(101, "UPGRADED")
        self.send_header("Content-Type", "application/vnd.docker.raw-stream")
        self.send_header("Connection", "Upgrade")
        self.send_header("Upgrade", "tcp")
        self.end_headers()
        time.sleep(0.05)  # an engine starts the command only after its headers
        for piece in self.engine.output(exec_id):
            self.wfile.write(struct.pack(">BxxxL", 1, len(piece)) + piece)

    def address_string(self) -> str:
        return "engine"

    def log_message(self, *_: object) -> None:
        pass


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client may leave in the middle of an answer."""


@contextmanager
def serving(path: Path) -> Iterator[FakeEngine]:
    engine = FakeEngine()
    handler = type("Handler", (_Handler,), {"engine": engine})
    with _Server(str(path), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield engine
        finally:
            server.shutdown()
            thread.join()
