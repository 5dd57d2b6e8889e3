"""Post an entry with the async library, and read the agent's answer as it comes.

export ARBE_URL=http://127.0.0.1:8700 ARBE_TOKEN=…      # `arbe up` prints both
python examples/http_producer.py @demo "run: uname -a"
"""

import asyncio
import os
import sys
from typing import Any

from dispatch.client import Client


def text_of(message: dict[str, Any]) -> str:
    return "".join(part["text"] for part in message["content"] if part["type"] == "text")


async def main(ref: str, text: str) -> int:
    async with Client(os.environ["ARBE_URL"], os.environ["ARBE_TOKEN"]) as client:
        posted = await client.entries.create(ref, text)
        waiting = {dispatch["id"] for dispatch in posted["dispatches"]}
        heard: set[str] = set()
        async for entry in client.entries.follow(
            posted["threadId"], after=posted["entry"]["id"]
        ):
            payload = entry["payload"]
            match payload["type"]:
                case "pi.chunk" if payload["kind"] in {"text", "toolOutput"}:
                    heard.add(payload.get("toolCallId") or payload["messageId"])
                    print(payload["delta"], end="", flush=True)
                case "pi.assistant" | "pi.tool_result":
                    # Pieces go when the whole stands: who comes late hears the whole.
                    if payload.get("toolCallId", payload.get("messageId")) not in heard:
                        print(text_of(payload["message"]), end="", flush=True)
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
