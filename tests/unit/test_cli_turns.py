"""When a reader has seen enough: the turns of a thread, as its entries tell them."""

import pytest

from dispatch.cli.turns import Turns
from dispatch.payloads.chat import Author, Chat
from dispatch.payloads.llm import Assistant
from dispatch.payloads.signals import (
    Cancelled,
    Completed,
    Failed,
    HopLimit,
    Queued,
    Steered,
)
from tests.unit.test_cli_transcript import DISPATCH, ENTRY, MESSAGE, queued


def test_turns_are_over_when_nothing_is_open_and_end_as_the_last_entry_did() -> None:
    later = "001700000000009_0000000000"
    turns = Turns()
    assert turns.are_over
    assert turns.outcome is None
    turns.see(queued())
    turns.see(queued(f"{later}.0"))
    turns.see(queued(f"{later}.1"))
    turns.see(Failed(dispatch_id=DISPATCH, reason="x"))
    assert not turns.are_over
    assert turns.outcome == "failed"
    turns.see(Completed(dispatch_id=f"{later}.0"))
    assert turns.open == [f"{later}.1"]
    turns.see(Cancelled(dispatch_id=f"{later}.1", reason="x"))
    assert turns.are_over
    assert turns.outcome == "cancelled"


def test_awaited_turns_are_over_whatever_else_is_open() -> None:
    turns = Turns([DISPATCH])
    turns.see(queued("001700000000009_0000000000.0"))
    assert not turns.are_over
    turns.see(Completed(dispatch_id=DISPATCH))
    assert turns.are_over
    assert turns.outcome == "completed"


def test_a_dispatch_that_was_taken_into_a_turn_is_followed_into_it() -> None:
    later = "001700000000009_0000000000"
    steering = f"{later}.0"
    turns = Turns([steering])
    turns.see(queued(steering))
    assert not turns.concerns(DISPATCH)
    turns.see(Steered(dispatch_id=steering, entry_id=later, into=DISPATCH, run_id="r", step=1))
    assert turns.concerns(DISPATCH)
    assert turns.concerns(steering)
    assert turns.agent_of(DISPATCH) == "a1"
    assert not turns.are_over
    turns.see(Failed(dispatch_id=DISPATCH, reason="x"))
    assert turns.are_over
    assert turns.outcome == "failed"


def test_what_was_taken_into_an_open_turn_is_not_open_itself() -> None:
    later = "001700000000009_0000000000"
    turns = Turns()
    turns.see(queued())
    turns.see(queued(f"{later}.0"))
    turns.see(
        Steered(dispatch_id=f"{later}.0", entry_id=later, into=DISPATCH, run_id="r", step=1)
    )
    assert turns.open == [DISPATCH]
    turns.see(Completed(dispatch_id=DISPATCH))
    assert turns.are_over
    assert turns.outcome == "completed"


ASKED = "001700000000009_0000000000"
TWO = Author("agent", "a1", "demo")


def asking(turns: Turns, text: str) -> None:
    """Let the turn of `demo` end with these words."""
    turns.see(queued())
    message = {"role": "assistant", "content": [{"type": "text", "text": text}]}
    turns.see(Assistant(message_id=MESSAGE, turn_index=0, message=message))
    turns.see(Completed(dispatch_id=DISPATCH), at=7)


@pytest.mark.parametrize("awaited", [(), (DISPATCH,)])
def test_a_turn_that_asks_agents_is_over_when_theirs_are(awaited: tuple[str, ...]) -> None:
    turns = Turns(awaited, {"a1": "demo", "a2": "two"})
    asking(turns, "what do you say, @two?")
    assert not turns.are_over
    assert turns.asking_since == 7
    turns.see(Chat(by=TWO, text="what do you say, @two?", hops=1))
    assert not turns.are_over
    assert turns.asking_since is None
    turns.see(Queued(dispatch_id=f"{ASKED}.0", entry_id=ASKED, agent_id="a2", max_attempts=3))
    assert turns.concerns(f"{ASKED}.0")
    assert not turns.are_over
    turns.see(Failed(dispatch_id=f"{ASKED}.0", reason="x"))
    assert turns.are_over
    assert turns.outcome == "failed"


@pytest.mark.parametrize("text", ["hello", "@demo is me", "ask @nobody", "`@two`"])
def test_an_answer_that_names_nobody_else_asks_nobody(text: str) -> None:
    turns = Turns((), {"a1": "demo", "a2": "two"})
    asking(turns, text)
    assert turns.are_over


def test_an_answer_that_goes_too_far_asks_nobody() -> None:
    turns = Turns((DISPATCH,), {"a1": "demo", "a2": "two"})
    asking(turns, "@two?")
    turns.see(
        HopLimit(
            dispatch_id=DISPATCH, entry_id=ENTRY, mentions=("two",), reason="hops", limit=0
        )
    )
    assert turns.are_over


def test_agents_that_others_ask_are_not_waited_for() -> None:
    turns = Turns(("001700000000005_0000000000.0",), {"a1": "demo", "a2": "two"})
    asking(turns, "@two?")
    turns.see(Completed(dispatch_id="001700000000005_0000000000.0"))
    assert turns.are_over
