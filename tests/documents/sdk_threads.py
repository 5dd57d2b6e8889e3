"""Our ThreadManager over the real arc-sdk's client, in a process of its own.

`import arc` changes its process's environment. `python sdk_threads.py <endpoint> <token>`
prints one line of JSON: what was seen.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable
from typing import Any

from arc import Client

from dispatch.client import ArcRefusal, ThreadManager
from dispatch.errors import ArbeError, Unavailable

AGENT = "demo"


def message(text: str) -> dict[str, Any]:
    return {"role": "user", "parts": [{"type": "TextPart", "content": text}]}


def text_of(answer: Any) -> str:
    return answer.to_dict()["result"]["chat"]["message"]["parts"][0]["content"]


async def streamed(threads: ThreadManager, agent: str, text: str) -> dict[str, Any]:
    events = [
        each async for each in await threads.send_to_agent(agent, message(text), stream=True)
    ]
    said = [each.data["message"]["parts"][0] for each in events if each.event == "content"]
    return {
        "words": "".join(part["content"] for part in said),
        "last": events[-1].event,
        "code": events[-1].data.get("error", {}).get("code"),
    }


async def failure(call: Awaitable[Any]) -> list[Any]:
    try:
        return ["nothing", await call]
    except ArbeError as error:
        code = error.arc_code if isinstance(error, ArcRefusal) else None
        return [type(error).__name__, code]


async def see(client: Client, absent: Client, stranger: Client) -> dict[str, Any]:
    threads = ThreadManager(client)
    seen: dict[str, Any] = {"first contact": await streamed(threads, AGENT, "say: a b c")}
    chat_id = threads.get_thread_id(AGENT)
    second = await threads.send_message(AGENT, message("say: two"))
    seen["second"] = [text_of(second), second.result["chat"]["chatId"] == chat_id]
    threads.store_thread_id(AGENT, "lost")
    seen["lost"] = text_of(await threads.send_to_agent(AGENT, message("say: healed")))
    await client.chat.end(AGENT, threads.get_thread_id(AGENT))
    seen["closed"] = await streamed(threads, AGENT, "say: healed too")
    threads.store_thread_id(AGENT, "lost")
    seen["lost stream"] = await streamed(threads, AGENT, "say: healed again")
    fresh = ThreadManager(client)
    five = await asyncio.gather(
        *(fresh.send_to_agent(AGENT, message(f"say: {number}")) for number in range(5))
    )
    seen["five"] = len({each.result["chat"]["chatId"] for each in five})
    seen["unknown agent"] = await failure(threads.send_to_agent("nobody", message("x")))
    seen["unknown agent streamed"] = await streamed(threads, "nobody", "x")
    seen["invalid"] = await failure(threads.send_to_agent(AGENT, {"role": "user"}))
    seen["failed"] = await failure(threads.send_to_agent(AGENT, message("fail: ink")))
    seen["bad token"] = await failure(
        ThreadManager(stranger).send_to_agent(AGENT, message("x"))
    )
    nowhere = ThreadManager(absent)
    nowhere.store_thread_id(AGENT, "x")
    seen["absent"] = await failure(nowhere.send_to_agent(AGENT, message("x")))
    seen["absent ended"] = [await nowhere.end_all_chats(), nowhere.get_all_agents()]
    try:
        await streamed(nowhere, AGENT, "x")
    except Unavailable:
        seen["absent stream"] = "Unavailable"
    seen["agents"] = threads.get_all_agents()
    seen["ended"] = await threads.end_all_chats("bye")
    seen["ended again"] = await threads.cleanup_all()
    await fresh.cleanup_all()
    return seen


async def main(endpoint: str, token: str) -> None:
    async with (
        Client(endpoint=endpoint, token=token) as client,
        Client(endpoint="http://127.0.0.1:9/arc", token=token) as absent,
        Client(endpoint=endpoint, token="arbe_owner_none") as stranger,
    ):
        print(json.dumps(await see(client, absent, stranger)))  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
