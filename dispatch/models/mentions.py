"""Who an entry wakes: the pure rule between a text, its author and a thread's listeners."""

import re
from typing import Final

from dispatch.models.threads import Listener
from dispatch.payloads.chat import Author

_MENTION: Final = re.compile(r"(?<![\w@/.])@([a-z][a-z0-9_-]{0,38})(?![\w@])")


def mentioned(text: str) -> tuple[str, ...]:
    """Return the handles a text names as `@handle`, in order, each once."""
    return tuple(dict.fromkeys(_MENTION.findall(text)))


def audience(
    listeners: tuple[Listener, ...], *, by: Author, handles: tuple[str, ...]
) -> tuple[Listener, ...]:
    """Return the listeners an entry wakes: `always` ones, and `mention` ones it names.

    Promise: an agent never wakes itself; `never` is never woken.
    """
    return tuple(
        listener
        for listener in listeners
        if str(listener.agent_id) != by.id
        and (
            listener.trigger_mode == "always"
            or (listener.trigger_mode == "mention" and listener.handle in handles)
        )
    )
