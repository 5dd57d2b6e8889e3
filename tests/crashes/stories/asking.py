"""Agents that ask agents: an answer is passed on once, or its thread is told that it is not."""

from collections import Counter
from typing import Final

from dispatch.ids import ThreadId
from dispatch.payloads.chat import Chat
from dispatch.payloads.signals import Completed, HopLimit, Queued
from dispatch.streams import entries
from tests.crashes.play import Play
from tests.crashes.stories.story import Story


async def asking(play: Play) -> None:
    """What one says wakes three; two says the same, and may wake nobody."""
    thread_id = await play.open_thread()
    await play.post(thread_id, "ask", key="first", mentions=("two",))
    await play.workers()
    play.checks.append(lambda: _check(play, thread_id))


async def _check(play: Play, thread_id: ThreadId) -> None:
    found = [
        each.payload
        for each in await entries.page(play.world.doors.wire, thread_id, limit=1000)
    ]
    one, two, three = (str(each.id) for each in play.world.agents)
    asked = {each.dispatch_id: each.agent_id for each in found if isinstance(each, Queued)}
    ended = {each.dispatch_id for each in found if isinstance(each, Completed)}
    replies = Counter(e.client_key for e in found if isinstance(e, Chat) and e.hops)
    told = Counter(each.dispatch_id for each in found if isinstance(each, HopLimit))
    by_agent = {agent: {d for d in ended if asked[d] == agent} for agent in (one, two)}
    assert replies == Counter(f"reply:{each}" for each in by_agent[one]), "passed on once"
    assert told == Counter(by_agent[two]), "told once that it was not"
    woken = [agent for agent in asked.values() if agent == three]
    assert len(woken) == len(by_agent[one]), "whoever is asked is dispatched, once"


STORIES: Final = (Story("agents that ask agents", asking, {"completed": 3}),)
