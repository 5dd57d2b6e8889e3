"""Entries whose agent is busy: what each policy makes of them."""

from typing import Final

from dispatch.models.houses import WhenBusy
from dispatch.operations import withdraw
from dispatch.streams.threads import Accepted
from tests.crashes.play import Play
from tests.crashes.stories.story import Story


async def _second_while_running(play: Play, when_busy: WhenBusy, text: str) -> None:
    thread_id = await play.open_thread()
    await play.post(thread_id, text, key="first")
    worker = await play.worker_to_gate()
    await play.post(thread_id, "say", key="second", when_busy=when_busy)
    await play.let_through(worker)
    await play.workers()


async def interrupt(play: Play) -> None:
    await _second_while_running(play, "interrupt", "say gate say")


async def rollback(play: Play) -> None:
    await _second_while_running(play, "rollback", "say gate say")


async def steer(play: Play) -> None:
    """The running turn takes the entry in at its next step."""
    await _second_while_running(play, "steer", "say gate steer say")


async def fall_through(play: Play) -> None:
    """The running turn never asks, so the entry becomes a turn of its own."""
    await _second_while_running(play, "steer", "say gate say")


async def write(play: Play) -> None:
    await _second_while_running(play, "write", "say gate say")


async def reject(play: Play) -> None:
    await _second_while_running(play, "reject", "say gate say")


async def withdrawn(play: Play) -> None:
    """Waits behind a running turn, and is taken back."""
    thread_id = await play.open_thread()
    await play.post(thread_id, "say gate say", key="first")
    worker = await play.worker_to_gate()
    accepted = await play.post(thread_id, "tool", key="second")
    if isinstance(accepted, Accepted):
        entry_id, who = accepted.entry_id, play.world.who
        await play.client(lambda record: withdraw.withdraw(record, who, thread_id, entry_id))
    await play.let_through(worker)
    await play.workers()


STORIES: Final = (
    Story("interrupt", interrupt, {"cancelled interrupted": 1, "completed": 1}),
    Story("rollback", rollback, {"cancelled rolled_back": 1, "completed": 1}),
    Story("steer", steer, {"steered": 1, "completed": 1}),
    Story("steer that falls through", fall_through, {"completed": 2}),
    Story("write", write, {"completed": 1}),
    Story("reject", reject, {"completed": 1}),
    Story("withdraw", withdrawn, {"cancelled withdrawn": 1, "completed": 1}),
)
