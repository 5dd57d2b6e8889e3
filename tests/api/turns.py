"""A worker's part of a turn, played by the test through the same scripts."""

from dataclasses import dataclass
from uuid import UUID

from dispatch import ids, payloads
from dispatch.client import Json
from dispatch.ids import AgentId, ThreadId, WorkerId
from dispatch.operations import project
from dispatch.operations.record import Record
from dispatch.payloads.llm import Assistant, Chunk
from dispatch.payloads.signals import AskKind, Completed, Failed, PermissionRequested
from dispatch.streams import runs
from dispatch.streams.runs import Claimed, Fence

WORKER = WorkerId("test.1.aa")


@dataclass
class Turn:
    """A run that holds its lane; `n` counts what it wrote."""

    record: Record
    fence: Fence
    n: int = 0

    async def append(self, *events: payloads.KnownPayload) -> None:
        encoded = [(event, payloads.encode(event)) for event in events]
        await runs.append(
            self.record.scripts, self.fence, encoded, n=self.n + 1, max_stream_entries=1000
        )
        self.n += len(events)

    async def say(self, *words: str) -> None:
        """Stream words, then the message that they make."""
        message_id = f"{self.fence.dispatch_id}:1:1"
        for word in words:
            await self.append(Chunk(kind="text", message_id=message_id, delta=word))
        content = [{"type": "text", "text": "".join(words)}]
        await self.append(
            Assistant(message_id=message_id, turn_index=0, message={"content": content})
        )

    async def ask(self, *, kind: AskKind = "permission", command: str = "make") -> str:
        """Ask people about a command; return the question's id."""
        self.n += 1
        fence = self.fence
        question = PermissionRequested(
            permission_id=f"{fence.dispatch_id}.{fence.run_id}.{self.n}",
            dispatch_id=fence.dispatch_id,
            agent_id=str(fence.lane),
            kind=kind,
            tool_call_id=f"call{self.n}",
            tool_name="run_command",
            arguments={"command": command},
            deadline=0,
        )
        await runs.ask(self.record.scripts, fence, question, n=self.n, wait_seconds=3600)
        return question.permission_id

    async def wait(self) -> str:
        return await runs.wait(
            self.record.scripts, self.fence, worker_id=WORKER, redeliver_after_seconds=5.0
        )

    async def take(self, step: int) -> int:
        """Take in what was posted to steer the turn; tell how many entries that were."""
        taken = await runs.take(self.record.scripts, self.fence, n=self.n + 1, step=step)
        self.n += len(taken.entries)
        return len(taken.entries)

    async def end(self, *, failed: str = "") -> None:
        terminal = (
            Failed(
                dispatch_id=self.fence.dispatch_id,
                run_id=self.fence.run_id,
                reason="agent_error",
                message=failed,
            )
            if failed
            else Completed(dispatch_id=self.fence.dispatch_id, run_id=self.fence.run_id)
        )
        await runs.finish(
            self.record.scripts,
            self.fence,
            terminal,
            [],
            n=self.n + 1,
            worker_id=WORKER,
            redeliver_after_seconds=60,
        )
        await project.project(self.record, self.fence.thread_id)


async def begin(record: Record, posted: Json, *, lease_seconds: float = 90) -> Turn:
    """Claim the dispatch that a post gave birth to."""
    thread_id = ThreadId(UUID(posted["threadId"]))
    claimed = await runs.claim(
        record.scripts,
        thread_id,
        AgentId(UUID(posted["dispatches"][0]["agentId"])),
        run_id=ids.new_run_id(),
        worker_id=WORKER,
        lease_seconds=lease_seconds,
    )
    assert isinstance(claimed, Claimed), claimed
    await project.project(record, thread_id)
    return Turn(record, claimed.fence)
