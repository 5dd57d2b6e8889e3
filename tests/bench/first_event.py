"""From the POST to what a follower sees of the run: API, Redis, one real worker, all idle.

The floor has no HTTP, no record and no framework: LPUSH, a process on BRPOP that XADDs, and a
follower on XREAD. Between two posts there is a pause, as between two people's messages.
"""

import asyncio
import random
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

from tests.bench import floor_worker, machine
from tests.bench.accept import new_paths
from tests.bench.figures import Goal, Row
from tests.bench.stage import Scale, Stage, System, tell
from tests.bench.wire import HttpSocket, RedisSocket, connect, follow_request, post_request
from tests.system.houses import found_casa

PAUSE_SECONDS = (0.02, 0.03)
_random = random.Random(1)  # noqa: S311 — pauses, not secrets
BODY = b'{"text":"ping"}'
STARTED, CHUNK = b'"signal.dispatch.started"', b'"pi.chunk"'
ENDED, CONTROL = b'"signal.dispatch.completed"', b"event: control"
FLOOR = "LPUSH, BRPOP, XADD, XREAD"


def measure(stage: Stage, scale: Scale) -> list[Row]:
    goals = (Goal("p50", 5.0), Goal("p99", 25.0))
    started = Row("POST → run started, at a follower", "ms", goals, against=FLOOR)
    chunk = Row("POST → first chunk, at a follower", "ms", against=FLOOR)
    with (
        stage.system("first_event") as system,
        _ours(system) as ours,
        closing(_Floor(system)) as floor,
    ):
        ours.follow()
        for _ in range(scale.of(20, 2)):
            ours.post()
            floor.post()
        for number in range(scale.rounds):
            tell(f"first event: round {number + 1} of {scale.rounds}")
            posts = scale.of(80, 3)
            ours.follow()
            floors = [floor.post() for _ in range(posts)]
            seen = [ours.post() for _ in range(posts)]
            started.add(ours=[each[0] for each in seen], floor=floors)
            chunk.add(ours=[each[1] for each in seen], floor=floors)
    return [started, chunk]


@contextmanager
def _ours(system: System) -> Iterator["_Ours"]:
    api = system.start_api()
    machine.pin(system.processes.start_worker().pid, system.stage.core)
    token, path = asyncio.run(_found(system))
    with closing(_Ours(api.port, token, path)) as ours:
        yield ours


async def _found(system: System) -> tuple[str, str]:
    async with found_casa(system.settings) as casa:
        return casa.token, (await new_paths(casa, 1))[0]


class _Ours:
    """One person who posts and follows the same thread."""

    def __init__(self, port: int, token: str, path: str) -> None:
        self._port = port
        self._client = HttpSocket(port)
        self._request = post_request(path, token=token, body=BODY)
        stream = path.replace("/entries", "/stream?live=sse&offset=")
        self._follow_request = follow_request(f"{stream}now", token=token)
        self._client.send(self._request)
        self._follower = connect(port)
        self._follower.sendall(follow_request(f"{stream}-1", token=token))
        self._seen({ENDED: 0.0})

    def follow(self) -> None:
        """Follow afresh from now on: an SSE answer ends after a minute."""
        self._follower.close()
        self._follower = connect(self._port)
        self._follower.sendall(self._follow_request)
        self._seen({CONTROL: 0.0})

    def post(self) -> tuple[float, float]:
        """Post once; return milliseconds until the start and the first chunk were seen."""
        time.sleep(_random.uniform(*PAUSE_SECONDS))
        began = time.perf_counter()
        self._client.socket.sendall(self._request)
        seen = self._seen(dict.fromkeys((STARTED, CHUNK, ENDED), 0.0))
        status, answer = self._client.read()
        assert status == 201, answer
        return 1e3 * (seen[STARTED] - began), 1e3 * (seen[CHUNK] - began)

    def _seen(self, wanted: dict[bytes, float]) -> dict[bytes, float]:
        """Read the stream until all that is wanted was in it; tell when each was."""
        text = b""
        while not all(wanted.values()):
            received = self._follower.recv(65536)
            now = time.perf_counter()
            assert received, "the stream ended"
            text += received
            for mark, at in wanted.items():
                if not at and mark in text:
                    wanted[mark] = now
        return wanted

    def close(self) -> None:
        self._follower.close()
        self._client.close()


_LINES = 13
"""Of the reply to an XREAD that found one entry of one field; it may come in pieces."""


class _Floor:
    """The same with bare sockets."""

    def __init__(self, system: System) -> None:
        url = system.settings.stream_url.get_secret_value()
        process = system.processes.start("tests.bench.floor_worker", url)
        machine.pin(process.pid, system.stage.core)
        self._poster, self._follower = RedisSocket(url), RedisSocket(url)
        self._last = b"0-0"

    def post(self) -> float:
        time.sleep(_random.uniform(*PAUSE_SECONDS))
        self._follower.send("XREAD", "BLOCK", "0", "STREAMS", floor_worker.STREAM, self._last)
        began = time.perf_counter()
        self._poster.send("LPUSH", floor_worker.QUEUE, BODY)
        reply = self._follower.socket.recv(65536)
        took = 1e3 * (time.perf_counter() - began)
        self._poster.socket.recv(100)
        # *1 *2 $n key *1 *2 $n id *2 $n p $n payload: the id is the seventh line's successor.
        while reply.count(b"\r\n") < _LINES:
            rest = self._follower.socket.recv(65536)
            assert rest, reply
            reply += rest
        self._last = reply.split(b"\r\n")[7]
        return took

    def close(self) -> None:
        self._poster.close()
        self._follower.close()
