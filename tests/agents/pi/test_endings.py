"""How turns of the real pi end: cancelled, failed, killed. Nothing is left."""

import asyncio
import time

import pytest

from dispatch.errors import Fenced
from dispatch.payloads import llm
from dispatch.payloads.signals import Retrying
from tests.agents.pi import installs
from tests.agents.pi import provider as model
from tests.agents.pi.conftest import KEY, Run, processes
from tests.agents.pi.hands import ThreadHands, until
from tests.agents.pi.provider import Provider, Step
from workers.agents import ToolAnswer, ToolCall
from workers.outcomes import Completed, Failed
from workers.sandboxes import OnOutput

old_and_new = pytest.mark.parametrize("version", [installs.OLD, installs.NEW], indirect=True)
LS = ("call_ls", "run_command", {"command": "ls"})
UNWIND_SECONDS = 30.0
"""A turn that went on waiting would take for ever; `workers.turn` gives it 5 s."""


async def cancelled(turn: "asyncio.Future[object]") -> float:
    """Cancel the turn, twice, and return how long it took to end."""
    began = time.monotonic()
    turn.cancel()
    await asyncio.sleep(0.02)
    turn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turn
    return time.monotonic() - began


@old_and_new
async def test_a_turn_cancelled_in_its_text_shows_how_far_it_came(
    run: Run, hands: ThreadHands, provider: Provider
) -> None:
    provider.steps = [model.stall]
    hands.ask("Go.")
    turn = asyncio.ensure_future(run())
    await until(lambda: bool(hands.chunks("text")))

    assert await cancelled(turn) < UNWIND_SECONDS
    assert (hands.stops, hands.said) == (["aborted"], ["half an ans"])
    assert processes() == []


@old_and_new
async def test_a_turn_cancelled_in_a_tool_cancels_the_tool(
    run: Run, hands: ThreadHands, provider: Provider
) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def stuck(_call: ToolCall, _: OnOutput) -> ToolAnswer:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    hands.tool = stuck
    provider.steps = [model.tool_calls(LS)]
    hands.ask("Go.")
    turn = asyncio.ensure_future(run())
    await begun.wait()

    assert await cancelled(turn) < UNWIND_SECONDS
    assert ended.is_set()
    assert not hands.of(llm.ToolResult)
    assert len(provider.requests) == 1


@old_and_new
async def test_a_turn_cancelled_in_a_back_off_ends(
    run: Run, hands: ThreadHands, provider: Provider
) -> None:
    provider.otherwise = model.status(500)
    hands.ask("Go.")
    turn = asyncio.ensure_future(run(pi_retry_seconds=300))
    await until(lambda: bool(hands.of(Retrying)))

    assert await cancelled(turn) < UNWIND_SECONDS
    assert len(provider.requests) == 1


@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.2, 0.4])
async def test_a_turn_cancelled_while_pi_starts_leaves_nothing(
    run: Run, hands: ThreadHands, provider: Provider, seconds: float
) -> None:
    provider.otherwise = model.hang
    hands.ask("Go.")
    turn = asyncio.ensure_future(run())
    await asyncio.sleep(seconds)

    assert await cancelled(turn) < UNWIND_SECONDS


async def test_a_run_that_lost_its_lease_ends_pi_and_raises(
    run: Run, hands: ThreadHands, provider: Provider
) -> None:
    provider.steps = [model.text("Hello.")]
    hands.ask("Go.")
    hands.unwritable = Fenced("a-dispatch", answer="GAP")

    with pytest.raises(Fenced):
        await run()


@old_and_new
@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([model.status(500), model.status(503)], id="500"),
        pytest.param([model.status(429, "slow down", retry_after="1")], id="429"),
        pytest.param([model.cut], id="cut"),
        pytest.param([model.missing_finish], id="missing finish"),
    ],
)
async def test_a_passing_failure_is_told_and_tried_again(
    run: Run, hands: ThreadHands, provider: Provider, steps: list[Step]
) -> None:
    provider.steps = [*steps, model.text("At last.")]
    hands.ask("Go.")
    outcome = await run()

    assert isinstance(outcome, Completed), outcome
    assert hands.said[-1] == "At last."
    assert len(provider.requests) == len(steps) + 1
    told = hands.of(Retrying)
    assert [each.attempt for each in told] == list(range(1, len(steps) + 1))
    assert {each.max_attempts for each in told} == {3}
    assert all(each.error_message for each in told)
    assert hands.stops == ["error"] * len(steps) + ["stop"]
    assert provider.contexts()[-1] == provider.contexts()[0]


@old_and_new
async def test_failed_tries_are_not_told_to_the_model(
    run: Run, hands: ThreadHands, provider: Provider
) -> None:
    provider.steps = [model.cut, model.text("At last."), model.text("Welcome.")]
    for text in ("Go.", "Thanks."):
        hands.ask(text)
        assert isinstance(await run(), Completed)

    assert [each["role"] for each in provider.contexts()[-1]] == ["user", "assistant", "user"]


@pytest.mark.parametrize(
    ("step", "reason", "retryable", "requests"),
    [
        pytest.param(model.status(500), "provider_error", True, 2, id="500"),
        pytest.param(model.status(429, "slow down"), "rate_limited", True, 2, id="429"),
        pytest.param(model.status(400, "no"), "provider_error", False, 1, id="400"),
        pytest.param(model.status(401, "no"), "provider_error", False, 1, id="401"),
        pytest.param(model.cut, "provider_error", True, 2, id="cut"),
        pytest.param(model.hang, "provider_error", True, 2, id="hang"),
        pytest.param(model.stall, "provider_error", True, 2, id="stall"),
    ],
)
async def test_a_lasting_failure_ends_the_turn(
    run: Run, hands: ThreadHands, provider: Provider,
    step: Step, reason: str, retryable: bool, requests: int,
) -> None:  # fmt: skip
    provider.otherwise = step
    hands.ask("Go.")
    outcome = await run(pi_retries=1, pi_silence_seconds=2)

    assert isinstance(outcome, Failed)
    assert (outcome.reason, outcome.retryable) == (reason, retryable)
    assert len(provider.requests) == requests
    assert set(hands.stops) == {"error"}


@pytest.mark.parametrize("version", [installs.OLD], indirect=True)
async def test_a_model_that_pi_would_wait_for_for_ever_is_given_up(
    run: Run, hands: ThreadHands, provider: Provider
) -> None:
    provider.otherwise = model.stall
    hands.ask("Go.")
    outcome = await run(pi_silence_seconds=2)

    assert isinstance(outcome, Failed)
    assert (outcome.reason, outcome.retryable) == ("provider_silent", True)
    assert hands.said == ["half an ans"]


@old_and_new
async def test_a_key_that_a_provider_repeats_is_blanked_out(
    run: Run, hands: ThreadHands, provider: Provider
) -> None:
    provider.otherwise = model.status(401, f"Incorrect API key provided: {KEY}.")
    hands.ask("Go.")
    outcome = await run()

    assert isinstance(outcome, Failed)
    assert "[secret]" in outcome.message
    assert KEY not in str(hands.events) + outcome.message


@old_and_new
async def test_a_context_that_is_too_long_is_compacted_and_asked_again(
    run: Run, hands: ThreadHands, provider: Provider
) -> None:
    hands.ask("Tell me all. " + "word " * 20_000)
    provider.steps = [model.text("All. " + "more " * 20_000)]
    assert isinstance(await run(), Completed)
    hands.ask("And then?")
    too_long = "This model's maximum context length is 1000 tokens. Please reduce the length."
    provider.steps = [model.status(400, too_long), model.text("SUMMARY"), model.text("Then.")]
    provider.otherwise = model.text("MORE SUMMARY")
    outcome = await run()

    assert isinstance(outcome, Completed), outcome
    assert hands.said[-1] in {"Then.", "MORE SUMMARY"}
    (compaction,) = hands.of(llm.Compaction)
    assert (compaction.reason, compaction.will_retry) == ("overflow", True)
    assert "SUMMARY" in str(provider.contexts()[-1])


async def test_a_slow_tool_is_not_a_silent_model(
    run: Run, hands: ThreadHands, provider: Provider
) -> None:
    async def slow(_call: ToolCall, _: OnOutput) -> ToolAnswer:
        await asyncio.sleep(6)
        return ToolAnswer(text="slow")

    hands.tool = slow
    provider.steps = [model.tool_calls(LS), model.text("Done.")]
    hands.ask("Go.")
    assert isinstance(await run(pi_silence_seconds=3), Completed)


async def test_an_unreachable_provider_ends_the_turn(run: Run, hands: ThreadHands) -> None:
    hands.ask("Go.")
    outcome = await run(config={"baseUrl": "http://127.0.0.1:9/v1"}, pi_retries=1)

    assert isinstance(outcome, Failed)
    assert (outcome.reason, outcome.retryable) == ("provider_error", True)
    assert len(hands.of(Retrying)) == 1


@pytest.mark.parametrize(
    "config",
    [
        {"apiKeyEnv": "NO_SUCH_API_KEY"},
        {"apiKeyEnv": "ARBE_OPERATOR_API_KEY"},
        {"apiKeyEnv": "DATABASE_URL"},
        {"piCommand": "/bin/sh"},
        {"contextWindow": "large"},
        {"baseUrl": None},
        {"baseUrl": None, "provider": "openai", "apiKeyEnv": None},
    ],
)
async def test_a_config_that_cannot_be_used_is_refused(
    run: Run, hands: ThreadHands, config: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://secret")
    monkeypatch.setenv("ARBE_OPERATOR_API_KEY", "secret")
    hands.ask("Go.")
    outcome = await run(config=config)

    assert isinstance(outcome, Failed)
    assert (outcome.reason, outcome.retryable) == ("invalid", False)
    assert "secret" not in outcome.message
