"""What `GET /v1/diagnose` answers: the whole, with numbers and ids only of what all share."""

from typing import Annotated, Literal

from pydantic import Field

from dispatch.api import shapes
from dispatch.api.shapes import Answer, Milliseconds, examples
from dispatch.api.shapes.diagnosis import FindingAnswer
from dispatch.models.diagnosis import Stage
from dispatch.models.threads import ThreadStatus

_UpDown = Literal["up", "down"]


class WorkerAnswer(Answer):
    """A worker process, whosever threads it runs."""

    worker_id: str
    is_alive: bool
    beat_ms: Milliseconds
    silent_seconds: int
    runs: Annotated[int, Field(description="Lanes it claimed, at most.")]
    is_deaf: Annotated[
        bool, Field(description="It hears nothing from the broker and takes no new work.")
    ]


class BacklogAnswer(Answer):
    """What is left to do, of all houses: lanes with work, rows that lag, answers to pass on."""

    lanes: int
    overdue: int
    oldest_overdue_seconds: int
    rows_behind: Annotated[int, Field(description="Rows not told yet how threads stand.")]
    oldest_behind_seconds: int
    replies: Annotated[int, Field(description="Answers that may still wake agents they name.")]
    oldest_reply_seconds: int


class SweepAnswer(Answer):
    """When a sweep of the timetable last ran to its end."""

    name: str
    last_ms: Milliseconds
    ago_seconds: int


class ListedThreadAnswer(Answer):
    """A thread that needs a look, by the worst of its lanes."""

    thread_id: str
    name: str | None = None
    status: ThreadStatus
    stage: Stage
    agent_id: str | None = None
    dispatch_id: str | None = None
    cause: str
    next_step: str
    since_ms: Milliseconds


class HouseThreadsAnswer(Answer):
    """The house's threads with work, or that failed within a day."""

    stages: Annotated[dict[Stage, int], Field(description="How many threads by stage.")]
    looked_at: int
    is_complete: Annotated[
        bool, Field(description="False: there are more than were looked at.")
    ]
    listed: Annotated[
        list[ListedThreadAnswer], Field(description="Stuck or failed, the worst first.")
    ]
    next_cursor: str | None = None


class RedisAnswer(Answer):
    """The Redis that holds the streams."""

    answer: _UpDown
    version: str | None = None
    uptime_seconds: int | None = None
    appendonly: bool | None = None
    appendfsync: str | None = None
    aof_writes_succeed: bool | None = None
    maxmemory_policy: str | None = None
    maxmemory_bytes: int | None = None
    used_memory_bytes: int | None = None


class PostgresAnswer(Answer):
    """The Postgres that holds the rows."""

    answer: _UpDown
    version: str | None = None
    fsync: bool | None = None
    synchronous_commit: str | None = None
    is_read_only: bool | None = None


class QueueAnswer(Answer):
    """A queue at the broker; without `messages` there is none of that name."""

    name: str
    messages: int | None = None
    consumers: Annotated[
        int | None, Field(description="Worker processes that take from it; RabbitMQ only.")
    ] = None


class BrokerAnswer(Answer):
    """The broker of the hints."""

    answer: _UpDown
    kind: Literal["redis", "rabbitmq"]
    queues: list[QueueAnswer]


class ServersAnswer(Answer):
    """The three servers, and the settings of theirs that promises rest on."""

    redis: RedisAnswer
    postgres: PostgresAnswer
    broker: BrokerAnswer


class FleetAnswer(Answer):
    """How the whole stands. A part whose server is away is missing."""

    model_config = shapes.example(
        verdict="stalled",
        cause="1 of the house's threads stand still.",
        nextStep="Read what the listed ones say; `arbe thread prune` repairs them all.",
        findings=[
            {
                "code": "threads_stalled",
                "gravity": "stalled",
                "cause": "1 of the house's threads stand still.",
                "nextStep": "Read what the listed ones say; `arbe thread prune` repairs "
                "them all.",
            }
        ],
        threads={
            "stages": {"stalled": 1, "running": 3},
            "lookedAt": 4,
            "isComplete": True,
            "listed": [
                {
                    "threadId": examples.THREAD_ID,
                    "name": "Release notes",
                    "status": "running",
                    "stage": "stalled",
                    "agentId": examples.AGENT_ID,
                    "dispatchId": examples.DISPATCH_ID,
                    "cause": "Worker host.4711.9a8b7c shows no sign of life for 17 s; "
                    "its run wrote last 18 s ago.",
                    "nextStep": "Start a worker: the sweep ends or repeats the run within "
                    "seconds.",
                    "sinceMs": examples.AT,
                }
            ],
        },
        workers=[
            {
                "workerId": "host.4712.0c1d2e",
                "isAlive": True,
                "beatMs": examples.AT,
                "silentSeconds": 2,
                "runs": 3,
                "isDeaf": False,
            }
        ],
        backlog={
            "lanes": 4,
            "overdue": 0,
            "oldestOverdueSeconds": 0,
            "rowsBehind": 0,
            "oldestBehindSeconds": 0,
            "replies": 0,
            "oldestReplySeconds": 0,
        },
        sweeps=[{"name": "redeliver", "lastMs": examples.AT, "agoSeconds": 1}],
        servers={
            "redis": {
                "answer": "up",
                "version": "7.0.15",
                "uptimeSeconds": 86400,
                "appendonly": True,
                "appendfsync": "everysec",
                "aofWritesSucceed": True,
                "maxmemoryPolicy": "noeviction",
                "maxmemoryBytes": 0,
                "usedMemoryBytes": 52428800,
            },
            "postgres": {
                "answer": "up",
                "version": "15.18",
                "fsync": True,
                "synchronousCommit": "on",
                "isReadOnly": False,
            },
            "broker": {
                "answer": "up",
                "kind": "rabbitmq",
                "queues": [{"name": "arbe.turns", "messages": 0, "consumers": 2}],
            },
        },
    )

    verdict: Annotated[
        Literal["healthy", "degraded", "stalled", "failed"],
        Field(
            description="`failed`: nothing can start; `stalled`: something stands still; "
            "`degraded`: all goes on, but something is missing or unsafe."
        ),
    ]
    cause: str
    next_step: str
    findings: Annotated[list[FindingAnswer], Field(description="The gravest first.")]
    threads: HouseThreadsAnswer | None = None
    workers: list[WorkerAnswer] | None = None
    backlog: BacklogAnswer | None = None
    sweeps: list[SweepAnswer] | None = None
    servers: ServersAnswer
