"""How a turn can end, as values. Expected endings are not exceptions.

An agent returns `Completed` or `Failed`; the others come from around it: the worker stops,
somebody cancels, the turn waits for an answer, or the record no longer holds this run for the
current one.
"""

from typing import TypeAlias

import msgspec

from dispatch.payloads.usage import TokenUsage

NOTHING_USED = TokenUsage()


class Completed(msgspec.Struct, frozen=True, kw_only=True):
    """The agent finished its turn."""

    usage: TokenUsage = NOTHING_USED


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """The agent gave up: `reason` is a stable word, `message` is for people.

    `retryable`: the cause may pass; a turn that showed nothing yet is tried again.
    """

    reason: str
    message: str
    usage: TokenUsage = NOTHING_USED
    retryable: bool = False


class Interrupted(msgspec.Struct, frozen=True, kw_only=True):
    """The worker stopped in the middle of the turn; `why` is a stable word."""

    why: str


class Cancelled(msgspec.Struct, frozen=True):
    """Somebody asked for the end; who and why stands on the stream, `reason` in a word."""

    reason: str = "requested"


class Waiting(msgspec.Struct, frozen=True):
    """The turn waits for somebody's answer and gives its worker up meanwhile."""


class LeaseLost(msgspec.Struct, frozen=True):
    """The record refused this run's fence: nothing more may be written for it."""


AgentOutcome: TypeAlias = Completed | Failed
Outcome: TypeAlias = Completed | Failed | Interrupted | Cancelled | Waiting | LeaseLost
