"""Post an entry with the async library, and read the agent's answer as it comes.

export ARBE_URL=http://127.0.0.1:8700 ARBE_TOKEN=…      # `arbe up` prints both
python examples/http_producer.py @demo "run: uname -a"
"""

import asyncio
import os
import sys

from dispatch.client import Client


async def main(ref: str, text: str) -> int:
    async with Client(os.environ["ARBE_URL"], os.environ["ARBE_TOKEN"]) as client:
        posted = await client.entries.create(ref, text)
        waiting = {dispatch["id"] for dispatch in posted["dispatches"]}
        async for entry in client.entries.follow(
            posted["threadId"], after=posted["entry"]["id"]
        ):
            payload = entry["payload"]
            match payload["type"]:
                case "pi.chunk" if payload["kind"] in {"text", "toolOutput"}:
                    print(payload["delta"], end="", flush=True)
                case "signal.dispatch.failed" if payload["dispatchId"] in waiting:
                    print(f"failed: {payload['reason']} {payload.get('message', '')}")
                    return 2
                case "signal.dispatch.completed" | "signal.dispatch.cancelled":
                    waiting.discard(payload["dispatchId"])
            if not waiting:
                print()
                return 0
    return 1  # the thread was deleted


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:3])))
