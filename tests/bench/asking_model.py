"""The least that asks a model: one call over a client that the whole process shares.

The floor is this alone, in one process; ours is this as an agent of the `python` runner.
"""

import asyncio
import os
import sys
from functools import cache

import httpx

from workers.agents.python import Turn

URL_NAME = "BENCH_MODEL_URL"
"""The environment variable that says where the model is."""
PATIENCE_SECONDS = 600.0


@cache
def _client() -> httpx.AsyncClient:
    """Return the process's one client: no limit on connections."""
    return httpx.AsyncClient(
        base_url=os.environ[URL_NAME],
        timeout=PATIENCE_SECONDS,
        limits=httpx.Limits(max_connections=None),
        trust_env=False,
    )


async def ask(text: str) -> str:
    """Ask, and wait for the whole answer."""
    asked = {"model": "patient", "messages": [{"role": "user", "content": text}]}
    answer = await _client().post("/chat/completions", json=asked)
    said: str = answer.raise_for_status().json()["choices"][0]["message"]["content"]
    return said


async def agent(turn: Turn) -> str:
    """Be the agent."""
    return await ask(turn.text)


async def main(count: int) -> None:
    """Be the floor: ask once, and when that was answered as often as was said, all at once."""
    await ask("ping")
    await asyncio.gather(*(ask("ping") for _ in range(count)))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
