"""Who an entry wakes: the pure rule between a text, its author and a thread's listeners.

`docs/mentions.md` has the rule as a table. A mention is `@handle` that stands for itself: not
in code, not behind a backslash, not part of an address (`ann@coder.com`, `x/@coder`).
"""

import re
from collections.abc import Iterator
from typing import Final

from dispatch.models.threads import Listener
from dispatch.payloads.chat import Author

_MENTION: Final = re.compile(
    r"(?<![\w@/.+%\\-])@([a-z][a-z0-9_-]{0,38})(?![\w@-])(?!\.[a-zA-Z0-9])"
)
_FENCE: Final = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")
_TICKS: Final = re.compile(r"`+")


def mentioned(text: str) -> tuple[str, ...]:
    """Return the handles a text names as `@handle`, in order, each once.

    Promise: linear in the text, whatever stands in it.
    """
    if "@" not in text:
        return ()
    found = (handle for prose in _prose(text) for handle in _MENTION.findall(prose))
    return tuple(dict.fromkeys(found))


def escaped(text: str) -> str:
    """Return the text with every mention escaped, for who only quotes it."""
    return _MENTION.sub(r"\\\g<0>", text)


def audience(
    listeners: tuple[Listener, ...], *, by: Author, handles: tuple[str, ...]
) -> tuple[Listener, ...]:
    """Return the listeners an entry wakes: those it names, else those who always listen.

    Promise: `never` is never woken, and an agent not by itself. A direct thread's own agent
    hears every entry but those of other agents, whomever they name; an agent's words wake
    nobody they do not name.
    """
    return tuple(
        listener
        for listener in listeners
        if str(listener.agent_id) != by.id and _wakes(listener, by=by, handles=handles)
    )


def muted(listeners: tuple[Listener, ...], *, handles: tuple[str, ...]) -> tuple[Listener, ...]:
    """Return the listeners an entry names though nothing wakes them in this thread."""
    return tuple(
        listener
        for listener in listeners
        if listener.trigger_mode == "never" and listener.handle in handles
    )


def _wakes(listener: Listener, *, by: Author, handles: tuple[str, ...]) -> bool:
    if listener.trigger_mode == "never":
        return False
    if listener.handle in handles:
        return True
    if by.kind == "agent" or listener.trigger_mode != "always":
        return False
    return listener.is_direct or not handles


def _prose(text: str) -> Iterator[str]:
    """Yield a text's paragraphs without the code in them.

    As CommonMark has it: a fence that nobody closes reaches to the end; a code span does not
    reach over a blank line, and a run of ticks without its like is only ticks.
    """
    paragraph: list[str] = []
    fence = ""
    for line in text.splitlines():
        found = _FENCE.fullmatch(line)
        if fence:
            if found and found[1].startswith(fence) and not found[2].strip():
                fence = ""
        elif found and not (found[1][0] == "`" and "`" in found[2]):
            fence = found[1]
            yield _without_spans("\n".join(paragraph))
            paragraph = []
        elif line.strip():
            paragraph.append(line)
        else:
            yield _without_spans("\n".join(paragraph))
            paragraph = []
    yield _without_spans("\n".join(paragraph))


def _without_spans(paragraph: str) -> str:
    """Return a paragraph with a space for each code span."""
    runs = [(found.start(), found.end()) for found in _TICKS.finditer(paragraph)]
    ends: dict[int, list[tuple[int, int]]] = {}
    for start, end in reversed(runs):
        ends.setdefault(end - start, []).append((start, end))
    kept: list[str] = []
    at = 0
    for start, end in runs:
        if start < at:
            continue
        begin = start + 1 if paragraph[start - 1 : start] == "\\" else start
        closers = ends.get(end - begin, [])
        while closers and closers[-1][0] < end:
            closers.pop()
        if begin < end and closers:
            kept.append(paragraph[at:begin])
            at = closers[-1][1]
    return " ".join([*kept, paragraph[at:]])
