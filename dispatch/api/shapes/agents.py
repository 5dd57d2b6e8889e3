"""Agents and environments on the wire."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from dispatch import clock
from dispatch.api import shapes
from dispatch.api.shapes import Answer, Body, Milliseconds, examples
from dispatch.models.houses import Agent, Environment, TriggerMode
from dispatch.models.threads import ThreadAgent


class AddAgent(Body):
    """A bot to add. `runner` names what a worker runs, such as `demo`."""

    model_config = shapes.example(handle="demo", runner="demo", triggerMode="mention")

    handle: str
    runner: str
    model: str | None = None
    config: dict[str, Any] = Field(default_factory=dict[str, Any])
    trigger_mode: TriggerMode = "mention"


class ChangeAgent(Body):
    """What shall be different about a bot; `config` is replaced whole."""

    model_config = shapes.example(triggerMode="always", config={"system": "Be brief."})

    handle: str = ""
    runner: str = ""
    model: str | None = None
    config: dict[str, Any] = Field(default_factory=dict[str, Any])
    trigger_mode: TriggerMode = "mention"


class SetTriggerMode(Body):
    """When entries of this thread wake the agent."""

    model_config = shapes.example(triggerMode="always")

    trigger_mode: TriggerMode


class AddEnvironment(Body):
    """A recipe for sandboxes: provider `local` or `docker`.

    `config`: `network`, `memoryBytes`, `processes`, `fileBytes`, `temporaryBytes`,
    `commandSeconds`; docker also `image`, which it needs, and `cpus`.
    """

    model_config = shapes.example(
        name="workspace", provider="docker", config={"image": "python:3.12-slim"}
    )

    name: str
    provider: str = "local"
    config: dict[str, Any] = Field(default_factory=dict[str, Any])


class AgentAnswer(Answer):
    """A bot of the house. A thread may override its `triggerMode`."""

    model_config = shapes.example(**examples.AGENT)

    id: str
    house_id: str
    handle: str
    runner: str
    model: str | None = None
    config: dict[str, Any]
    trigger_mode: TriggerMode
    created_at: Milliseconds


class AgentsAnswer(Answer):
    """A page of bots."""

    model_config = shapes.example(agents=[examples.AGENT], nextCursor=None)

    agents: list[AgentAnswer]
    next_cursor: str | None = None


class TriggerModeAnswer(Answer):
    """What holds in the thread from now on."""

    model_config = shapes.example(
        threadId=examples.THREAD_ID, agentId=examples.AGENT_ID, triggerMode="always"
    )

    thread_id: str
    agent_id: str
    trigger_mode: TriggerMode


class ThreadAgentAnswer(Answer):
    """When entries of the thread wake an agent, and who says so.

    `source`: the `thread`'s override; `direct`: it is the agent's own thread; the `house`.
    """

    model_config = shapes.example(
        agentId=examples.AGENT_ID, handle="demo", triggerMode="always", source="thread"
    )

    agent_id: str
    handle: str
    trigger_mode: TriggerMode
    source: Literal["thread", "direct", "house"]


class ThreadAgentsAnswer(Answer):
    """The agents of the house by handle, as one thread wakes them."""

    model_config = shapes.example(
        agents=[
            {
                "agentId": examples.AGENT_ID,
                "handle": "demo",
                "triggerMode": "always",
                "source": "thread",
            }
        ]
    )

    agents: list[ThreadAgentAnswer]


class EnvironmentAnswer(Answer):
    """A recipe for sandboxes."""

    model_config = shapes.example(**examples.ENVIRONMENT)

    id: str
    house_id: str
    name: str
    provider: str
    config: dict[str, Any]
    created_at: Milliseconds


class EnvironmentsAnswer(Answer):
    """A page of recipes."""

    model_config = shapes.example(environments=[examples.ENVIRONMENT], nextCursor=None)

    environments: list[EnvironmentAnswer]
    next_cursor: str | None = None


def agent(row: Agent) -> AgentAnswer:
    """Show a bot."""
    return AgentAnswer(
        id=str(row.id),
        house_id=str(row.house_id),
        handle=row.handle,
        runner=row.runner,
        model=row.model,
        config=row.config,
        trigger_mode=row.trigger_mode,
        created_at=clock.milliseconds(row.created_at),
    )


def thread_agents(rows: Sequence[ThreadAgent]) -> ThreadAgentsAnswer:
    """Show whom a thread wakes, and when."""
    return ThreadAgentsAnswer(
        agents=[
            ThreadAgentAnswer(
                agent_id=str(row.agent_id),
                handle=row.handle,
                trigger_mode=row.trigger_mode,
                source=row.source,
            )
            for row in rows
        ]
    )


def environment(row: Environment) -> EnvironmentAnswer:
    """Show a recipe."""
    return EnvironmentAnswer(
        id=str(row.id),
        house_id=str(row.house_id),
        name=row.name,
        provider=row.provider,
        config=row.config,
        created_at=clock.milliseconds(row.created_at),
    )
