"""Threads made by people and services, once, whatever dies under the call."""

from typing import Final

from dispatch.operations import create_thread, post_as_service, post_to_agent
from dispatch.operations.create_thread import CreatedThread, ThreadDraft
from dispatch.operations.post_as_service import ServiceEntry
from dispatch.operations.post_entry import Draft
from dispatch.streams.threads import Accepted
from tests.crashes.play import Play, new_key
from tests.crashes.stories.story import Story


async def created(play: Play) -> None:
    """Create with a key and a first message; a repeat converges on one thread, one entry."""
    name = new_key()
    draft = ThreadDraft(parent=f"@{play.world.agents[0].handle}", key=name, message="say")
    who = play.world.who
    play.posted["first"] = False
    made = await play.client(
        lambda record: create_thread.create_thread(record, who, draft, entry_key="first")
    )
    if isinstance(made, CreatedThread):
        play.threads.append(made.thread.id)
        play.posted["first"] = True
    play.expect_rows("key", name, is_heard=isinstance(made, CreatedThread))
    await play.workers()


async def created_over_http(play: Play) -> None:
    """The same by HTTP, where an Idempotency-Key is all that ties two calls together."""
    await play.post_thread_over_http(parent="@one", message="say")
    await play.workers()


async def direct(play: Play) -> None:
    """Post to an agent: its direct thread is found, or made."""
    who, agent = play.world.who, play.world.agents[1]
    await play.world.forget_direct(agent)
    play.posted["first"] = False
    heard = await play.client(
        lambda record: post_to_agent.post_to_agent(
            record, who, agent.id, Draft("say"), key="first"
        )
    )
    if isinstance(heard, post_to_agent.PostedToAgent):
        play.posted["first"] = True
    await play.workers()


async def service(play: Play) -> None:
    """A message of the broker, which is delivered until it is acknowledged."""
    thread_id = await play.open_thread()
    message = ServiceEntry(thread_id=thread_id, draft=Draft("say"), key="first", service="s")
    play.posted["first"] = False
    heard = await play.client(
        lambda record: post_as_service.post_as_service(record, message), name="producer"
    )
    if isinstance(heard, Accepted):
        play.posted["first"] = True
    await play.workers()


STORIES: Final = (
    Story("thread with key and message", created, {"completed": 1}),
    Story("thread by HTTP under a key", created_over_http, {"completed": 1}),
    Story("entry to an agent", direct, {"completed": 1}),
    Story("entry of a service", service, {"completed": 1}),
)
