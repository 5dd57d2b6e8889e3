"""Conversations of the real pi with a scripted model."""

import asyncio
import os
import signal
from itertools import pairwise
from pathlib import Path

import pytest

from dispatch.payloads import llm
from dispatch.payloads.usage import TokenUsage
from tests.agents.pi import installs
from tests.agents.pi import provider as model
from tests.agents.pi.conftest import KEY, Run, folders, processes
from tests.agents.pi.hands import ThreadHands, until
from tests.agents.pi.provider import Provider
from workers.agents import ToolAnswer, ToolCall
from workers.outcomes import Completed, Failed
from workers.sandboxes import OnOutput
from workers.sandboxes.local import LocalSandbox

every_version = pytest.mark.parametrize("version", installs.EVERY, indirect=True)
old_and_new = pytest.mark.parametrize("version", [installs.OLD, installs.NEW], indirect=True)
LS = ("call_ls", "run_command", {"command": "ls"})


@every_version
async def test_three_turns_on_three_processes_are_one_conversation(
    run: Run, hands: ThreadHands, provider: Provider
) -> None:
    provider.steps = [
        model.text("Hello Ada."),
        model.tool_calls(LS, ("call_2", "run_command", {"command": "id"}), say="Let me look."),
        model.text("Two files."),
        model.thinking("Hm.", "Goodbye."),
    ]
    cost = {"cost": {"input": 1, "output": 2, "cacheRead": 0.5}}
    outcomes = []
    for text in ("Hi, I am Ada.", "What is there? \u2028", "/mcp bye"):
        hands.ask(text)
        outcomes.append(await run(config=cost if text.startswith("/mcp") else None))

    assert all(isinstance(each, Completed) for each in outcomes), outcomes
    assert hands.said == ["Hello Ada.", "Let me look.", "Two files.", "Goodbye."]
    assert hands.chunks("text") == "".join(hands.said)
    assert hands.chunks("thinking") == "Hm."
    assert [each.arguments for each in hands.performed] == [
        {"command": "ls"},
        {"command": "id"},
    ]
    for before, after in pairwise(provider.contexts()):
        assert after[: len(before)] == before
    last = provider.contexts()[-1]
    assert [each["role"] for each in last] == [
        "user", "assistant", "user", "assistant", "tool", "tool", "assistant", "user",
    ]  # fmt: skip
    assert {each["messages"][0]["content"] for each in provider.requests} == {"Be brief."}
    assert provider.keys == [f"bearer {KEY}"] * 4
    two_calls = TokenUsage(1200, 40, 800, 0, 2040)
    assert outcomes[1].usage == two_calls
    assert outcomes[2].usage.cost.total == pytest.approx(840e-6)


async def test_only_the_tools_of_the_request_are_offered(
    run: Run, hands: ThreadHands, provider: Provider
) -> None:
    provider.steps = [model.text("Hello.")]
    hands.ask("Hi.")
    await run()

    (tool,) = provider.requests[0]["tools"]
    (offered,) = hands.request().tools
    assert tool["function"]["name"] == "run_command"
    assert tool["function"]["parameters"] == offered.parameters


@old_and_new
async def test_calls_that_pi_refuses_itself_have_their_results_too(
    run: Run, hands: ThreadHands, provider: Provider
) -> None:
    provider.steps = [
        model.tool_calls(("c1", "nope", {}), ("c2", "run_command", {"cmd": 1}), LS),
        model.text("Well."),
    ]
    hands.ask("Do it.")
    outcome = await run()

    assert isinstance(outcome, Completed)
    results = {each.tool_call_id: each for each in hands.of(llm.ToolResult)}
    assert set(results) == {"call_ls", "c1", "c2"}
    assert results["c1"].is_error
    assert results["c2"].is_error
    assert not results["call_ls"].is_error


@old_and_new
async def test_a_killed_pi_fails_the_run_and_the_next_attempt_goes_on(
    run: Run, hands: ThreadHands, provider: Provider
) -> None:
    provider.steps = [model.tool_calls(LS, say="Look."), model.stall]
    hands.ask("What is there?")
    turn = asyncio.ensure_future(run())
    await until(lambda: "half" in hands.chunks("text"))
    for pid in processes():
        os.kill(pid, signal.SIGKILL)
    outcome = await turn

    assert isinstance(outcome, Failed)
    assert (outcome.reason, outcome.retryable) == ("agent_died", True)
    hands.lose_run()
    provider.steps = [model.text("One file.")]
    outcome = await run()

    assert isinstance(outcome, Completed)
    assert hands.said == ["Look.", "One file."]
    assert provider.contexts()[2] == provider.contexts()[1]
    assert len(hands.performed) == 1
    assert outcome.usage.total_tokens == 2040
    names = [each.message_id for each in hands.of(llm.Assistant)]
    assert len(set(names)) == len(names) == 2


async def test_a_call_that_was_not_answered_is_performed_before_pi_starts(
    run: Run, hands: ThreadHands, provider: Provider
) -> None:
    begun = asyncio.Event()

    async def stuck(_call: ToolCall, _: OnOutput) -> ToolAnswer:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    hands.tool = stuck
    provider.steps = [model.tool_calls(LS, ("c2", "run_command", {"command": "id"}))]
    hands.ask("What is there?")
    turn = asyncio.ensure_future(run())
    await begun.wait()
    for pid in processes():
        os.kill(pid, signal.SIGKILL)
    assert isinstance(await turn, Failed)
    hands.lose_run()

    async def works(call: ToolCall, _: OnOutput) -> ToolAnswer:
        assert processes() == []
        return ToolAnswer(text=f"ran {call.id}")

    hands.tool = works
    provider.steps = [model.text("Done.")]
    assert isinstance(await run(), Completed)
    roles = [each["role"] for each in provider.contexts()[-1]]
    assert roles == ["user", "assistant", "tool", "tool"]


@old_and_new
async def test_steering_is_heard_before_the_next_call_of_the_model(
    run: Run, hands: ThreadHands, provider: Provider
) -> None:
    async def steered(call: ToolCall, _: OnOutput) -> ToolAnswer:
        hands.steering = ["Not that one.", "The other."]
        return ToolAnswer(text="ran")

    hands.tool = steered
    provider.steps = [model.tool_calls(LS), model.text("The other, then.")]
    hands.ask("Go.")
    assert isinstance(await run(), Completed)

    second = provider.contexts()[1]
    assert [each["role"] for each in second] == ["user", "assistant", "tool", "user", "user"]
    hands.ask("Thanks.")
    provider.steps = [model.text("Welcome.")]
    assert isinstance(await run(), Completed)
    assert provider.contexts()[2][: len(second)] == second


@old_and_new
async def test_steering_at_the_end_is_answered_in_the_same_turn(
    run: Run, hands: ThreadHands, provider: Provider
) -> None:
    hands.steering = ["And one more thing."]
    provider.steps = [model.text("Done."), model.text("That too.")]
    hands.ask("Go.")
    assert isinstance(await run(), Completed)

    assert hands.said == ["Done.", "That too."]
    assert [each["role"] for each in provider.contexts()[1]] == ["user", "assistant", "user"]
    assert hands.steps == [2, 3]


@old_and_new
async def test_a_compacted_conversation_goes_on_from_its_summary(
    run: Run, hands: ThreadHands, provider: Provider
) -> None:
    small = {"contextWindow": 60_000}
    hands.ask("Tell me all. " + "word " * 20_000)
    provider.steps = [model.text("All. " + "more " * 9_000)]
    assert isinstance(await run(config=small), Completed)
    full = {"prompt_tokens": 59_000, "completion_tokens": 500, "total_tokens": 59_500}
    hands.ask("And then? " + "word " * 9_000)
    provider.steps = [model.text("Then this.", usage=full)]
    provider.otherwise = model.text("SUMMARY OF ALL")
    outcome = await run(config=small)

    assert isinstance(outcome, Completed)
    (compaction,) = hands.of(llm.Compaction)
    assert compaction.reason in {"threshold", "overflow"}
    assert "SUMMARY OF ALL" in compaction.summary
    assert compaction.tokens_before
    assert compaction.first_kept_entry_id is not None
    hands.ask("Thanks.")
    provider.steps = [model.text("Welcome.")]
    before = len(provider.requests)
    assert isinstance(await run(config=small), Completed)
    assert len(provider.requests) == before + 1
    sent = provider.contexts()[-1]
    assert "SUMMARY OF ALL" in str(sent[0]["content"])
    assert "Then this." in str(sent)
    assert "Tell me all." not in str(sent)


@old_and_new
async def test_a_megabyte_of_output_reaches_the_model_as_its_end(
    run: Run, hands: ThreadHands, provider: Provider
) -> None:
    async def chatty(call: ToolCall, on_output: OnOutput) -> ToolAnswer:
        for _ in range(100):
            await on_output("x" * 10_000)
        return ToolAnswer(text="x" * 1_000_000 + "the end")

    hands.tool = chatty
    provider.steps = [model.tool_calls(LS), model.text("Long.")]
    hands.ask("Go.")
    assert isinstance(await run(), Completed)

    told = provider.contexts()[1][-1]["content"]
    assert told.endswith("the end")
    assert len(told) <= 50 * 1024
    assert len(hands.chunks("toolOutput")) == 1_000_000


@old_and_new
async def test_a_very_long_answer_comes_whole(
    run: Run, hands: ThreadHands, provider: Provider
) -> None:
    answer = "word \u2028" * 33_334
    provider.steps = [model.text(answer, pieces=500)]
    hands.ask("Go.")
    assert isinstance(await run(), Completed)

    assert hands.said == [answer]
    assert hands.chunks("text") == answer


def told_of(pids: list[int]) -> list[str]:
    return [
        Path(f"/proc/{pid}/{name}").read_bytes().decode()
        for pid in pids
        for name in ("environ", "cmdline")
    ]


async def test_no_key_can_be_seen_where_commands_run(
    run: Run, hands: ThreadHands, provider: Provider, tmp_path: Path
) -> None:
    seen: list[str] = []

    async def look(call: ToolCall, _: OnOutput) -> ToolAnswer:
        seen.extend(told_of(processes()))
        (folder,) = folders()
        assert folder.stat().st_mode & 0o077 == 0
        seen.extend(f.read_text() for f in folder.rglob("*") if f.is_file())
        sandbox = LocalSandbox(tmp_path / "workspace")

        async def ignore(_: str) -> None: ...

        result = await sandbox.run_command(
            "env; cat /proc/*/environ", wall_seconds=10, max_output_bytes=100_000,
            on_output=ignore,
        )  # fmt: skip
        seen.append(result.output)
        return ToolAnswer(text="ok")

    hands.tool = look
    provider.steps = [model.tool_calls(LS), model.text("Done.")]
    hands.ask("Go.")
    assert isinstance(await run(), Completed)

    assert len(seen) > 5
    assert not [each for each in seen if KEY in each]
    assert provider.keys[-1] == f"bearer {KEY}"
