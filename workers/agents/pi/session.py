"""Makes pi's session file from the conversation as the thread's stream holds it.

pi reads the file from its last line to the root; a compaction stands for what came before. The
file is made anew for each turn and always ends with a line feed (0.73 glues the next entry to a
torn line and then loses all).
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from workers.agents import HistoryMessage, ToolCall

CONTINUE: Final = "Go on."
"""pi goes on only after something a user said; the extension keeps this from the model."""
INTERRUPTED: Final = "interrupted: the worker was lost; the command may have run"

Json = dict[str, Any]


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """What goes into the session file, what is asked then, and what must be done before."""

    before: tuple[HistoryMessage, ...]
    prompt: str | None
    """None: the last thing said is a tool's result, the model is to go on from there."""
    dangling: tuple[ToolCall, ...]
    """Tool calls of the last message that have no result yet."""


def read(history: Sequence[HistoryMessage], *, first_entry: str) -> Conversation:
    """Split a history into what pi is to know and what it is to be asked.

    Args: first_entry: the entry that began this turn; calls after it may still be performed.
    """
    known = list(history)
    prompt = None
    if known and known[-1].role == "user":
        prompt = text(known.pop().message)
    return Conversation(
        before=tuple(known), prompt=prompt, dangling=tuple(_dangling(known, first_entry))
    )


def lines(conversation: Conversation, *, session_id: str, folder: Path) -> Iterator[bytes]:
    """Yield the session file's lines; `folder` must exist, or pi refuses the file."""
    yield _line(
        {
            "type": "session",
            "version": 3,
            "id": session_id,
            "timestamp": _iso(0),
            "cwd": str(folder),
        }
    )
    parent: str | None = None
    for number, (entry, when) in enumerate(_entries(conversation.before), start=1):
        identity = f"{number:08x}"
        if entry["type"] == "compaction":
            # Nothing before it is kept: what is kept follows it.
            entry["firstKeptEntryId"] = identity
        yield _line({**entry, "id": identity, "parentId": parent, "timestamp": _iso(when)})
        parent = identity


def calls(message: Json, turn_index: int) -> list[ToolCall]:
    """Return the tool calls of an assistant's message, in its order."""
    found: list[ToolCall] = []
    for part in message.get("content") or ():
        if isinstance(part, dict) and part.get("type") == "toolCall":
            arguments = part.get("arguments")
            found.append(
                ToolCall(
                    id=str(part.get("id")),
                    name=str(part.get("name")),
                    arguments=arguments if isinstance(arguments, dict) else {},
                    turn_index=turn_index,
                )
            )
    return found


def _dangling(known: list[HistoryMessage], first_entry: str) -> Iterator[ToolCall]:
    begun = next((n for n, each in enumerate(known) if each.entry_id == first_entry), None)
    turn = known[begun + 1 :] if begun is not None else known
    answered = {each.message.get("toolCallId") for each in turn if each.role == "toolResult"}
    own = [each for each in turn if each.role == "assistant"]
    for number, each in enumerate(own):
        for call in calls(each.message, number):
            if call.id not in answered:
                yield call


def _entries(messages: Sequence[HistoryMessage]) -> Iterator[tuple[Json, int]]:
    """Yield session entries; each call is followed by its result, in the order of the calls."""
    for index, each in enumerate(messages):
        when = int(each.message.get("timestamp") or 0)
        match each.role:
            case "summary":
                yield _compaction(each.message), when
            case "toolResult":
                # It stands after its call, below.
                continue
            case "assistant":
                yield {"type": "message", "message": each.message}, when
                for result in _results(each.message, messages[index + 1 :]):
                    yield {"type": "message", "message": result}, when
            case _:
                yield {"type": "message", "message": each.message}, when


def _results(message: Json, later: Sequence[HistoryMessage]) -> Iterator[Json]:
    unclaimed = [each.message for each in _until_next_own(later) if each.role == "toolResult"]
    for call in calls(message, 0):
        found = next((each for each in unclaimed if each.get("toolCallId") == call.id), None)
        if found is not None:
            unclaimed.remove(found)
        yield found or {
            "role": "toolResult",
            "toolCallId": call.id,
            "toolName": call.name,
            "content": [{"type": "text", "text": INTERRUPTED}],
            "isError": True,
            "timestamp": message.get("timestamp") or 0,
        }


def _until_next_own(later: Sequence[HistoryMessage]) -> Iterator[HistoryMessage]:
    for each in later:
        if each.role == "assistant":
            return
        yield each


def _compaction(message: Json) -> Json:
    return {
        "type": "compaction",
        "summary": str(message.get("summary") or text(message)),
        "tokensBefore": int(message.get("tokensBefore") or 0),
    }


def text(message: Json) -> str:
    """Return the texts of a message as one."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "\n".join(str(part.get("text") or "") for part in content if isinstance(part, dict))


def _iso(milliseconds: int) -> str:
    moment = datetime.fromtimestamp(milliseconds / 1000, tz=UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _line(entry: Json) -> bytes:
    return msgspec.json.encode(entry) + b"\n"
