"""Whom an entry wakes."""

import pytest

from dispatch import ids
from dispatch.ids import AgentId
from dispatch.models import mentions
from dispatch.models.houses import TriggerMode
from dispatch.models.threads import Listener
from dispatch.payloads.chat import Author
from dispatch.payloads.policy import DispatchPolicy

ANN = Author("member", "m", "Ann")


def listener(handle: str, mode: TriggerMode) -> Listener:
    return Listener(
        agent_id=AgentId(ids.uuid7()),
        handle=handle,
        trigger_mode=mode,
        queue="arbe.turns",
        policy=DispatchPolicy(max_attempts=3),
    )


@pytest.mark.parametrize(
    ("text", "handles"),
    [
        ("@coder what changed?", ("coder",)),
        ("ask @coder, then @re-viewer. @coder!", ("coder", "re-viewer")),
        ("mail ann@coder.com or see x/@coder", ()),
        ("@@coder @Coder @1 @", ()),
        ("(@coder)", ("coder",)),
    ],
)
def test_a_mention_is_a_handle_that_stands_for_itself(
    text: str, handles: tuple[str, ...]
) -> None:
    assert mentions.mentioned(text) == handles


def test_always_wakes_mention_wakes_when_named_never_does_not() -> None:
    listeners = (listener("a", "always"), listener("b", "mention"), listener("c", "never"))
    woken = mentions.audience(listeners, by=ANN, handles=("b", "c"))
    assert [each.handle for each in woken] == ["a", "b"]
    assert [each.handle for each in mentions.audience(listeners, by=ANN, handles=())] == ["a"]


def test_an_agent_does_not_wake_itself() -> None:
    me = listener("a", "always")
    by = Author("agent", str(me.agent_id), "a")
    assert mentions.audience((me,), by=by, handles=("a",)) == ()
