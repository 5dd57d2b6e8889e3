"""A follower sees every entry once, in order, whatever happens to its line."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from dispatch.client import Client
from dispatch.errors import Gone, NotFound, Unavailable
from tests.api.broken_lines import GONE, Lines, breaking, control, data, entry


@pytest_asyncio.fixture
async def lines() -> AsyncIterator[Lines]:
    async with breaking() as made:
        yield made


@pytest_asyncio.fixture
async def client(lines: Lines) -> AsyncIterator[Client]:
    async with Client(lines.url, "arbe_member_test", patience_seconds=1) as made:
        yield made


def numbered(count: int) -> list[dict[str, object]]:
    return [entry(number) for number in range(count)]


async def seen(client: Client, **options: object) -> list[dict[str, object]]:
    return [each async for each in client.entries.follow("t", **options)]  # type: ignore[arg-type]


async def test_a_line_cut_anywhere_loses_and_doubles_nothing(
    client: Client, lines: Lines
) -> None:
    first, second, third = numbered(3)
    whole = data(first, second) + control(str(second["id"])) + data(third) + control("x")
    for cut in range(0, len(whole), 13):
        lines.script = [
            [whole[:cut]],
            [data(first, second), control(str(second["id"]))],
            [data(third), control(str(third["id"])), GONE],
        ]
        lines.offsets.clear()
        assert await seen(client) == [first, second, third], cut
        assert lines.offsets[0] == "-1"


async def test_a_follower_resumes_where_the_last_control_said(
    client: Client, lines: Lines
) -> None:
    first, second = numbered(2)
    lines.script = [
        [data(first), control("somewhere-opaque")],
        [data(second), control(str(second["id"])), GONE],
    ]
    assert await seen(client) == [first, second]
    assert lines.offsets == ["-1", "somewhere-opaque"]


async def test_entries_read_again_after_a_lost_control_are_shown_once(
    client: Client, lines: Lines
) -> None:
    first, second = numbered(2)
    lines.script = [[data(first)], [data(first, second), control(str(second["id"])), GONE]]
    assert await seen(client) == [first, second]
    assert lines.offsets == ["-1", "-1"]


async def test_a_server_at_its_limit_or_away_is_waited_out(
    client: Client, lines: Lines
) -> None:
    (first,) = numbered(1)
    lines.script = [503, 429, [], [data(first), control("c")], 503, 502, [GONE]]
    assert await seen(client) == [first]
    assert lines.script == []


async def test_patience_with_a_server_that_stays_away_ends(
    client: Client, lines: Lines
) -> None:
    lines.script = [503] * 100
    with pytest.raises(Unavailable, match="It is unavailable"):
        await seen(client)
    assert len(lines.offsets) < 10


async def test_a_server_that_only_hangs_up_is_not_called_in_a_tight_loop(
    client: Client, lines: Lines
) -> None:
    lines.script = [[]] * 100
    with pytest.raises(Unavailable, match="without a word"):
        await seen(client)
    assert len(lines.offsets) < 10


async def test_following_ends_quietly_when_the_thread_is_deleted_meanwhile(
    client: Client, lines: Lines
) -> None:
    (first,) = numbered(1)
    lines.script = [[data(first), control("c")], 410]
    assert await seen(client) == [first]


async def test_following_a_thread_that_is_gone_or_unknown_says_so(
    client: Client, lines: Lines
) -> None:
    lines.script = [410, 404]
    with pytest.raises(Gone, match="It is gone"):
        await seen(client)
    with pytest.raises(NotFound) as caught:
        await seen(client)
    assert caught.value.next_step == "Do that."


async def test_history_ends_at_the_tail_and_not_before(client: Client, lines: Lines) -> None:
    first, second, third = numbered(3)
    lines.script = [
        [data(first), control(str(first["id"]))],
        [data(second), control(str(second["id"]), tail=True), data(third), control("c")],
    ]
    found = [each async for each in client.entries.history("t")]
    assert found == [first, second]


async def test_text_with_unusual_line_ends_arrives_unchanged(
    client: Client, lines: Lines
) -> None:
    odd = entry(1, "a\u2028b\u2029c\u0085d")
    lines.script = [[data(odd), control("c"), GONE]]
    assert await seen(client) == [odd]


async def test_following_from_an_entry_on_never_shows_that_entry(
    client: Client, lines: Lines
) -> None:
    first, second = numbered(2)
    lines.script = [[data(first, second), control("c"), GONE]]
    assert await seen(client, after=first["id"]) == [second]
    assert lines.offsets == [first["id"]]
