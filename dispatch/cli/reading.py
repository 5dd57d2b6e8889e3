"""Read a thread to a person until its turns are over: history first, then live."""

import asyncio
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from typing import Final, NamedTuple

import msgspec

from dispatch import clock, payloads
from dispatch.cli import exits, rows
from dispatch.cli.doors import Door
from dispatch.cli.transcript import Piece, Transcript
from dispatch.cli.turns import Turns
from dispatch.client.connection import Json
from dispatch.errors import ArbeError, Gone, Invalid
from dispatch.ids import DISPATCH_ID


class NotOver(ArbeError):
    """The time given to wait is over, the turn is not."""

    code = "not_over"

    def __init__(self, thread: str, seconds: float) -> None:
        super().__init__(
            f"The turn had not ended after {seconds:g} s; it goes on.",
            next_step=f"Read on with `arbe thread entries read {thread}`, or see why it waits "
            f"with `arbe thread diagnose {thread}`.",
        )


_PASS_ON_SECONDS: Final = 15.0
"""An answer that names agents wakes them at once; if its worker died, a sweep lets it within
this time. After it, nobody was woken."""


class Reader:
    """Shows entries as they come and knows when to stop.

    Args: awaited: stop when these dispatches ended, or the turns that took them in, and those
    of the agents they asked; else when the thread has none open. stays: never stop.
    """

    def __init__(
        self,
        door: Door,
        people: "_People",
        *,
        thread: str,
        awaited: Collection[str],
        stays: bool,
    ) -> None:
        self.turns = Turns(awaited, people.listeners)
        self.patience = asyncio.timeout(None)
        """Ends the wait for an answer that wakes nobody."""
        self._output = door.output
        self._transcript = Transcript(self.turns, people.handles, thread=thread)
        self._stays = stays
        self._is_live = False

    @property
    def is_done(self) -> bool:
        """Tell whether what was waited for has come."""
        return self.turns.are_over and not self._stays

    def show(self, entry: Json) -> None:
        """Print what one more entry adds."""
        payload = _payload(entry)
        if payload is not None:
            self.turns.see(payload, at=entry["at"])
            self._limit_patience()
        if self._output.as_json:
            self._output.json(entry)
        elif payload is not None and self._concerns_us(payload):
            self._print(self._transcript.show(payload))

    def end(self) -> None:
        """Print what closes the page."""
        if not self._output.as_json:
            self._print(self._transcript.end())

    def go_live(self) -> None:
        """Note that all that stood there is shown."""
        self._is_live = True
        self._limit_patience()

    def _limit_patience(self) -> None:
        if not self._is_live or self._stays:
            return
        since = self.turns.asking_since
        if since is None:
            self.patience.reschedule(None)
            return
        seconds = _PASS_ON_SECONDS - clock.milliseconds(clock.now()) / 1000 + since / 1000
        # The thread's clock may differ from ours.
        left = min(max(seconds, 0.0), _PASS_ON_SECONDS)
        self.patience.reschedule(asyncio.get_running_loop().time() + left)

    def _concerns_us(self, payload: payloads.Payload) -> bool:
        """Tell whether an entry may belong to an awaited turn; other turns would confuse."""
        dispatch_id = getattr(payload, "dispatch_id", None)
        if dispatch_id is None:
            dispatch_id = (getattr(payload, "message_id", None) or "").partition(":")[0]
        return not DISPATCH_ID.match(dispatch_id) or self.turns.concerns(dispatch_id)

    def _print(self, pieces: list[Piece]) -> None:
        for piece in pieces:
            self._output.text(piece.text, piece.look)


async def read(
    door: Door,
    thread: str,
    *,
    after: str | None = None,
    awaited: Collection[str] = (),
    timeout_seconds: float | None = None,
    stays: bool = False,
) -> int:
    """Show a thread from a place on, until its turns are over; return the exit code.

    Raises: Gone, when the thread is deleted meanwhile; NotFound, Unavailable.
    """
    people = await _people(door, thread)
    reader = Reader(door, people, thread=thread, awaited=awaited, stays=stays)
    try:
        async with asyncio.timeout(timeout_seconds):
            await _show_all(door, reader, thread, after)
    except TimeoutError:
        reader.end()
        door.output.error(NotOver(thread, timeout_seconds or 0))
        return exits.STALLED
    finally:
        reader.end()
    outcome = reader.turns.outcome
    code = exits.OF_OUTCOME[outcome] if outcome else exits.OK
    if door.output.as_json:
        door.output.json({"threadId": thread, "outcome": outcome, "exitCode": code})
    return code


async def _show_all(door: Door, reader: Reader, thread: str, after: str | None) -> None:
    try:
        async with reader.patience, aclosing(_entries(door, thread, after, reader)) as entries:
            async for entry in entries:
                reader.show(entry)
    except TimeoutError:
        if not reader.patience.expired():
            raise


async def _entries(
    door: Door, thread: str, after: str | None, reader: Reader
) -> AsyncGenerator[Json]:
    async with aclosing(door.client.entries.history(thread, after=after)) as past:
        async for entry in past:
            yield entry
            after = entry["id"]
    if reader.is_done:
        return
    reader.go_live()
    async with aclosing(door.client.entries.follow(thread, after=after)) as live:
        async for entry in live:
            yield entry
            if reader.is_done:
                return
    raise Gone(thread)


class _People(NamedTuple):
    """Agents' handles by id: of the house, and of those whom an answer can wake here."""

    handles: dict[str, str]
    listeners: dict[str, str]


async def _people(door: Door, ref: str) -> _People:
    found, here, thread = await asyncio.gather(
        rows.every(door.client.agents.list, "agents"),
        door.client.threads.agents(ref),
        door.client.threads.get(ref),
    )
    handles = {agent["id"]: agent["handle"] for agent in found["agents"]}
    if thread.get("parentThreadId"):
        # What an agent says in a sub-job is its parent's alone.
        return _People(handles, {})
    modes = {each["agentId"]: each["triggerMode"] for each in here["agents"]}
    listening = {key: each for key, each in handles.items() if modes.get(key) != "never"}
    return _People(handles, listening)


def _payload(entry: Json) -> payloads.Payload | None:
    """Decode an entry's payload; None if that is impossible: one bad entry hides no other."""
    try:
        return payloads.decode(msgspec.json.encode(entry["payload"]))
    except Invalid:
        return None
