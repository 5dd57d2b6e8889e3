"""What a person reads of a turn is the same live and late, and obeys no escape sequence."""

from collections.abc import Sequence

from msgspec.structs import replace

from dispatch.cli.transcript import Transcript
from dispatch.cli.turns import Turns
from dispatch.models import endings
from dispatch.payloads import KnownPayload
from dispatch.payloads.chat import Author, Chat
from dispatch.payloads.llm import Assistant, Chunk, ToolResult
from dispatch.payloads.signals import (
    Cancelled,
    CancelRequested,
    Checkpoint,
    Completed,
    EntryWritten,
    Failed,
    FellThrough,
    Heartbeat,
    HopLimit,
    NoProgress,
    Queued,
    RolledBack,
    RunLost,
    SessionOrphaned,
    Started,
    Steered,
    StreamRollback,
    ThreadCreated,
)
from dispatch.payloads.usage import TokenUsage

ENTRY = "001700000000000_0000000001"
DISPATCH = f"{ENTRY}.0"
MESSAGE = f"{DISPATCH}:1:1"
CALL = f"{MESSAGE}:call"
WITHDRAWN = Cancelled(dispatch_id=DISPATCH, reason="withdrawn")
LOST = Failed(dispatch_id=DISPATCH, run_id="r", reason="orphaned")


def rendered(payloads: Sequence[KnownPayload]) -> str:
    turns = Turns()
    transcript = Transcript(turns, {"a1": "demo"})
    pieces = []
    for payload in payloads:
        turns.see(payload)
        pieces += transcript.show(payload)
    pieces += transcript.end()
    return "".join(piece.text for piece in pieces)


def queued(dispatch: str = DISPATCH) -> Queued:
    return Queued(dispatch_id=dispatch, entry_id=ENTRY, agent_id="a1", max_attempts=3)


def started(attempt: int = 1) -> Started:
    return Started(
        dispatch_id=DISPATCH,
        agent_id="a1",
        attempt=attempt,
        run_id="r",
        worker_id="w",
        lease_ms=1,
        hard_ms=2,
    )


def words(text: str, message: str = MESSAGE) -> list[KnownPayload]:
    return [
        Chunk(kind="text", message_id=message, content_index=0, delta=f"{word} ")
        for word in text.split()
    ]


def said(text: str, message: str = MESSAGE, **more: str) -> Assistant:
    content = [{"type": "text", "text": text}]
    return Assistant(
        message_id=message,
        turn_index=0,
        message={"role": "assistant", "content": content, **more},
    )


def command_turn(*, with_chunks: bool) -> list[KnownPayload]:
    """A turn of the demo agent, as it stands on the stream."""
    arguments = {"command": "uname -a"}
    call = {"type": "toolCall", "id": CALL, "name": "run_command", "arguments": arguments}
    events: list[KnownPayload] = [
        ThreadCreated(),
        Chat(by=Author("member", "m", "Ann"), text="run: uname -a"),
        queued(),
        started(),
        Chunk(
            kind="toolCall",
            message_id=MESSAGE,
            content_index=0,
            tool_call_id=CALL,
            tool_name="run_command",
            arguments=arguments,
        ),
        Assistant(message_id=MESSAGE, turn_index=0, message={"content": [call]}),
        Chunk(kind="toolOutput", tool_call_id=CALL, tool_name="run_command", delta="Linux "),
        Heartbeat(dispatch_id=DISPATCH, run_id="r"),
        Chunk(kind="toolOutput", tool_call_id=CALL, tool_name="run_command", delta="box\n"),
        ToolResult(
            tool_call_id=CALL,
            tool_name="run_command",
            is_error=False,
            turn_index=0,
            duration_ms=12,
            message={
                "content": [{"type": "text", "text": "Linux box\n"}],
                "details": {"exitCode": 0},
            },
        ),
        *words("The command ended", f"{DISPATCH}:1:2"),
        said("The command ended well.", f"{DISPATCH}:1:2"),
        Completed(dispatch_id=DISPATCH, run_id="r", usage=TokenUsage(total_tokens=7)),
    ]
    if with_chunks:
        return events
    return [event for event in events if not isinstance(event, Chunk)]


EXPECTED = """\
· thread created
Ann: run: uname -a
· @demo is asked
· @demo starts
$ uname -a
Linux box
✓ run_command (exit code 0, 12 ms)
@demo: The command ended well.
· completed, 7 tokens
"""


def test_a_turn_reads_as_a_conversation() -> None:
    assert rendered(command_turn(with_chunks=True)) == EXPECTED


def test_a_late_reader_to_whom_the_chunks_are_gone_reads_the_same() -> None:
    assert rendered(command_turn(with_chunks=False)) == EXPECTED


def test_a_message_that_ended_other_than_it_streamed_is_said_again_whole() -> None:
    text = rendered([queued(), started(), *words("first thought"), said("Second thought.")])
    assert text.endswith("@demo: first thought \n@demo: Second thought.\n")


def test_two_messages_that_stream_at_once_do_not_mix_within_a_line() -> None:
    one, two = words("a b"), words("c d", "other")
    assert rendered([queued(), one[0], two[0], one[1], two[1]]).splitlines()[1:] == [
        "@demo: a ",
        "@demo: c ",
        "@demo: b ",
        "@demo: d ",
    ]


def test_output_that_dropped_its_head_continues_where_it_was() -> None:
    chunks = [
        Chunk(kind="toolOutput", tool_call_id=CALL, delta="one\ntwo\n"),
        Chunk(kind="toolOutput", tool_call_id=CALL, delta="two\nthree\n", replace=True),
    ]
    assert rendered(chunks) == "one\ntwo\ntwo\nthree\n"
    chunks[1] = Chunk(
        kind="toolOutput", tool_call_id=CALL, delta="…\none\ntwo\nthree\n", replace=True
    )
    assert rendered(chunks) == "one\ntwo\nthree\n"


def test_escape_sequences_of_agents_and_tools_do_not_reach_the_terminal() -> None:
    evil = "\x1b]0;title\x07\x1b[2J\x1b[31mred\x1b[0m\rover\x08\x9b"
    text = rendered([Chat(by=Author("agent", "a1"), text=evil), said(evil)])
    assert text == "demo: redover\n@agent: redover\n".replace("@agent", "agent")


def test_a_lost_worker_is_told_and_its_failure_is_the_outcome() -> None:
    events: list[KnownPayload] = [
        queued(),
        started(),
        RunLost(dispatch_id=DISPATCH, run_id="r", attempt=1, not_before=0),
        started(attempt=2),
        *words("Half a"),
        LOST,
        SessionOrphaned(dispatch_id=DISPATCH, reason="orphaned"),
    ]
    assert rendered(events).splitlines()[2:] == [
        "· attempt 1 was lost with its worker; it is tried again",
        "· @demo starts, attempt 2",
        "@demo: Half a ",
        f"✗ failed (orphaned): {endings.explain(LOST)[0]}",
        f"  {endings.explain(LOST)[1]}",
        "· the session was orphaned (orphaned)",
    ]


def test_what_became_of_an_entry_whose_agent_was_busy_is_told() -> None:
    later = f"{ENTRY[:-1]}2"
    by = Author("member", "m", "Ann")
    steering = Queued(
        dispatch_id=f"{later}.0", entry_id=later, agent_id="a1", max_attempts=3, steers=DISPATCH
    )
    first = Queued(
        dispatch_id=f"{later}.0", entry_id=later, agent_id="a1", max_attempts=3, first=True
    )
    told: list[tuple[KnownPayload, str]] = [
        (steering, "· @demo is asked, to join the turn that runs"),
        (first, "· @demo is asked, before all that wait"),
        (
            Steered(
                dispatch_id=f"{later}.0", entry_id=later, into=DISPATCH, run_id="r", step=2
            ),
            "· taken into the turn that runs, at its step 2",
        ),
        (
            FellThrough(dispatch_id=f"{later}.0", entry_id=later, target=DISPATCH),
            "· the turn to join ended first; this will be a turn of its own",
        ),
        (
            EntryWritten(entry_id=later, agent_id="a1", active_dispatch_id=DISPATCH),
            "· @demo is busy: written down, no turn",
        ),
        (
            CancelRequested(dispatch_id=DISPATCH, deadline=1, reason="interrupted", by=by),
            "· asked to stop by Ann, since a newer entry takes its place",
        ),
        (
            CancelRequested(dispatch_id=DISPATCH, deadline=1, by=by, message="enough"),
            "· asked to stop by Ann: enough",
        ),
        (
            RolledBack(dispatch_id=DISPATCH, entry_id=ENTRY, by=by),
            "· rolled back by Ann: entry and turn count no more",
        ),
        (
            Cancelled(dispatch_id=f"{later}.0", reason="withdrawn", by=by, message="typo"),
            f"✗ cancelled by Ann: {endings.explain(WITHDRAWN)[0]} typo",
        ),
    ]
    for payload, line in told:
        assert rendered([payload]) == f"{line}\n"


def test_an_answer_that_asks_others_is_not_shown_twice() -> None:
    reply = Chat(
        by=Author("agent", "a1", "demo"),
        text="@two and @three, look",
        mentions=("two", "three"),
        hops=1,
        begun_by=ENTRY,
        repeats=ENTRY,
    )
    assert rendered([reply]) == "· @demo asks @two, @three\n"
    unheard = HopLimit(
        dispatch_id=DISPATCH, entry_id=ENTRY, mentions=("two",), reason="hops", limit=4
    )
    assert rendered([unheard]) == (
        "· @two not woken: agents have woken each other 4 times one after the other "
        "since a person spoke\n"
    )


def test_how_a_run_that_stood_still_goes_on_is_told() -> None:
    told: list[tuple[KnownPayload, str]] = [
        (
            Checkpoint(dispatch_id=DISPATCH, run_id="r", state={}),
            "· checkpoint: from here another run could go on",
        ),
        (
            replace(started(attempt=2), checkpoint_id=ENTRY),
            "· @demo starts, attempt 2, from its checkpoint",
        ),
        (
            NoProgress(dispatch_id=DISPATCH, run_id="r", since_ms=1_000, deadline=901_000),
            "· the agent says nothing; after 900 s of that it is stopped",
        ),
        (
            NoProgress(dispatch_id=DISPATCH, run_id="r", since_ms=1_000),
            "· the agent says nothing",
        ),
        (
            RunLost(
                dispatch_id=DISPATCH,
                run_id="r",
                attempt=1,
                not_before=0,
                reason="error",
                message="no model",
                effects=True,
            ),
            "· attempt 1 failed (no model) in the middle; it is tried again",
        ),
    ]
    for payload, line in told:
        assert rendered([payload]) == f"{line}\n"
    assert rendered([StreamRollback(witness=ENTRY)]).startswith("✗ the server of the streams")
