"""How far a dispatch came, in one word, at every point of its life."""

import msgspec

from dispatch import payloads
from dispatch.ids import DispatchId, EntryId
from dispatch.operations import post_entry
from dispatch.operations.post_entry import Draft
from dispatch.operations.receipts import Receipt, Story
from dispatch.payloads.chat import Author
from dispatch.payloads.signals import (
    Cancelled,
    Completed,
    Failed,
    FellThrough,
    Queued,
    RunLost,
    Started,
    Steered,
)
from dispatch.streams.entries import Entry

BORN = EntryId("001700000000000_0000000001")
ID = DispatchId(f"{BORN}.0")
QUEUED = Queued(dispatch_id=ID, entry_id=BORN, agent_id="a", max_attempts=3)
FELL = FellThrough(dispatch_id=ID, entry_id=BORN, target="other")
STARTED = Started(
    dispatch_id=ID, agent_id="a", attempt=1, run_id="r", worker_id="w", lease_ms=1, hard_ms=2
)
LOST = RunLost(dispatch_id=ID, run_id="r", attempt=1, not_before=0)
DONE = Completed(dispatch_id=ID, run_id="r")


def receipts(*told: payloads.KnownPayload) -> list[Receipt]:
    """Return the receipt after each entry."""
    story = Story(dispatch_id=ID)
    found: list[Receipt] = []
    for number, payload in enumerate(told):
        story.hear(Entry(EntryId(f"{number:015d}_0000000000"), payloads.encode(payload)))
        found.append(story.receipt)
    return found


def test_what_waits_is_accepted_and_what_started_is_delivered_for_good() -> None:
    assert receipts(QUEUED, STARTED, LOST, DONE) == ["accepted", *["delivered"] * 3]


def test_what_a_turn_took_in_is_delivered() -> None:
    steered = Steered(dispatch_id=ID, entry_id=BORN, into="other", run_id="r", step=1)
    assert receipts(QUEUED, steered) == ["accepted", "delivered"]


def test_what_fell_through_says_so_until_it_starts() -> None:
    assert receipts(QUEUED, FELL, STARTED) == ["accepted", "fell_through", "delivered"]


def test_what_is_cancelled_before_anybody_saw_it_was_withdrawn() -> None:
    withdrawn = Cancelled(dispatch_id=ID, reason="withdrawn")
    for end in (withdrawn, Cancelled(dispatch_id=ID, reason="before_start")):
        assert receipts(QUEUED, end)[-1] == "withdrawn"
        assert receipts(QUEUED, FELL, end)[-1] == "withdrawn"
    assert receipts(QUEUED, STARTED, LOST, withdrawn)[-1] == "withdrawn"
    assert receipts(QUEUED, STARTED, Cancelled(dispatch_id=ID, reason="requested"))[-1] == (
        "delivered"
    )


def test_what_nobody_started_stays_accepted() -> None:
    assert receipts(QUEUED, Failed(dispatch_id=ID, reason="never_started"))[-1] == "accepted"


def test_other_dispatches_are_not_ours() -> None:
    other = DispatchId(f"{ID}0")
    assert receipts(QUEUED, msgspec.structs.replace(STARTED, dispatch_id=other)) == [
        "accepted",
        "accepted",
    ]


def test_a_draft_that_says_nothing_of_busy_agents_is_what_it_was_before_they_could() -> None:
    by = Author("member", "m")
    plain = post_entry.identity(Draft("hi"), by=by)
    assert plain == b'["m",{"text":"hi","mentions":[],"parts":[]}]'
    others = {
        post_entry.identity(draft, by=by)
        for draft in (
            Draft("hi", when_busy="write"),
            Draft("hi", when_busy="steer"),
            Draft("hi", if_status=("open",)),
        )
    }
    assert len({plain, *others}) == 4
