"""The least that accepts an entry: a Starlette route and one XADD, on our uvicorn settings."""

import sys

import uvicorn
from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


def main(port: int, url: str) -> None:
    client = Redis.from_url(url)

    async def post(request: Request) -> Response:
        entry_id = await client.xadd("floor-accept", {"p": await request.body()})
        return Response(b'{"id":"%s"}' % entry_id, 201, media_type="application/json")

    config = uvicorn.Config(
        Starlette(routes=[Route("/", post, methods=["POST"])]),
        port=port,
        loop="uvloop",
        http="httptools",
        log_config=None,
        access_log=False,
        server_header=False,
    )
    uvicorn.Server(config).run()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
