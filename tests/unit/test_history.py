"""What an agent's model reads of a thread."""

from collections.abc import Iterable
from typing import Any

import pytest

from dispatch import ids, payloads
from dispatch.ids import AgentId, EntryId, entry_id_of
from dispatch.models.history import HistoryMessage, history
from dispatch.payloads import llm
from dispatch.payloads.chat import Author, Chat
from dispatch.payloads.signals import (
    Checkpoint,
    Completed,
    FellThrough,
    Queued,
    RolledBack,
    RunLost,
    Started,
    Steered,
)
from dispatch.streams.entries import Entry

ME, OTHER = AgentId(ids.uuid7()), AgentId(ids.uuid7())
HANDLES = {str(ME): "me", str(OTHER): "other"}
ADA = Author("member", "1", "Ada")


class Story:
    """Writes a stream by hand."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def add(self, payload: payloads.KnownPayload, run: str | None = None) -> EntryId:
        number = len(self.entries) + 1
        entry_id = entry_id_of(f"1000-{number}")
        writer = f"{run}:{number}" if run else None
        self.entries.append(Entry(entry_id, payloads.encode(payload), number, writer))
        return entry_id

    def ask(self, text: str, *lanes: AgentId, first: bool = False, steers: str | None = None):
        entry_id = self.add(Chat(ADA, text))
        for number, lane in enumerate(lanes or (ME,)):
            self.add(
                Queued(
                    dispatch_id=f"{entry_id}.{number}",
                    entry_id=entry_id,
                    agent_id=str(lane),
                    max_attempts=3,
                    first=first,
                    steers=steers,
                )
            )
        return f"{entry_id}.0"

    def start(self, dispatch_id: str, run: str, lane: AgentId = ME) -> None:
        self.add(
            Started(
                dispatch_id=dispatch_id,
                agent_id=str(lane),
                attempt=1,
                run_id=run,
                worker_id="w",
                lease_ms=1,
                hard_ms=1,
            )
        )

    def say(self, text: str, run: str, *calls: str, stop: str = "stop") -> EntryId:
        content: list[dict[str, Any]] = [{"type": "text", "text": text}] if text else []
        content += [{"type": "toolCall", "id": c, "name": "t", "arguments": {}} for c in calls]
        message = {"role": "assistant", "content": content, "stopReason": stop}
        return self.add(llm.Assistant(message_id=text, turn_index=0, message=message), run)

    def result(self, call: str, run: str | None) -> None:
        message = {
            "role": "toolResult",
            "toolCallId": call,
            "toolName": "t",
            "content": [{"type": "text", "text": f"result of {call}"}],
            "isError": False,
        }
        self.add(
            llm.ToolResult(
                tool_call_id=call, tool_name="t", is_error=False, turn_index=0, message=message
            ),
            run,
        )

    def checkpoint(self, dispatch_id: str, run: str) -> None:
        self.add(Checkpoint(dispatch_id=dispatch_id, run_id=run, state={}), run)

    def lose(self, dispatch_id: str, run: str) -> None:
        self.add(RunLost(dispatch_id=dispatch_id, run_id=run, attempt=1, not_before=0))

    def end(self, dispatch_id: str, run: str) -> None:
        self.add(Completed(dispatch_id=dispatch_id, run_id=run), run)

    def turn(self, text: str, answer: str) -> str:
        dispatch_id = self.ask(text)
        self.start(dispatch_id, f"run of {text}")
        self.say(answer, f"run of {text}")
        self.end(dispatch_id, f"run of {text}")
        return dispatch_id

    def seen(self, dispatch_id: str) -> list[str]:
        found = history(
            self.entries,
            agent_id=ME,
            entry_id=EntryId(dispatch_id.partition(".")[0]),
            handles=HANDLES,
        )
        return list(_shown(found))


def _shown(found: Iterable[HistoryMessage]) -> Iterable[str]:
    for each in found:
        if each.role == "summary":
            yield f"summary {each.message['summary']}"
            continue
        parts = [part.get("text") or f"call {part['id']}" for part in each.message["content"]]
        yield f"{each.role[0]} {' '.join(parts)}"


@pytest.fixture
def story() -> Story:
    return Story()


def test_turns_follow_each_other_with_the_entry_that_asks_at_the_end(story: Story) -> None:
    story.turn("one", "first")
    story.turn("two", "second")
    asks = story.ask("three")
    story.start(asks, "r")
    assert story.seen(asks) == ["u one", "a first", "u two", "a second", "u three"]


def test_what_another_agent_asks_is_read_once_though_it_stands_twice(story: Story) -> None:
    theirs = story.ask("@other begin", OTHER)
    story.start(theirs, "o", OTHER)
    words = story.say("@me go on", "o")
    story.end(theirs, "o")
    by = Author("agent", str(OTHER), "other")
    asks = story.add(Chat(by, "@me go on", mentions=("me",), hops=1, repeats=words))
    queued = Queued(dispatch_id=f"{asks}.0", entry_id=asks, agent_id=str(ME), max_attempts=3)
    story.add(queued)
    story.start(queued.dispatch_id, "r")
    assert story.seen(queued.dispatch_id) == ["u @other begin", "u @other: @me go on"]


def test_what_was_said_during_a_turn_comes_after_it_and_what_waits_is_left_out(
    story: Story,
) -> None:
    one = story.ask("one")
    story.start(one, "r1")
    story.say("I look", "r1", "c1")
    two = story.ask("two")
    story.ask("three")
    story.result("c1", "r1")
    story.say("done", "r1")
    story.end(one, "r1")
    story.start(two, "r2")
    seen = ["u one", "a I look call c1", "t result of c1", "a done", "u two"]
    assert story.seen(two) == seen


def test_an_entry_that_goes_first_does_not_know_those_that_still_wait(story: Story) -> None:
    one = story.ask("one")
    story.start(one, "r1")
    story.ask("waits")
    hurried = story.ask("now!", first=True)
    story.end(one, "r1")
    story.start(hurried, "r2")
    assert story.seen(hurried) == ["u one", "u now!"]


def test_other_agents_are_heard_by_name_and_tool_calls_of_theirs_are_not(story: Story) -> None:
    both = story.ask("hello", OTHER)
    story.start(both, "o", OTHER)
    story.say("", "o", "c")
    story.result("c", "o")
    story.say("hi there", "o")
    story.end(both, "o")
    asks = story.ask("and you?")
    story.start(asks, "r")
    assert story.seen(asks) == ["u hello", "u @other: hi there", "u and you?"]


def test_a_lost_attempt_leaves_what_its_checkpoint_covers_and_the_results_of_its_calls(
    story: Story,
) -> None:
    asks = story.ask("go")
    story.start(asks, "r1")
    story.say("I call", "r1", "c1", "c2")
    story.checkpoint(asks, "r1")
    story.result("c1", "r1")
    story.say("forgotten", "r1")
    story.result("c2", None)
    story.lose(asks, "r1")
    story.start(asks, "r2")
    seen = ["u go", "a I call call c1 call c2", "t result of c1", "t result of c2"]
    assert story.seen(asks) == seen


def test_what_steered_a_lost_attempt_is_not_lost_with_it(story: Story) -> None:
    asks = story.ask("go")
    story.start(asks, "r1")
    story.say("step 1", "r1")
    story.checkpoint(asks, "r1")
    steers = story.ask("left!", steers=asks)
    entry_id = steers.partition(".")[0]
    taken = Steered(dispatch_id=steers, entry_id=entry_id, into=asks, run_id="r1", step=2)
    story.add(taken, "r1")
    story.say("forgotten", "r1")
    story.lose(asks, "r1")
    story.start(asks, "r2")
    assert story.seen(asks) == ["u go", "a step 1", "u left!"]


def test_an_attempt_without_a_checkpoint_is_forgotten(story: Story) -> None:
    asks = story.ask("go")
    story.start(asks, "r1")
    story.say("half", "r1")
    story.lose(asks, "r1")
    story.start(asks, "r2")
    assert story.seen(asks) == ["u go"]


def test_a_call_of_a_turn_that_is_over_has_a_result_and_an_open_one_has_none(
    story: Story,
) -> None:
    one = story.ask("one")
    story.start(one, "r1")
    story.say("", "r1", "c1")
    story.end(one, "r1")
    two = story.ask("two")
    story.start(two, "r2")
    story.say("", "r2", "c2")
    *_, interrupted, _, last = story.seen(two)
    assert interrupted.startswith("t Interrupted")
    assert last == "a call c2"


def test_failed_tries_and_rolled_back_turns_are_left_out(story: Story) -> None:
    one = story.turn("one", "first")
    story.add(RolledBack(dispatch_id=one, entry_id=one.partition(".")[0]))
    two = story.ask("two")
    story.start(two, "r2")
    story.say("boom", "r2", stop="error")
    story.say("well", "r2")
    story.end(two, "r2")
    three = story.ask("three")
    story.start(three, "r3")
    assert story.seen(three) == ["u two", "a well", "u three"]


def test_an_entry_that_steered_a_turn_stands_where_it_was_taken_in(story: Story) -> None:
    one = story.ask("one")
    story.start(one, "r1")
    story.say("step 1", "r1")
    steers = story.ask("left!", steers=one)
    fell = story.ask("right!", steers=one)
    story.add(
        Steered(
            dispatch_id=steers,
            entry_id=steers.partition(".")[0],
            into=one,
            run_id="r1",
            step=2,
        ),
        "r1",
    )
    story.say("step 2", "r1")
    story.end(one, "r1")
    story.add(FellThrough(dispatch_id=fell, entry_id=fell.partition(".")[0], target=one))
    story.start(fell, "r2")
    assert story.seen(fell) == ["u one", "a step 1", "u left!", "a step 2", "u right!"]


@pytest.mark.parametrize("keeps", [True, False])
def test_a_summary_stands_for_what_it_replaced(story: Story, keeps: bool) -> None:
    story.turn("one", "first")
    two = story.ask("two")
    story.start(two, "r2")
    kept = story.say("second", "r2")
    story.add(
        llm.Compaction(
            reason="threshold", summary="S", first_kept_entry_id=kept if keeps else None
        ),
        "r2",
    )
    story.say("third", "r2")
    story.end(two, "r2")
    three = story.ask("three")
    story.start(three, "r3")
    middle = ["a second"] if keeps else []
    assert story.seen(three) == ["summary S", *middle, "a third", "u three"]
