"""Accepting an entry: POST → 201 through the real API, against a bare app with one XADD.

Every post wakes an agent, so its hint is sent too; no worker takes it. Threads are fresh and
few posts go to each, since a lane's queue has a limit. The same clients drive both sides.
"""

import asyncio
import time
from collections.abc import Callable, Sequence

import redis

from tests.bench import load
from tests.bench.figures import Goal, Row
from tests.bench.stage import Scale, Served, Stage, System, tell
from tests.bench.wire import HttpSocket, post_request
from tests.system.houses import Casa, found_casa

BODY = b'{"text":"How many words has this line, and who counts them?"}'
POSTS_PER_THREAD = 80
"""Below the queue's limit of 100, with the post that opens the stream."""
FLOOR = "Starlette + one XADD"


def measure(stage: Stage, scale: Scale) -> list[Row]:
    alone = Row("accept, 1 connection", "µs", (Goal("ratio", 2.5),), against=FLOOR)
    busy = {
        connections: Row(f"accept, {connections} connections", "requests/s", against=FLOOR)
        for connections in (16, 32)
    }
    with stage.system("accept") as system:
        ours = system.start_api()
        url = system.settings.stream_url.get_secret_value()
        floor = system.start_floor("floor_accept", url)
        posts = _Posts(system, ours)
        bare = post_request("/", token="none", body=BODY)
        for number in range(scale.rounds):
            tell(f"accept: round {number + 1} of {scale.rounds}")
            count = scale.of(400, 10)
            alone.add(
                floor=_one_by_one(floor.port, [bare] * count),
                ours=_one_by_one(ours.port, posts.make(count)),
            )
            for connections, row in busy.items():
                count = scale.of(1_600, 64)
                row.add(
                    floor=[load.rate(floor.port, [bare] * count, connections=connections)],
                    ours=[load.rate(ours.port, posts.make(count), connections=connections)],
                )
    return [alone, *busy.values()]


class _Posts:
    """Makes requests to threads that are open and remembered by the API."""

    def __init__(self, system: System, api: Served) -> None:
        self._system = system
        self._port = api.port

    def make(self, count: int) -> list[bytes]:
        threads = max(1, -(-count // POSTS_PER_THREAD))
        token, paths = asyncio.run(self._new_threads(threads))
        requests = [post_request(path, token=token, body=BODY) for path in paths]
        client = HttpSocket(self._port)
        for request in requests:
            status, answer = client.send(request)
            assert status == 201, answer
        client.close()
        self._forget_hints()
        return [requests[index % threads] for index in range(count)]

    async def _new_threads(self, count: int) -> tuple[str, list[str]]:
        async with found_casa(self._system.settings) as casa:
            return casa.token, await new_paths(casa, count)

    def _forget_hints(self) -> None:
        """Nobody takes them: they would only fill Redis."""
        with redis.Redis.from_url(self._system.settings.broker) as broker:
            broker.flushdb()


async def new_paths(casa: Casa, count: int) -> list[str]:
    """Make direct threads with the agent; return where to post."""
    return [f"/v1/threads/{await casa.dm()}/entries" for _ in range(count)]


def _one_by_one(port: int, requests: Sequence[bytes]) -> list[float]:
    """Return each answer's microseconds."""
    client = HttpSocket(port)
    took = [
        1e6 * _seconds(lambda request=request: client.send(request)) for request in requests
    ]
    client.close()
    return took


def _seconds(send: Callable[[], tuple[int, bytes]]) -> float:
    began = time.perf_counter()
    status, answer = send()
    took = time.perf_counter() - began
    assert status == 201, answer
    return took
