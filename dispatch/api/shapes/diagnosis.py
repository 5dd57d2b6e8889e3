"""What `diagnose` answers: a thread's dispatches, with their causes and next steps."""

from typing import Annotated, Any, Literal

from pydantic import Field

from dispatch.api import shapes
from dispatch.api.shapes import Answer, examples
from dispatch.models.diagnosis import Stage

_Evidence = Annotated[
    dict[str, Any],
    Field(description="Facts; `…Ms` are Unix milliseconds, `…Seconds` durations."),
]


class VerdictAnswer(Answer):
    """Where one dispatch stands, why, and what to do."""

    stage: Stage
    dispatch_id: str | None = None
    attempt: int | None = None
    cause: str
    next_step: str
    evidence: _Evidence


class LaneAnswer(VerdictAnswer):
    """Where the foremost dispatch of one agent stands."""

    agent_id: str
    queued: Annotated[int, Field(description="Dispatches that wait for this agent.")]


class FindingAnswer(Answer):
    """Something that is wrong around dispatches."""

    code: str
    gravity: Literal["failed", "stalled", "degraded"]
    cause: str
    next_step: str


class EventAnswer(Answer):
    """An entry of the stream, without what it says."""

    id: str
    type: str
    ago_seconds: int
    dispatch_id: str | None = None
    reason: str | None = None


_EVIDENCE: dict[str, Any] = {
    "agentId": examples.AGENT_ID,
    "agent": "@demo",
    "maxAttempts": 3,
    "nowMs": examples.AT + 4000,
    "workersAlive": 2,
    "runId": "5f0c1b2a3d4e",
    "workerId": "host.4711.9a8b7c",
    "workerBeatMs": examples.AT + 1500,
    "workerSilentSeconds": 2,
    "lastSignMs": examples.AT + 3000,
    "overMs": examples.AT + 93000,
    "secondsLeft": 89,
    "overBy": "lease",
    "effects": True,
}
_VERDICT: dict[str, Any] = {
    "stage": "running",
    "dispatchId": examples.DISPATCH_ID,
    "attempt": 1,
    "cause": "Worker host.4711.9a8b7c runs attempt 1; it wrote last 1 s ago.",
    "nextStep": f"Follow it: arbe thread entries read {examples.THREAD_ID}.",
    "evidence": _EVIDENCE,
}


class DiagnosisAnswer(VerdictAnswer):
    """How the thread's last dispatch stands, and what else there is to know of the thread."""

    model_config = shapes.example(
        **_VERDICT,
        lanes=[{**_VERDICT, "agentId": examples.AGENT_ID, "queued": 0}],
        findings=[],
        events=[{"id": examples.ENTRY_ID, "type": "pi.chunk", "agoSeconds": 1}],
    )

    lanes: Annotated[
        list[LaneAnswer], Field(description="One per agent with work, the worst first.")
    ]
    findings: list[FindingAnswer]
    events: Annotated[
        list[EventAnswer], Field(description="The last entries, newest first; no texts.")
    ]
