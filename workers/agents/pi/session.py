"""Makes pi's session file from the conversation as the thread's stream holds it.

pi reads the file from its last line to the root; a compaction stands for what came before. The
file is made anew for each turn and always ends with a line feed (0.73 glues the next entry to a
torn line and then loses all).
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, cast

import msgspec

from dispatch.ids import EntryId, milliseconds_of
from dispatch.models.history import HistoryMessage
from dispatch.payloads.content import UNFINISHED, text_of, tool_calls
from workers.agents import ToolCall

CONTINUE: Final = "Go on."
"""pi goes on only after something a user said; the extension keeps this from the model."""

Json = dict[str, Any]


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """What goes into the session file, what is asked then, and what must be done before."""

    before: tuple[HistoryMessage, ...]
    prompt: str | None
    """None: no user spoke last, the model is to go on from there."""
    dangling: tuple[ToolCall, ...]
    """Announced tool calls that have no result yet."""


def read(history: Sequence[HistoryMessage], *, asked: EntryId) -> Conversation:
    """Split a history into what pi is to know and what it is to be asked.

    Args: asked: the entry that asks for this turn; messages after it count as its steps.
    """
    known = list(history)
    prompt = None
    if known and known[-1].role == "user":
        prompt = text_of(known.pop().message)
    return Conversation(
        before=tuple(known), prompt=prompt, dangling=tuple(_dangling(known, asked))
    )


def lines(
    before: Sequence[HistoryMessage], *, session_id: str, folder: Path
) -> Iterator[bytes]:
    """Yield the session file's lines; `folder` must exist, or pi refuses the file."""
    header = {"version": 3, "id": session_id, "timestamp": _iso(0), "cwd": str(folder)}
    yield _line({"type": "session", **header})
    parent: str | None = None
    first: str | None = None
    for number, each in enumerate(_in_pis_order(before), start=1):
        identity = f"{number:08x}"
        first = first or identity
        entry = _entry(each, first_kept=first)
        when = _iso(milliseconds_of(each.entry_id))
        yield _line({**entry, "id": identity, "parentId": parent, "timestamp": when})
        parent = identity


def calls(message: Json, turn_index: int) -> list[ToolCall]:
    """Return the tool calls of an assistant's message, in its order."""
    found: list[ToolCall] = []
    for part in tool_calls(message):
        given = part.get("arguments")
        arguments = cast("Json", given) if isinstance(given, dict) else {}
        found.append(
            ToolCall(
                id=str(part.get("id")),
                name=str(part.get("name")),
                arguments=arguments,
                turn_index=turn_index,
            )
        )
    return found


def first_kept(
    file: Path, kept_id: str | None, history: Iterable[HistoryMessage]
) -> EntryId | None:
    """Return the thread's entry from which on a compaction of pi's left messages as they are.

    pi names an entry of its session file; it is found again in the history by what it says.
    None: nothing was kept, or what was cannot be found; then the summary alone goes on.
    Blocking.
    """
    if kept_id is None:
        return None
    kept = next(_messages_from(file, kept_id), None)
    if kept is None:
        return None
    wanted = _token(kept)
    found = [each for each in history if _token(each.message) == wanted]
    return found[-1].entry_id if found else None


def _messages_from(file: Path, entry_id: str) -> Iterator[Json]:
    is_kept = False
    for line in file.read_bytes().split(b"\n"):
        try:
            entry = msgspec.json.decode(line, type=Json)
        except msgspec.DecodeError:
            continue
        is_kept = is_kept or entry.get("id") == entry_id
        message: Json = entry.get("message") or {}
        is_known = message.get("role", "system") != "system"
        if is_kept and is_known and message.get("stopReason") not in UNFINISHED:
            yield message


def _token(message: Json) -> tuple[object, ...]:
    """Return what tells a message from the others, the same in pi's file and on the stream."""
    match message.get("role"):
        case "toolResult":
            return ("toolResult", message.get("toolCallId"))
        case "assistant":
            return ("assistant", message.get("timestamp"), text_of(message))
        case role:
            return (role, text_of(message))


def _dangling(known: Sequence[HistoryMessage], asked: EntryId) -> Iterator[ToolCall]:
    turn_index = 0
    unanswered: dict[str, ToolCall] = {}
    for each in known:
        if each.role == "assistant":
            for call in calls(each.message, turn_index):
                unanswered[call.id] = call
            turn_index += each.entry_id > asked
        elif each.role == "toolResult":
            unanswered.pop(str(each.message.get("toolCallId")), None)
    yield from unanswered.values()


def _in_pis_order(before: Sequence[HistoryMessage]) -> list[HistoryMessage]:
    """Put what a summary left as it was before it, where pi looks for it."""
    if not before or before[0].role != "summary":
        return list(before)
    summary, *rest = before
    count = next(
        (n for n, each in enumerate(rest) if each.entry_id > summary.entry_id), len(rest)
    )
    return [*rest[:count], summary, *rest[count:]]


def _entry(each: HistoryMessage, *, first_kept: str) -> Json:
    if each.role != "summary":
        return {"type": "message", "message": each.message}
    return {
        "type": "compaction",
        "summary": str(each.message.get("summary") or ""),
        # Its own id, when it is the first: then nothing was kept.
        "firstKeptEntryId": first_kept,
        "tokensBefore": int(each.message.get("tokensBefore") or 0),
    }


def _iso(milliseconds: int) -> str:
    moment = datetime.fromtimestamp(milliseconds / 1000, tz=UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _line(entry: Json) -> bytes:
    return msgspec.json.encode(entry) + b"\n"
