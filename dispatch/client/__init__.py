"""The HTTP client library: an async `Client`, chats by agent, one synchronous door for posting.

    async with Client(url, token) as client:
        posted = await client.entries.create("@demo", "hello")
        async for entry in client.entries.follow(posted["threadId"]):
            ...

    post_entry("@demo", "hello", key="order-17")      # from Django, Flask, a script

    threads = ThreadManager(client)                   # ARC chats, one with each agent
    answer = await threads.send_to_agent("@demo", {"role": "user", "parts": [...]})

Every call that changes something is made once, however often a bad line makes it be sent: it
carries an `Idempotency-Key`, yours (`key=`) or its own.

Answers are the wire's JSON as plain dicts (docs: `/docs` of a running API). Errors are those of
`dispatch.errors`, whatever the transport did.
"""

from dispatch.client.arc_answers import ARCEvent, ArcRefusal, ARCResponse
from dispatch.client.blocking import post_entry
from dispatch.client.connection import Json
from dispatch.client.session import Client
from dispatch.client.thread_manager import ThreadManager

__all__ = [
    "ARCEvent",
    "ARCResponse",
    "ArcRefusal",
    "Client",
    "Json",
    "ThreadManager",
    "post_entry",
]
