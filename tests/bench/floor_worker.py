"""The least that takes work and tells of it: BRPOP, then XADD, on one bare socket."""

import sys

from tests.bench.wire import RedisSocket, resp

QUEUE, STREAM = "floor:queue", "floor:stream"
STARTED = b'{"type":"signal.dispatch.started","runId":"0123456789ab","workerId":"floor.1.aa"}'


def main(url: str) -> None:
    client = RedisSocket(url)
    client.socket.settimeout(None)
    take = resp(("BRPOP", QUEUE, "0"))
    tell = resp(("XADD", STREAM, "*", "p", STARTED))
    while True:
        client.socket.sendall(take)
        client.socket.recv(65536)
        client.socket.sendall(tell)
        client.socket.recv(65536)


if __name__ == "__main__":
    main(sys.argv[1])
