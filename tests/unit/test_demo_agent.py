import asyncio
import time
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from dispatch import payloads
from dispatch.models import mentions
from dispatch.payloads import llm
from dispatch.payloads.usage import TokenUsage
from tests.sandboxes.commands import wait_until
from tests.unit.agents import DISPATCH, RecordingHands, a_request
from workers.agents import demo
from workers.outcomes import Completed, Failed


@pytest.fixture
def hands(tmp_path: Path) -> RecordingHands:
    return RecordingHands(tmp_path / "workspace")


async def test_an_ordinary_text_is_quoted_word_by_word(hands: RecordingHands) -> None:
    outcome = await demo.run(a_request("hello there"), hands)

    answer = "You said: “hello there” That is 2 words."
    assert hands.said == [answer]
    chunks = hands.chunks("text")
    assert len(chunks) == 8
    assert "".join(chunk.delta or "" for chunk in chunks) == answer
    assert isinstance(hands.events[-1], llm.Assistant)
    assert outcome == Completed(usage=TokenUsage(input=2, output=8, total_tokens=10))


async def test_what_it_quotes_names_nobody(hands: RecordingHands) -> None:
    await demo.run(a_request("@demo ask @two"), hands)
    await demo.run(a_request("sleep: @two"), hands)
    assert hands.said[0] == "You said: “ask \\@two” That is 2 words."
    assert not any(mentions.mentioned(text) for text in hands.said)


async def test_it_says_what_it_is_told_to_say(hands: RecordingHands) -> None:
    await demo.run(a_request("@demo say: \\@two, are you there?"), hands)
    assert hands.said == ["@two, are you there?"]


async def test_an_answer_has_pis_shape(hands: RecordingHands) -> None:
    await demo.run(a_request("hi"), hands)

    (assistant,) = hands.of(llm.Assistant)
    assert assistant.message_id == f"{DISPATCH}:0123456789ab:1"
    assert {chunk.message_id for chunk in hands.chunks("text")} == {assistant.message_id}
    message = assistant.message
    assert (message["role"], message["stopReason"]) == ("assistant", "stop")
    assert [part["type"] for part in message["content"]] == ["text"]
    assert msgspec.convert(message["usage"], TokenUsage) == TokenUsage(1, 7, 0, 0, 8)
    assert message["usage"]["cost"]["total"] == 0
    assert isinstance(message["timestamp"], int)


async def test_the_same_text_makes_the_same_words(tmp_path: Path) -> None:
    first, second = RecordingHands(tmp_path), RecordingHands(tmp_path)

    outcomes = [await demo.run(a_request("again"), hands) for hands in (first, second)]

    assert first.said == second.said
    assert first.chunks("text") == second.chunks("text")
    assert outcomes[0] == outcomes[1]


async def test_a_long_text_gets_a_short_answer(hands: RecordingHands) -> None:
    await demo.run(a_request("word " * 50_000), hands)

    assert len(hands.said[0]) < 400
    assert hands.said[0].endswith("That is 50000 words.")


async def test_a_command_is_announced_run_streamed_and_answered(hands: RecordingHands) -> None:
    outcome = await demo.run(a_request("run: echo one; sleep 0.1; echo two"), hands)

    intent, answer = hands.of(llm.Assistant)
    (result,) = hands.of(llm.ToolResult)
    (call,) = intent.message["content"]
    assert intent.message["stopReason"] == "toolUse"
    assert call["arguments"] == {"command": "echo one; sleep 0.1; echo two"}
    assert call["id"] == result.tool_call_id == result.message["toolCallId"]
    assert "".join(c.delta or "" for c in hands.chunks("toolOutput")) == "one\ntwo\n"
    assert result.message["content"] == [{"type": "text", "text": "one\ntwo\n"}]
    assert result.message["details"]["exitCode"] == 0
    assert (result.is_error, result.message["isError"]) == (False, False)
    assert hands.said == ["The command ended with exit code 0."]
    assert [intent.turn_index, result.turn_index, answer.turn_index] == [0, 0, 1]
    assert [intent.message_id, answer.message_id] == [
        f"{DISPATCH}:0123456789ab:{n}" for n in (1, 2)
    ]
    assert isinstance(outcome, Completed)


async def test_a_commands_intent_precedes_its_effect(hands: RecordingHands) -> None:
    await demo.run(a_request("run: true"), hands)

    call, intent, command, result, *_, answer = hands.events
    assert isinstance(call, llm.Chunk)
    assert call.kind == "toolCall"
    assert isinstance(intent, llm.Assistant)
    assert command == "true"
    assert isinstance(result, llm.ToolResult)
    assert isinstance(answer, llm.Assistant)


@pytest.mark.parametrize(
    ("command", "said", "exit_code"),
    [
        ("exit 7", "The command ended with exit code 7.", 7),
        ("kill -KILL $$", "The command ended with exit code 137 (SIGKILL).", 137),
        ("no-such-program", "The command ended with exit code 127.", 127),
    ],
)
async def test_a_failing_command_is_an_error_the_agent_survives(
    hands: RecordingHands, command: str, said: str, exit_code: int
) -> None:
    outcome = await demo.run(a_request(f"run: {command}"), hands)

    (result,) = hands.of(llm.ToolResult)
    assert result.is_error
    assert result.message["details"]["exitCode"] == exit_code
    assert hands.said == [said]
    assert isinstance(outcome, Completed)


async def test_a_command_beyond_its_time_is_reported(tmp_path: Path) -> None:
    hands = RecordingHands(tmp_path / "workspace", command_seconds=0.3)

    await demo.run(a_request("run: sleep 20"), hands)

    (result,) = hands.of(llm.ToolResult)
    assert result.is_error
    assert result.message["details"]["timedOut"]
    assert hands.said == ["The command was stopped after 0 s, its time limit."]


async def test_a_long_output_is_kept_as_its_end(hands: RecordingHands) -> None:
    await demo.run(a_request("run: yes | head -n 2000; echo end"), hands)

    (result,) = hands.of(llm.ToolResult)
    text = result.message["content"][0]["text"]
    assert text.startswith("[The last part of 4004 bytes]\n")
    assert text.endswith("y\nend\n")
    assert result.message["details"]["truncated"]


async def test_a_command_nobody_could_run_is_still_answered(hands: RecordingHands) -> None:
    await demo.run(a_request("run: echo " + "x" * 200_000), hands)

    (result,) = hands.of(llm.ToolResult)
    assert result.is_error
    assert hands.said == ["The command did not run."]


async def test_a_cancelled_command_is_not_swallowed(hands: RecordingHands) -> None:
    turn = asyncio.ensure_future(demo.run(a_request("run: echo begun; sleep 20"), hands))
    await wait_until(lambda: bool(hands.chunks("toolOutput")))

    turn.cancel()

    with pytest.raises(asyncio.CancelledError):
        await turn
    assert not hands.of(llm.ToolResult)


async def test_sleep_says_so_waits_and_answers(hands: RecordingHands) -> None:
    started = time.monotonic()

    outcome = await demo.run(a_request("sleep: 0.2"), hands)

    assert time.monotonic() - started >= 0.2
    assert hands.said == ["Sleeping 0.2 s … Awake again."]
    assert isinstance(outcome, Completed)


async def test_a_mute_agent_emits_nothing_until_its_time_is_over(hands: RecordingHands) -> None:
    turn = asyncio.ensure_future(demo.run(a_request("mute: 0.3"), hands))
    for _ in range(10):
        await asyncio.sleep(0)
    assert hands.events == []

    await turn

    assert hands.said == ["I was mute for 0.3 s."]


@pytest.mark.parametrize("text", ["sleep: 60", "mute: 60"])
async def test_a_wait_can_be_cancelled(hands: RecordingHands, text: str) -> None:
    turn = asyncio.ensure_future(demo.run(a_request(text), hands))
    await asyncio.sleep(0.05)

    turn.cancel()

    with pytest.raises(asyncio.CancelledError):
        await turn


@pytest.mark.parametrize("seconds", ["", "soon", "-1", "nan", "inf", "3601", "1e9"])
@pytest.mark.parametrize("word", ["sleep", "mute"])
async def test_a_bad_number_gets_a_friendly_answer(
    hands: RecordingHands, word: str, seconds: str
) -> None:
    outcome = await demo.run(a_request(f"{word}: {seconds}"), hands)

    assert f"Try: {word}: 3" in hands.said[0]
    assert isinstance(outcome, Completed)


@pytest.mark.parametrize("text", ["", "   ", "run:", "run:  "])
async def test_nothing_to_do_gets_a_hint(hands: RecordingHands, text: str) -> None:
    await demo.run(a_request(text), hands)

    assert "run: uname -a" in hands.said[0]


async def test_fail_fails_with_its_text(hands: RecordingHands) -> None:
    outcome = await demo.run(a_request("fail: out of ideas"), hands)

    assert outcome == Failed(reason="agent_error", message="out of ideas")
    assert hands.events == []


@pytest.mark.parametrize(
    "text", ["@demo run: true", "@demo, @other: Run: true", "  run:true\n"]
)
async def test_mentions_before_an_order_are_skipped(hands: RecordingHands, text: str) -> None:
    await demo.run(a_request(text), hands)

    assert "true" in hands.events


async def test_usage_is_the_sum_of_the_messages(hands: RecordingHands) -> None:
    outcome = await demo.run(a_request("run: echo one two three"), hands)

    counts = [message.message["usage"] for message in hands.of(llm.Assistant)]
    assert [(c["input"], c["output"]) for c in counts] == [(5, 4), (3, 7)]
    assert outcome == Completed(usage=TokenUsage(input=8, output=11, total_tokens=19))


async def test_everything_emitted_survives_the_wire(hands: RecordingHands) -> None:
    await demo.run(a_request("run: printf 'a\\000\\377'"), hands)

    emitted = [event for event in hands.events if not isinstance(event, str)]
    assert [payloads.decode(payloads.encode(event)) for event in emitted] == emitted


async def test_words_come_apart_in_time(tmp_path: Path) -> None:
    times: list[float] = []

    class Watch(RecordingHands):
        async def emit(self, payload: payloads.LLMPayload, **more) -> None:
            times.append(time.monotonic())
            await super().emit(payload, **more)

    await demo.run(a_request("a b c"), Watch(tmp_path))

    assert all(later - earlier > 0.002 for earlier, later in pairwise(times))


async def test_steps_go_on_from_a_checkpoint_and_say_what_steered_them(tmp_path: Path) -> None:
    hands = RecordingHands(tmp_path)
    hands.steering[3] = ["turn left"]

    await demo.run(a_request("steps: 3 0.001", attempt=2, checkpoint={"done": 1}), hands)

    assert hands.said == ["Step 2 of 3.", "Step 3 of 3. You steered me: “turn left”."]
    assert hands.checkpoints == [{"done": 2}, {"done": 3}]
