"""One turn of pi, from the history to the outcome.

    history ─▶ calls left over ─▶ pi starts ─▶ prompt ─▶ settled ─▶ steering? ─▶ outcome

Promise: on return, on raise and on cancellation no process and no folder of the turn is left.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import msgspec

from dispatch import clock, log, pi_install
from dispatch.config import Settings
from dispatch.errors import Invalid
from dispatch.ids import EntryId
from dispatch.pi_install import Install
from workers.agents import Hands, ToolAnswer, TurnRequest, telling
from workers.agents.pi import failures, home, leftovers, process, profile, records, session
from workers.agents.pi.bridge import Bridge
from workers.agents.pi.events import Mapper
from workers.agents.pi.home import Home
from workers.agents.pi.process import outlasting
from workers.agents.pi.profile import Profile
from workers.agents.pi.records import Record
from workers.agents.pi.rpc import Broken, Refused, Rpc
from workers.agents.pi.session import Conversation
from workers.agents.pi.settlement import Settlement
from workers.outcomes import AgentOutcome, Failed

_log = log.get(__name__)

ASK_SECONDS: Final = 10.0
"""pi answers a command within milliseconds, on a loaded machine within seconds."""
SETTLE_SECONDS: Final = 2.5
"""An aborted pi settles within 40 ms. With the ladder after it, less than a stopped turn may
take to unwind."""
PATIENCE: Final = 1.25
PATIENCE_SECONDS: Final = 1.5
"""Our watch over a silent model is longer than pi's own by this factor and these seconds: pi
can try again. Node's clock for a stalled answer is up to a second late."""


async def run(request: TurnRequest, hands: Hands) -> AgentOutcome:
    """Take one turn with the settings of this process."""
    return await run_with(_settings(), request, hands)


async def run_with(settings: Settings, request: TurnRequest, hands: Hands) -> AgentOutcome:
    """Take one turn.

    Promise: see the module. What a provider or pi does wrong becomes a `Failed`; what `hands`
    raise is raised.
    """
    try:
        asked = profile.read(request.agent, settings)
        install = await asyncio.to_thread(
            pi_install.find, settings, wanted=asked.config.pi_command
        )
    except Invalid as problem:
        return Failed(reason=problem.code, message=str(problem))
    async with _slots(settings.pi_processes):
        turn = Turn(settings, request, hands, asked, install)
        return await turn.take()


class Turn:
    """One turn and all that is open during it."""

    def __init__(
        self,
        settings: Settings,
        request: TurnRequest,
        hands: Hands,
        asked: Profile,
        install: Install,
    ) -> None:
        self._settings = settings
        self._request = request
        self._hands = hands
        self._profile = asked
        self._install = install
        self._mapper = Mapper(request, hands, self._first_kept)
        self._step = 1
        self._is_asked = False
        self._home: Home | None = None
        self._leave_out = ""
        self._bridge: Bridge | None = None
        self._rpc: Rpc | None = None
        self._settlement = Settlement(
            tells=install.pi.number >= home.SETTLES_SINCE, ask_state=self._ask_state
        )

    async def take(self) -> AgentOutcome:
        """Take the turn and clear up after it."""
        is_orderly = False
        try:
            outcome = await self._take()
            is_orderly = True
        except Broken as broken:
            return Failed(
                reason="agent_died",
                message=broken.what,
                usage=self._mapper.usage,
                retryable=True,
            )
        except Refused as refused:
            return Failed(reason="agent_error", message=str(refused), usage=self._mapper.usage)
        except asyncio.CancelledError:
            await outlasting(asyncio.create_task(self._abort()))
            raise
        else:
            return outcome
        finally:
            await outlasting(asyncio.create_task(self._clear_up(at_once=not is_orderly)))

    async def _take(self) -> AgentOutcome:
        conversation = await self._conversation()
        rpc = await self._start(conversation)
        prompt = conversation.prompt if conversation.prompt is not None else self._leave_out
        while True:
            silent = await self._ask(rpc, prompt)
            if silent is not None:
                return silent
            outcome = failures.outcome(self._mapper.last, self._mapper.usage)
            if isinstance(outcome, Failed):
                return outcome
            texts = await self._take_steering()
            if not texts:
                return outcome
            prompt = "\n\n".join(texts)

    async def _conversation(self) -> Conversation:
        """Read what was said so far, after performing what was announced and not done."""
        asked = self._request.entry_id
        history = await self._hands.history()
        found = session.read(history, asked=asked)
        if not found.dangling:
            self._mapper.take_up(telling.since(history, asked))
            return found
        try:
            async with asyncio.TaskGroup() as group:
                for call in found.dangling:
                    group.create_task(self._hands.call_tool(call))
        except ExceptionGroup as failed:
            # What hands raise has a meaning to the turn, alone.
            raise failed.exceptions[0] from failed
        history = await self._hands.history()
        self._mapper.take_up(telling.since(history, asked))
        return session.read(history, asked=asked)

    async def _start(self, conversation: Conversation) -> Rpc:
        """Start pi and shake hands with it. Raises: Broken, Refused."""
        request = self._request
        self._home = place = await asyncio.to_thread(home.make, request.run_id)
        self._bridge = Bridge(place.token, self._perform)
        await self._bridge.open(place.socket)
        self._leave_out = f"{session.CONTINUE} ({place.token[:8]})"
        lines = session.lines(
            conversation.before, session_id=str(request.thread_id), folder=place.work
        )
        await asyncio.to_thread(
            place.furnish,
            self._profile,
            self._settings,
            session=lines,
            bridge={
                "socket": str(place.socket),
                "token": place.token,
                "tools": msgspec.to_builtins(request.tools),
                "systemPrompt": self._profile.system_prompt,
                "mindsEnds": self._install.pi.number < home.MINDS_ENDS_SINCE
                and self._profile.config.api == "openai-completions",
                "leaveOut": self._leave_out if conversation.prompt is None else "",
            },
        )
        started = await process.start(
            place.arguments(self._install, self._profile),
            environment=await asyncio.to_thread(place.environment, request.run_id),
            folder=place.work,
            secret=self._profile.secret,
        )
        self._rpc = rpc = Rpc(started, self._on_record)
        answer = await rpc.ask("get_state", within_seconds=self._settings.pi_start_seconds)
        place.forget_key()
        self._check(answer)
        await rpc.ask("set_steering_mode", mode="all", within_seconds=ASK_SECONDS)
        return rpc

    def _check(self, answer: Record) -> None:
        state = msgspec.json.decode(answer.data, type=records.State)
        model = state.model or {}
        found = f"{model.get('provider')}/{model.get('id')}"
        if found != self._profile.model_ref:
            raise Refused(f"pi does not know the model {self._profile.model_ref}.")

    async def _ask(self, rpc: Rpc, prompt: str) -> Failed | None:
        """Send a prompt and wait until pi is done with it; a failure, if the model was mute."""
        self._settlement.expect()
        self._is_asked = True
        answer = await rpc.ask("prompt", message=prompt, within_seconds=ASK_SECONDS)
        if msgspec.json.decode(answer.data, type=records.Accepted | None) == records.HANDLED:
            raise Refused("pi took the text for a command of its own.")
        settled = asyncio.create_task(self._settlement.done.wait())
        mute = asyncio.create_task(self._mute(rpc))
        broken = self._bridge.broken if self._bridge else settled
        ends: set[asyncio.Future[object]] = {settled, mute, rpc.ended, broken}  # type: ignore[arg-type]
        try:
            done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            settled.cancel()
            mute.cancel()
        if broken in done:
            broken.result()
        if settled in done:
            return None
        if mute in done:
            await self._abort()
            seconds = self._settings.pi_silence_seconds
            return Failed(
                reason="provider_silent",
                message=f"The model's provider said nothing for {seconds:g} s.",
                usage=self._mapper.usage,
                retryable=True,
            )
        raise await rpc.wait_ended()

    async def _mute(self, rpc: Rpc) -> None:
        """Return when pi was silent for too long and only its model can be the cause."""
        patience = self._settings.pi_silence_seconds * PATIENCE + PATIENCE_SECONDS
        since = clock.monotonic_seconds()
        while True:
            limit = patience + self._mapper.pause_seconds
            now = clock.monotonic_seconds()
            if rpc.is_busy or (self._bridge and self._bridge.active_count):
                since = now
            since = max(since, rpc.process.heard_at)
            if now - since >= limit:
                return
            await asyncio.sleep(min(1.0, limit - (now - since)))

    async def _perform(self, call_id: str) -> ToolAnswer:
        """Perform a tool call; before the model is asked again, tell it what people said."""
        answer = await self._mapper.perform(call_id)
        for text in await self._take_steering():
            if self._rpc is not None:
                await self._rpc.ask("steer", message=text, within_seconds=ASK_SECONDS)
        return answer

    async def _take_steering(self) -> Sequence[str]:
        self._step += 1
        return await self._hands.take_steering(self._step)

    async def _first_kept(self, kept_id: str | None) -> EntryId | None:
        if self._home is None:
            return None
        return await asyncio.to_thread(
            session.first_kept, self._home.session, kept_id, await self._hands.history()
        )

    async def _ask_state(self) -> str:
        return await self._rpc.post("get_state") if self._rpc is not None else ""

    async def _on_record(self, record: Record) -> None:
        await self._mapper.take(record)
        await self._settlement.take(record)

    async def _abort(self) -> None:
        """Let pi say how far it came, for a short while; what it says is still told."""
        self._mapper.is_silenced = True
        if self._bridge is not None:
            await self._bridge.cancel_calls()
        rpc = self._rpc
        if rpc is None or rpc.ended.done() or not self._is_asked:
            return
        with contextlib.suppress(Exception):
            await rpc.post("clear_queue")
            await rpc.post("abort")
            async with asyncio.timeout(SETTLE_SECONDS):
                settled = asyncio.create_task(self._settlement.done.wait())
                try:
                    await asyncio.wait(
                        {settled, rpc.ended}, return_when=asyncio.FIRST_COMPLETED
                    )
                finally:
                    settled.cancel()

    async def _clear_up(self, *, at_once: bool) -> None:
        self._settlement.close()
        if self._rpc is not None:
            await self._rpc.process.end(at_once=at_once)
            await self._rpc.close()
        if self._bridge is not None:
            await self._bridge.close()
        await asyncio.to_thread(leftovers.kill_run, self._request.run_id)
        if self._home is not None:
            await self._home.remove()


@lru_cache(maxsize=1)
def _slots(count: int) -> asyncio.Semaphore:
    return asyncio.Semaphore(count)


@lru_cache(maxsize=1)
def _settings() -> Settings:
    return Settings()
