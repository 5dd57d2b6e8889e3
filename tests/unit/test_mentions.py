"""Whom an entry wakes."""

import time

import pytest

from dispatch import ids
from dispatch.ids import AgentId
from dispatch.models import mentions
from dispatch.models.houses import TriggerMode
from dispatch.models.threads import Listener
from dispatch.payloads.chat import Author
from dispatch.payloads.policy import DispatchPolicy

ANN = Author("member", "m", "Ann")
BOT = Author("agent", "x", "x")


def listener(handle: str, mode: TriggerMode, *, is_direct: bool = False) -> Listener:
    return Listener(
        agent_id=AgentId(ids.uuid7()),
        handle=handle,
        trigger_mode=mode,
        queue="arbe.turns",
        policy=DispatchPolicy(max_attempts=3),
        is_direct=is_direct,
    )


LISTENERS = (listener("a", "always"), listener("b", "mention"), listener("c", "never"))


def woken(
    *handles: str, by: Author = ANN, listeners: tuple[Listener, ...] = LISTENERS
) -> list[str]:
    found = mentions.audience(listeners, by=by, handles=handles)
    return [each.handle for each in found]


@pytest.mark.parametrize(
    ("text", "handles"),
    [
        ("@coder what changed?", ("coder",)),
        ("ask @coder, then @re-viewer. @coder!", ("coder", "re-viewer")),
        ("(@coder) **@a** “@b”", ("coder", "a", "b")),
        ("@@coder @Coder @1 @", ()),
        ("mail ann@coder.com or a.+@coder or see x/@coder, @coder.com, @coder@host", ()),
        (r"this \@coder is escaped, @b is not", ("b",)),
    ],
)
def test_a_mention_is_a_handle_that_stands_for_itself(
    text: str, handles: tuple[str, ...]
) -> None:
    assert mentions.mentioned(text) == handles


@pytest.mark.parametrize(
    ("text", "handles"),
    [
        ("run `@a` then @b", ("b",)),
        ("``@a ` @b`` @c", ("c",)),
        ("a tick ` and @a, no span", ("a",)),
        ("one ` here\n\nand another ` there @a", ("a",)),
        ("`over @a\nlines` @b", ("b",)),
        (r"\`@a\` @b", ("a", "b")),
        ("```py\n@a\n```\n@b", ("b",)),
        ("```\n@a\n``\n````\n@b", ("b",)),
        ("~~~\n@a\n```\n@b\n~~~\n@c", ("c",)),
        ("```\n@a is never closed", ()),
        ("```not a fence``` @a", ("a",)),
        ("@a\r\n```\r\n@b\r\n```\r\n@c", ("a", "c")),
    ],
)
def test_what_stands_in_code_is_no_mention(text: str, handles: tuple[str, ...]) -> None:
    assert mentions.mentioned(text) == handles


@pytest.mark.parametrize(
    "text",
    ["`" * 262_144, " ".join("`" * n for n in range(1, 700)), "@" * 262_144, "`@a" * 87_000],
)
def test_no_text_takes_long_to_read(text: str) -> None:
    begun = time.thread_time()
    mentions.mentioned(text)
    assert time.thread_time() - begun < 5.0


def test_a_quoted_mention_is_none() -> None:
    assert mentions.mentioned(mentions.escaped("ask @coder and @b")) == ()


def test_without_a_mention_those_who_always_listen_are_woken() -> None:
    assert woken() == ["a"]


def test_a_mention_wakes_only_those_it_names() -> None:
    assert woken("b") == ["b"]
    assert woken("a", "b") == ["a", "b"]


def test_never_is_never_woken_and_the_poster_can_be_told() -> None:
    assert woken("c") == []
    assert [each.handle for each in mentions.muted(LISTENERS, handles=("b", "c"))] == ["c"]


def test_a_direct_threads_agent_hears_people_whomever_they_name() -> None:
    direct = (listener("a", "always", is_direct=True), listener("b", "mention"))
    assert woken("b", listeners=direct) == ["a", "b"]
    assert woken("b", by=BOT, listeners=direct) == ["b"]
    quiet = (listener("a", "never", is_direct=True), listener("b", "mention"))
    assert woken("b", listeners=quiet) == ["b"]


def test_an_agents_words_wake_only_those_they_name() -> None:
    assert woken(by=BOT) == []
    assert woken("b", "c", by=BOT) == ["b"]


def test_an_agent_does_not_wake_itself() -> None:
    me = listener("a", "always")
    by = Author("agent", str(me.agent_id), "a")
    assert mentions.audience((me,), by=by, handles=("a",)) == ()
