"""What every runner promises, over the real record; only the model is scripted."""

import asyncio
import dataclasses
import time
from typing import Any
from uuid import UUID

import pytest

from dispatch.ids import AgentId, ThreadId
from dispatch.models.history import INTERRUPTED
from dispatch.operations import dispatches, permissions
from dispatch.payloads import llm
from dispatch.payloads.signals import Cancelled, Completed, Delegated, Failed, Started
from dispatch.payloads.usage import TokenUsage
from dispatch.streams.lanes import LaneRef
from tests.agents.doubles import CONTEXT, EXACT_TEXT, OWN_TOOL, RESUMING, STEERING
from tests.agents.model import Call, Said, breaks, calls, says
from tests.agents.stage import LIMIT_SECONDS, Stage, a_stage
from workers import turn
from workers.agents import registry, telling

COMPLETED = "signal.dispatch.completed"


def run_command(command: str, *, call_id: str = "call-1") -> Call:
    return Call(call_id, "run_command", {"command": command})


def task(words: str, *, call_id: str) -> Call:
    return Call(call_id, "delegate_task", {"agent": "demo", "task": f"say: {words}"})


def book(thing: str, *, call_id: str = "call-1") -> Call:
    return Call(call_id, "book", {"thing": thing})


async def left_running(before: set[asyncio.Task[Any]]) -> list[asyncio.Task[Any]]:
    """What a turn started and does not end; a process's own connections are not a turn's."""
    await registry.close()
    deadline = time.monotonic() + LIMIT_SECONDS
    while True:
        left = asyncio.all_tasks() - before - {asyncio.current_task()}
        running = [task for task in left if "Connection" not in repr(task)]
        if not running or time.monotonic() > deadline:
            return running
        await asyncio.sleep(0.02)


async def test_words_are_streamed_and_become_one_message(stage: Stage, needs) -> None:
    needs(EXACT_TEXT)
    more = asyncio.Event()
    stage.model.script(says("Hello ", "world", "!", hold=more))
    await stage.post("hello")
    async with stage.working():
        await stage.casa.wait_words(stage.thread_id)
        assert not await stage.of(llm.Assistant)
        more.set()
    (message,) = await stage.of(llm.Assistant)
    assert message.message["content"] == [{"type": "text", "text": "Hello world!"}]
    assert message.message["stopReason"] == "stop"
    assert not await stage.of(llm.Chunk)  # the message stands for them
    assert isinstance(await stage.ending(), Completed)


async def test_the_workers_tool_is_announced_then_answered_then_read(stage: Stage) -> None:
    stage.model.script(calls(run_command("echo from the sandbox")), says("Done."))
    await stage.say("go")
    types = await stage.casa.types(stage.thread_id)
    spoken = [each for each in types if each.startswith("pi.")]
    assert spoken == ["pi.assistant", "pi.tool_result", "pi.assistant"]
    intent, _ = await stage.of(llm.Assistant)
    (result,) = await stage.of(llm.ToolResult)
    (call,) = [part for part in intent.message["content"] if part["type"] == "toolCall"]
    assert call["name"] == "run_command"
    assert result.tool_call_id == call["id"]
    assert result.message["content"][0]["text"].strip() == "from the sandbox"
    assert isinstance(await stage.ending(), Completed)


async def test_the_workers_tool_is_offered_to_the_model(stage: Stage, needs) -> None:
    needs(CONTEXT)
    stage.model.script(calls(run_command("echo a word")), says("Done."))
    await stage.say("go")
    assert "run_command" in stage.model.offered[0]
    assert stage.model.asked[-1][-1] == Said("tool", "a word\n")


async def test_an_own_tool_acts_after_its_intent_stands(stage: Stage, needs) -> None:
    needs(OWN_TOOL)
    seen: list[list[str]] = []

    async def act(thing: str) -> str:
        seen.append(await stage.casa.types(stage.thread_id))
        return f"booked {thing}"

    stage.model.act = act
    stage.model.script(calls(book("a room"), text="I will."), says("Booked."))
    await stage.say("book me a room")
    assert seen[0][-2:] == ["pi.assistant", "signal.dispatch.checkpoint"]
    (result,) = await stage.of(llm.ToolResult)
    assert result.message["content"] == [{"type": "text", "text": "booked a room"}]
    assert not result.is_error
    assert stage.model.asked[1][-2:] == [
        Said("assistant", "I will."),
        Said("tool", "booked a room"),
    ]


async def test_two_calls_of_one_message_are_both_answered(stage: Stage, needs) -> None:
    needs(OWN_TOOL)
    wanted = (book("a", call_id="one"), run_command("echo two", call_id="two"))
    stage.model.script(calls(*wanted), says("Both."))
    await stage.say("go")
    results = await stage.of(llm.ToolResult)
    assert {each.tool_call_id for each in results} == {"one", "two"}
    assert await stage.answers() == ["Both."]


async def test_a_tool_that_breaks_is_an_error_for_the_model(stage: Stage, needs) -> None:
    needs(OWN_TOOL)

    async def act(_thing: str) -> str:
        raise RuntimeError("no rooms left")

    stage.model.act = act
    stage.model.script(calls(book("a room")), says("Sorry."))
    await stage.say("book me a room")
    (result,) = await stage.of(llm.ToolResult)
    assert result.is_error
    assert "no rooms left" in result.message["content"][0]["text"]
    assert await stage.answers() == ["Sorry."]


async def test_a_call_of_a_tool_there_is_not_gets_a_result(stage: Stage, needs) -> None:
    needs(CONTEXT)
    stage.model.script(calls(Call("call-1", "fly", {})), says("I cannot."))
    await stage.say("fly")
    (result,) = await stage.of(llm.ToolResult)
    assert result.is_error
    assert await stage.answers() == ["I cannot."]


async def test_three_turns_each_read_all_that_was_said(stage: Stage, needs) -> None:
    needs(CONTEXT)
    stage.model.script(says("One."), calls(run_command("echo x")), says("Two."), says("Three."))
    for text in ("first", "second", "third"):
        await stage.say(text)
    told = [each for each in stage.model.asked[-1] if each.role != "system"]
    assert [(each.role, each.text.strip()) for each in told] == [
        ("user", "first"),
        ("assistant", "One."),
        ("user", "second"),
        ("assistant", ""),
        ("tool", "x"),
        ("assistant", "Two."),
        ("user", "third"),
    ]
    assert await stage.answers() == ["One.", "Two.", "Three."]


async def test_a_turn_that_was_taken_back_is_unknown_to_the_next(stage: Stage, needs) -> None:
    needs(CONTEXT)
    stage.model.script(says("One."), says("Oh", hold=asyncio.Event()), says("Three."))
    await stage.say("first")
    await stage.post("a mistake")
    async with stage.working():
        await stage.casa.wait_words(stage.thread_id)
        await stage.post("I meant third", when_busy="rollback")
        await stage.renew()
    told = [each.text for each in stage.model.asked[-1] if each.role != "system"]
    assert told == ["first", "One.", "I meant third"]


async def test_a_finished_turn_that_was_taken_back_is_unknown(stage: Stage, needs) -> None:
    needs(CONTEXT)
    hold = asyncio.Event()
    stage.model.script(
        says("One."), calls(run_command("echo x")), says("Wrong", hold=hold), says("Three.")
    )
    await stage.say("first")
    await stage.post("a mistake")
    async with stage.working():
        await stage.casa.wait_words(stage.thread_id)
        await stage.post("I meant third", when_busy="rollback")
        hold.set()
        await stage.renew()
    told = [each.text for each in stage.model.asked[-1] if each.role != "system"]
    assert told == ["first", "One.", "I meant third"]


async def test_a_model_that_breaks_fails_the_turn_and_says_why(stage: Stage) -> None:
    stage.model.script(breaks("out of credit"))
    await stage.say("hello")
    ending = await stage.ending()
    assert isinstance(ending, Failed)
    assert "out of credit" in (ending.message or "")


async def test_a_message_that_breaks_off_is_shown_and_never_read(stage: Stage, needs) -> None:
    needs(CONTEXT, EXACT_TEXT)
    stage.model.script(breaks("cut", "Half a "), says("Whole."))
    await stage.say("hello")
    (broken,) = await stage.of(llm.Assistant)
    assert broken.message["stopReason"] == "error"
    assert broken.message["content"] == [{"type": "text", "text": "Half a "}]
    await stage.say("again")
    told = [each.text for each in stage.model.asked[-1] if each.role != "system"]
    assert told == ["hello", "again"]


async def test_what_the_messages_used_adds_up(stage: Stage) -> None:
    stage.model.script(calls(run_command("echo x")), says("A few words to count."))
    await stage.say("go")
    ending = await stage.ending()
    used = [each.message["usage"] for each in await stage.of(llm.Assistant)]
    assert ending.usage is not None
    assert ending.usage.total_tokens == sum(each["totalTokens"] for each in used) > 0
    assert ending.usage.output == sum(each["output"] for each in used) > 0


async def test_a_cancelled_turn_leaves_nothing_running(stage: Stage) -> None:
    before = asyncio.all_tasks()
    stage.model.script(says("Thinking ", hold=asyncio.Event()))
    await stage.post("hello")
    async with stage.working():
        dispatch_id = await stage.is_running()
        await stage.casa.wait_words(stage.thread_id)
        casa = stage.casa
        await dispatches.cancel(casa.record, casa.who, stage.thread_id, dispatch_id)
        await stage.renew()
    assert len(await stage.of(Cancelled)) == 1
    assert not await left_running(before)


async def test_a_cancelled_turn_ends_its_tools(stage: Stage) -> None:
    before = asyncio.all_tasks()
    stage.model.script(calls(run_command("sleep 600")))
    await stage.post("hello")
    async with stage.working():
        dispatch_id = await stage.is_running()
        await stage.casa.wait(stage.thread_id, lambda types: "pi.assistant" in types)
        await asyncio.sleep(0.1)
        casa = stage.casa
        await dispatches.cancel(casa.record, casa.who, stage.thread_id, dispatch_id)
        await stage.renew()
    assert len(await stage.of(Cancelled)) == 1
    assert not await left_running(before)


async def test_a_step_takes_in_what_steers_it(stage: Stage, needs) -> None:
    needs(STEERING)
    command = "echo here; while [ ! -e go ]; do sleep 0.05; done"
    stage.model.script(calls(run_command(command)), says("Left it is."))
    await stage.post("walk")
    async with stage.working():
        await stage.casa.wait_words(stage.thread_id)  # the command's: its folder is there
        await stage.post("turn left", when_busy="steer")
        folder = stage.casa.record.settings.workspace_root
        workspace = f"{folder}/{stage.thread_id}"
        await asyncio.to_thread(_touch, f"{workspace}/go")
    assert stage.model.asked[-1][-1] == Said("user", "turn left")
    assert "signal.dispatch.steered" in await stage.casa.types(stage.thread_id)
    assert await stage.answers() == ["Left it is."]


def _touch(path: str) -> None:
    with open(path, "w", encoding="utf-8"):  # noqa: PTH123
        pass


async def test_another_attempt_goes_on_and_repeats_no_recorded_call(
    casa, double, model, needs
) -> None:
    needs(RESUMING)
    stage = await a_stage(
        casa, dataclasses.replace(double, config={**double.config, "maxAttempts": 2}), model
    )
    reached = asyncio.Event()

    class Reached(asyncio.Event):
        async def wait(self) -> bool:
            reached.set()
            return await super().wait()

    model.script(
        calls(run_command("echo x >> count; cat count")),
        says(hold=Reached()),
    )
    await stage.post("go")
    await stage.die_in(reached)
    model.script(says("Done."))
    await stage.work()
    assert isinstance(await stage.ending(), Completed)
    assert len(await stage.of(llm.ToolResult)) == 1
    told = [each for each in model.asked[-1] if each.role != "system"]
    assert [(each.role, each.text.strip()) for each in told] == [
        ("user", "go"),
        ("assistant", ""),
        ("tool", "x"),
    ]
    used = [each.message["usage"]["totalTokens"] for each in await stage.of(llm.Assistant)]
    ending = await stage.ending()
    assert ending.usage is not None
    assert ending.usage.total_tokens == sum(used)


@pytest.mark.parametrize("ending", ["died", "left"])
async def test_the_model_reads_of_a_call_under_way_that_it_was_interrupted(
    casa, double, model, needs, ending: str
) -> None:
    needs(RESUMING)
    stage = await a_stage(
        casa, dataclasses.replace(double, config={**double.config, "maxAttempts": 2}), model
    )
    model.script(
        calls(run_command("[ -e go ] || { touch go; sleep 600; }; echo x"), text="I will.")
    )
    await stage.post("go")
    reached = asyncio.Event()

    async def look() -> None:
        await casa.wait(stage.thread_id, lambda types: "pi.assistant" in types)
        await asyncio.sleep(0.5)
        reached.set()

    looking = asyncio.create_task(look())
    await (stage.die_in(reached) if ending == "died" else stage.leave_in(reached))
    await looking
    model.script(says("Done."))
    await stage.work()
    assert isinstance(await stage.ending(), Completed)
    told = [each.text.strip() for each in model.asked[-1][-2:]]
    assert told == ["I will.", INTERRUPTED]
    assert len(await stage.of(llm.ToolResult)) == 1
    assert await stage.answers() == ["I will.", "Done."]


@pytest.mark.parametrize("grace_seconds", [0.0, 30.0])
async def test_tasks_of_one_message_come_back_as_its_results(
    casa, double, model, needs, grace_seconds: float
) -> None:
    """In the run that gave them, or in one that goes on when both have ended."""
    needs(CONTEXT, RESUMING)
    if double.runner == "python" and not grace_seconds:
        pytest.skip("it announces its calls one after the other, and forgets the others")
    stage = await a_stage(
        casa,
        dataclasses.replace(double, config={**double.config, "tools": ["delegate_task"]}),
        model,
    )
    casa.record.settings = casa.record.settings.model_copy(
        update={"permission_grace_seconds": grace_seconds}
    )
    model.script(calls(task("red", call_id="1"), task("blue", call_id="2")), says("Both."))
    await stage.post("go")
    async with stage.working(), asyncio.timeout(LIMIT_SECONDS):
        done: set[str] = set()
        while len(done) < 2:  # one after the other, where a runner makes its calls so
            for each in await stage.of(Delegated):
                if each.thread_id not in done:
                    done.add(each.thread_id)
                    ref = LaneRef(ThreadId(UUID(each.thread_id)), AgentId(UUID(each.agent_id)))
                    await turn.run_lane(casa.record, stage.heartbeats, ref)
            await asyncio.sleep(0.02)
    results = await stage.of(llm.ToolResult)
    assert sorted(each.message["content"][0]["text"] for each in results) == ["blue", "red"]
    assert await stage.answers() == ["Both."]
    ending = await stage.ending()
    assert ending.usage is not None
    used = [each.message["usage"]["totalTokens"] for each in await stage.of(llm.Assistant)]
    tasks = [each.usage.total_tokens for each in results]
    assert ending.usage.total_tokens == sum(used) + sum(tasks)
    assert min(tasks) > 0


async def test_a_call_that_waits_for_a_yes_is_made_once_by_the_run_that_has_it(
    casa, double, model, needs
) -> None:
    """The run that asked gives its worker up; another goes on with the answer."""
    needs(RESUMING)
    config = {**double.config, "permissions": {"run_command": "ask"}}
    stage = await a_stage(casa, dataclasses.replace(double, config=config), model)
    model.script(calls(run_command("echo x >> log; cat log"), text="May I?"), says("Done."))
    await stage.post("go")
    record, who = casa.record, casa.who
    async with stage.working():
        await casa.wait(stage.thread_id, lambda types: types[-1].endswith("waiting"))
        (asked,) = await permissions.list_open(record, who, stage.thread_id)
        permission_id = asked.question.asked.permission_id
        yes = permissions.Reply(decision="grant")
        await permissions.answer(record, who, stage.thread_id, permission_id, yes)
    assert isinstance(await stage.ending(), Completed)
    assert [each.text.strip() for each in model.asked[-1][-2:]] == ["May I?", "x"]
    assert len(await stage.of(Started)) == 2
    assert await stage.answers() == ["May I?", "Done."]


async def test_an_answer_of_200_kb_arrives_whole(stage: Stage, needs) -> None:
    needs(EXACT_TEXT)
    pieces = tuple(f"{number:09d} " * 100 for number in range(200))
    stage.model.script(says(*pieces))
    await stage.say("tell me all")
    assert await stage.answers() == ["".join(pieces)]
    assert not await stage.of(llm.Chunk)


@pytest.mark.parametrize(
    "text", ["a\u2028b\u2029c\u0085d", "Grüße 👩‍🚀 مرحبا", "tab\tand\x1besc"]
)
async def test_every_character_arrives(stage: Stage, needs, text: str) -> None:
    needs(EXACT_TEXT, CONTEXT)
    stage.model.script(says(text), calls(run_command(f"printf '%s' '{text}'")), says("."))
    await stage.say(text)
    assert (await stage.answers())[0] == text
    assert stage.model.asked[0][-1] == Said("user", text)
    await stage.say("again")
    assert stage.model.asked[-1][-1] == Said("tool", text)


def test_the_sum_of_usage_keeps_costs() -> None:
    one = TokenUsage(input=1, output=2, total_tokens=3)
    assert telling.plus(one, one).total_tokens == 6
