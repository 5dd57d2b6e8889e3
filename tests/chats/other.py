"""Another process with a ChatManager: does what each line of its input says, answers in one.

A line is `{"call": method, "each": [arguments, …]}`; the calls run all at once. An answer is a
list: a result, or the name of the error, for each.
"""

import asyncio
import json
import sys
from typing import Any

from dispatch.chats import ChatManager
from dispatch.errors import ArbeError
from tests.chats import doors


async def main(kind: str, url: str, name: str) -> None:
    async with doors.opened(kind, url, name) as storage:
        chats = ChatManager("other", storage)
        print("ready", flush=True)  # noqa: T201
        while line := await asyncio.to_thread(sys.stdin.readline):
            wanted = json.loads(line)
            answers = await asyncio.gather(
                *(tried(chats, wanted["call"], each) for each in wanted["each"])
            )
            print(json.dumps(answers), flush=True)  # noqa: T201


async def tried(chats: ChatManager, call: str, arguments: dict[str, Any]) -> Any:
    try:
        return await getattr(chats, call)(**arguments)
    except ArbeError as error:
        return type(error).__name__


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
