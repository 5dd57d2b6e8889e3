"""The real arc-sdk against a server, in a process of its own: `import arc` changes its process.

`python sdk.py <endpoint> <token> <scenario>` prints one line of JSON: what the client saw.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from arc import Client
from arc.client import ThreadManager
from arc.exceptions import ARCException

AGENT = "demo"


def message(text: str) -> dict[str, Any]:
    return {"role": "user", "parts": [{"type": "TextPart", "content": text}]}


def text_of(answer: dict[str, Any]) -> str:
    return answer["result"]["chat"]["message"]["parts"][0]["content"]


def id_of(answer: dict[str, Any]) -> str:
    return answer["result"]["chat"]["chatId"]


async def failure(call: Awaitable[Any]) -> list[Any]:
    """Name the exception and the code that a call ends with."""
    try:
        return ["nothing", await call]
    except ARCException as error:
        return [type(error).__name__, getattr(error, "code", None)]


async def events(call: Awaitable[Any]) -> list[list[Any]]:
    return [[each["event"], each["data"]] async for each in await call]


def words(heard: list[list[Any]]) -> str:
    return "".join(
        data["message"]["parts"][0]["content"] for name, data in heard if name == "stream"
    )


async def talk(client: Client) -> dict[str, Any]:
    """Start, message, stream, end."""
    started = await client.chat.start(AGENT, message("say: one"), trace_id="t-1")
    chat_id = id_of(started)
    second = await client.chat.message(AGENT, chat_id, message("say: two"))
    streamed = await events(
        client.chat.message(AGENT, chat_id, message("say: a b c d e"), stream=True)
    )
    ended = await client.chat.end(AGENT, chat_id, reason="enough")
    return {
        "texts": [text_of(started), text_of(second), words(streamed)],
        "trace": started["traceId"],
        "type": started["result"]["type"],
        "last": streamed[-1][0],
        "ended": ended["result"]["chat"]["status"],
        "reason": ended["result"]["chat"]["reason"],
        "after end": await failure(client.chat.message(AGENT, chat_id, message("x"))),
        "end twice": await failure(client.chat.end(AGENT, chat_id)),
    }


async def first_contact(client: Client) -> dict[str, Any]:
    """Stream the first answer; the chat's id comes with it, and the chat goes on."""
    heard = await events(client.chat.start(AGENT, message("say: a b c"), stream=True))
    ids = {data["chatId"] for _, data in heard}
    chat_id = ids.pop()
    next_one = await client.chat.message(AGENT, chat_id, message("say: next"))
    return {
        "words": words(heard),
        "last": heard[-1][0],
        "one id": not ids,
        "next": text_of(next_one),
        "refused": [
            [name, data.get("error", {}).get("code")]
            for name, data in await events(
                client.chat.message(AGENT, "no-such", message("x"), stream=True)
            )
        ],
    }


async def refusals(client: Client) -> dict[str, Any]:
    bad = Client(client.endpoint, token="arbe_owner_none")
    try:
        return {
            "unknown chat": await failure(client.chat.message(AGENT, "none", message("x"))),
            "unknown chat ended": await failure(client.chat.end(AGENT, "none")),
            "unknown agent": await failure(client.chat.start("nobody", message("x"))),
            "invalid params": await failure(client.chat.start(AGENT, {"role": "user"})),
            "unknown method": await failure(client.send_request("chat.stop", AGENT, {})),
            "unknown task": await failure(client.task.info(AGENT, "none")),
            "failed turn": await failure(client.chat.start(AGENT, message("fail: ink"))),
            "bad token": await failure(bad.chat.start(AGENT, message("x"))),
            "too large": await failure(client.chat.start(AGENT, message("x" * 300_000))),
        }
    finally:
        await bad.close()


async def fifty(client: Client) -> dict[str, Any]:
    started = await asyncio.gather(
        *(client.chat.start(AGENT, message(f"say: {number}")) for number in range(50))
    )
    return {
        "ids": len({id_of(each) for each in started}),
        "texts": sorted(int(text_of(each)) for each in started),
    }


async def manager(client: Client) -> dict[str, Any]:
    """Its ThreadManager: reuse, healing of a lost chat, cleaning up."""
    threads = ThreadManager(client)
    first = await threads.send_to_agent(AGENT, message("say: one"))
    second = await threads.send_to_agent(AGENT, message("say: two"), trace_id="t")
    reused = id_of(first) == id_of(second) == threads.get_thread_id(AGENT)
    threads.store_thread_id(AGENT, "lost")
    healed = await threads.send_to_agent(AGENT, message("say: three"))
    streamed = await events(threads.send_to_agent(AGENT, message("say: four"), stream=True))
    kept = threads.get_thread_id(AGENT)
    return {
        "reused": reused,
        "healed": [text_of(healed), id_of(healed) == kept, kept != "lost"],
        "streamed": words(streamed),
        "agents": threads.get_all_agents(),
        "cleaned": await threads.cleanup_all(),
        "left": threads.has_thread(AGENT),
        "closed": await failure(client.chat.message(AGENT, kept, message("x"))),
    }


async def tasks(client: Client) -> dict[str, Any]:
    made = await client.task.create(AGENT, message("say: done"), priority="HIGH")
    task = made["result"]["task"]
    task_id, status = task["taskId"], task["status"]
    while status not in {"COMPLETED", "FAILED", "CANCELED"}:
        await asyncio.sleep(0.1)
        info = (await client.task.info(AGENT, task_id))["result"]["task"]
        status = info["status"]
    long = await client.task.create(AGENT, message("sleep: 600"))
    long_id = long["result"]["task"]["taskId"]
    cancelled = await client.task.cancel(AGENT, long_id, reason="changed")
    return {
        "created": task["status"],
        "ended": status,
        "said": [part["content"] for each in info["messages"] for part in each["parts"]],
        "roles": [each["role"] for each in info["messages"]],
        "cancelled": cancelled["result"]["task"]["status"],
        "sent too late": await failure(client.task.send(AGENT, task_id, message("x"))),
        "cancelled late": await failure(client.task.cancel(AGENT, task_id)),
        "cancelled twice": await failure(client.task.cancel(AGENT, long_id)),
        "subscribed": (await client.task.subscribe(AGENT, task_id, "https://example.com/hook"))[
            "result"
        ]["subscription"]["events"],
        "subscribed inside": await failure(
            client.task.subscribe(AGENT, task_id, "http://169.254.169.254/")
        ),
    }


SCENARIOS: dict[str, Callable[[Client], Awaitable[dict[str, Any]]]] = {
    each.__name__: each for each in (talk, first_contact, refusals, fifty, manager, tasks)
}


async def main(endpoint: str, token: str, scenario: str) -> None:
    async with Client(endpoint=endpoint, token=token) as client:
        print(json.dumps(await SCENARIOS[scenario](client)))  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
