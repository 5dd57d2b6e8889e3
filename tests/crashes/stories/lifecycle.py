"""Threads whose time is over, removed by a sweep or by people, whatever dies under it."""

from typing import Final

from dispatch.ids import ThreadId
from dispatch.models.cleanups import Cleanup
from dispatch.operations import cleanup
from tests.crashes.play import Play, new_key
from tests.crashes.stories.story import Story
from workers.sweeps import expire

_LATER_SECONDS: Final = 10.0
"""Below every clock of a turn, which may still be waiting when its worker died."""


async def expired(play: Play) -> None:
    """A sweep removes it, with a sub-job below it; one that dies is followed by the next."""
    thread_id = await _family(play)
    await play.world.admin.execute(
        "update threads set expires_at = now() - interval '1 minute' where id = %s",
        [thread_id],
    )
    play.deleted.update(play.threads)
    await play.keeper(expire)


async def cleaned_up(play: Play) -> None:
    """A member cleans up once; a client that is not answered may go away."""
    await _family(play)
    tag = new_key()  # rows of other plays are in the house too
    await play.world.admin.execute(
        "update threads set tags = array[%s] where id = any(%s)", [tag, play.threads]
    )
    await play.pass_seconds(_LATER_SECONDS)
    who, where = play.world.who, Cleanup(older_than_seconds=_LATER_SECONDS / 2, tag=tag)
    await play.client(lambda record: cleanup.clean_up(record, who, where))


async def _family(play: Play) -> ThreadId:
    thread_id = await play.open_thread()
    child_id = await play.open_child(thread_id)
    play.maybe_deleted.update({thread_id, child_id})
    await play.post(thread_id, "say", key="first")
    await play.workers()
    return thread_id


STORIES: Final = (
    Story("a thread that has expired", expired, {}),
    Story("a cleanup of old threads", cleaned_up, {}),
)
