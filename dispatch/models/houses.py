"""Who is who: houses, members, tokens, agents, environments, sandboxes. Values only.

Times are aware UTC. Wire names are camelCase; `rename="camel"` makes them.
"""

from datetime import datetime
from typing import Any, Literal

import msgspec

from dispatch.ids import (
    AgentId,
    EnvironmentId,
    HouseId,
    MemberId,
    SandboxId,
    ThreadId,
    TokenId,
)

Role = Literal["owner", "member"]
TriggerMode = Literal["always", "mention", "never"]
WhenBusy = Literal["enqueue", "reject", "interrupt", "rollback", "steer", "write"]
SandboxStatus = Literal["starting", "ready", "dead", "released"]


class House(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A tenant. `primary_thread_id` is where `signal.house.*` lands; made with the house."""

    id: HouseId
    name: str
    primary_thread_id: ThreadId
    created_at: datetime
    when_busy: WhenBusy | None = None
    """For entries and threads that do not say; None: `enqueue`."""


class Member(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A person in one house."""

    id: MemberId
    house_id: HouseId
    name: str
    role: Role
    created_at: datetime


class Token(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """An API token without its secret, which is shown once and stored as a SHA-256."""

    id: TokenId
    member_id: MemberId
    name: str
    created_at: datetime
    expires_at: datetime | None = None
    last_used_at: datetime | None = None


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who a valid token speaks for: a member of a house."""

    member_id: MemberId
    house_id: HouseId
    role: Role
    name: str


class Agent(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A bot in a house. `trigger_mode` is the house-wide default; a thread may override it."""

    id: AgentId
    house_id: HouseId
    handle: str
    runner: str
    trigger_mode: TriggerMode
    created_at: datetime
    model: str | None = None
    config: dict[str, Any] = {}


class Environment(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A recipe for sandboxes: who makes them, and its config (`models.recipes`)."""

    id: EnvironmentId
    house_id: HouseId
    name: str
    provider: str
    created_at: datetime
    config: dict[str, Any] = {}


class Sandbox(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """One place where a thread's commands run, made from an environment."""

    id: SandboxId
    house_id: HouseId
    environment_id: EnvironmentId | None
    status: SandboxStatus
    created_at: datetime
    used_until: datetime
    """Its last command ends by then at the latest, or ended then."""
    cause: str | None = None
    """Why it is dead or released, when that is known."""


class FoundedHouse(msgspec.Struct, frozen=True, kw_only=True):
    """What founding a house makes at once, besides its primary thread."""

    house: House
    owner: Member
    token: Token
