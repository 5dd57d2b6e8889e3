"""A scripted model: what each runner's own test double says, and what it was asked."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Said:
    """One message a model was given, whatever the library: its role and its text."""

    role: str
    """user, assistant, tool or system."""
    text: str


@dataclass(frozen=True)
class Call:
    id: str
    name: str
    arguments: dict[str, Any]


@dataclass
class Reply:
    """One answer of the model: its pieces, then its calls; or its breakdown."""

    pieces: tuple[str, ...] = ()
    calls: tuple[Call, ...] = ()
    error: str = ""
    hold: asyncio.Event | None = None
    """After the first piece, or before an answer without any, the model waits for this."""


@dataclass
class Model:
    """Gives its replies in order and remembers what it was asked each time."""

    replies: list[Reply] = field(default_factory=list)
    asked: list[list[Said]] = field(default_factory=list)
    offered: list[set[str]] = field(default_factory=list)
    """The names of the tools it was told of, each time."""
    act: Callable[[str], Awaitable[str]] | None = None
    """What the agent's own tool `book` does."""

    def script(self, *replies: Reply) -> None:
        self.replies += replies

    def next(self, asked: list[Said], offered: set[str]) -> Reply:
        self.asked.append(asked)
        self.offered.append(offered)
        assert self.replies, f"the model was asked once too often: {asked}"
        return self.replies.pop(0)

    async def book(self, thing: str) -> str:
        return await self.act(thing) if self.act else f"booked {thing}"


def says(*pieces: str, hold: asyncio.Event | None = None) -> Reply:
    return Reply(pieces=pieces, hold=hold)


def calls(*wanted: Call, text: str = "") -> Reply:
    return Reply(pieces=(text,) if text else (), calls=wanted)


def breaks(error: str, *pieces: str) -> Reply:
    return Reply(pieces=pieces, error=error)


class ModelBroke(Exception):
    """What the model's provider answers with when it breaks."""


MODEL = Model()
"""The model of the test that runs; `fresh` gives each test its own."""


def fresh() -> Model:
    MODEL.__dict__.update(Model().__dict__)
    return MODEL
