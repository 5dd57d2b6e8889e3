"""How one object and simple lists of objects are shown."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from dispatch.cli.doors import Door
from dispatch.client.connection import Json

_MINUTE: Final = 60
_HOUR: Final = 3600
_DAY: Final = 24 * 3600


def show(door: Door, thing: Json) -> None:
    """Show one object: its fields, one a line."""
    if door.output.as_json:
        door.output.json(thing)
        return
    door.output.table(
        [(name, cell(name, value)) for name, value in thing.items()], ("field", "value")
    )


def show_list(door: Door, found: Json, key: str, columns: Sequence[str]) -> None:
    """Show a list answer `{key: […]}` by some fields of its objects."""
    if door.output.as_json:
        door.output.json(found)
        return
    things: Iterable[Json] = found[key]
    door.output.table(
        [tuple(cell(column, thing.get(column)) for column in columns) for thing in things],
        columns,
    )


async def every(list_page: Callable[..., Awaitable[Json]], key: str) -> Json:
    """Return all pages of a list answer `{key: […], nextCursor}` as one."""
    things: list[Json] = []
    cursor: str | None = None
    while True:
        page = await list_page(cursor=cursor)
        things += page[key]
        cursor = page.get("nextCursor")
        if not cursor:
            return {key: things, "nextCursor": None}


def done(door: Door, answer: Json) -> None:
    """Confirm an act that has no answer of its own."""
    if door.output.as_json:
        door.output.json(answer)
        return
    for verb, thing in answer.items():
        door.output.note(f"{verb}: {thing}")


def cell(name: str, value: Any) -> str:
    """Return a field's value as text; times (`…At`, `…Ms`) as local time."""
    if value is None:
        return ""
    if name.endswith(("At", "Ms")) and isinstance(value, int):
        return moment(value)
    if isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()


def duration(seconds: int) -> str:
    """Return a length of time as people say it: 9 s, 12 min, 3 h, 5 days."""
    if seconds < _MINUTE:
        return f"{seconds} s"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE} min"
    if seconds < 2 * _DAY:
        return f"{seconds // _HOUR} h"
    return f"{seconds // _DAY} days"


def moment(milliseconds: int | None) -> str:
    """Return a wire time as local time, to the second; programs take it from the JSON."""
    if milliseconds is None:
        return ""
    when = datetime.fromtimestamp(milliseconds / 1000, tz=UTC).astimezone()
    return f"{when:%Y-%m-%d %H:%M:%S}"
