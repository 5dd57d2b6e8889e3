"""Rows into values: one function per noun. A column and its field share one name."""

from typing import Any

import msgspec
from sqlalchemy.engine import RowMapping

from dispatch.models.cancellations import Cancellation
from dispatch.models.houses import Agent, Environment, House, Member, Sandbox, Token
from dispatch.models.threads import Deletion, Thread
from dispatch.payloads.usage import UsageTotals


def house(row: RowMapping) -> House:
    """Make a house of its row."""
    return House(**row)


def member(row: RowMapping) -> Member:
    """Make a member of its row."""
    return Member(**row)


def token(row: RowMapping) -> Token:
    """Make a token of its row, which the caller selected without the digest."""
    return Token(**row)


def agent(row: RowMapping) -> Agent:
    """Make an agent of its row."""
    return Agent(**row)


def environment(row: RowMapping) -> Environment:
    """Make an environment of its row."""
    return Environment(**row)


def sandbox(row: RowMapping) -> Sandbox:
    """Make a sandbox of its row."""
    return Sandbox(**row)


def thread(row: RowMapping) -> Thread:
    """Make a thread of its row."""
    values: dict[str, Any] = {**row, "usage": msgspec.convert(row["usage"], UsageTotals)}
    return Thread(**values)


def deletion(row: RowMapping) -> Deletion:
    """Make a deletion of its row."""
    return Deletion(**row)


def cancellation(row: RowMapping) -> Cancellation:
    """Make a cancellation of its row."""
    return Cancellation(**row)


def given(**values: Any) -> dict[str, Any]:
    """Keep the values that a caller gave; `None` is one of them, `UNSET` is not."""
    return {name: value for name, value in values.items() if value is not msgspec.UNSET}
