import pytest

from dispatch.ids import DispatchId, EntryId, RunId, WorkerId
from dispatch.models.lifecycle import has_active_run, lifecycle_state
from dispatch.models.state import Ask, Dispatch, Lane, Run, ThreadState
from dispatch.payloads.policy import DispatchPolicy

RUN = DispatchId("000000000001000_0000000000.0")
NEXT = DispatchId("000000000001001_0000000000.0")
OTHER = DispatchId("000000000001001_0000000000.1")


def dispatch(*kinds: str, lane: str = "a") -> Dispatch:
    asks = tuple(Ask(kind, kind, 1, "deny", "c") for kind in kinds)
    return Dispatch(lane, 1, DispatchPolicy(max_attempts=3), asks=asks)


def running(dispatch_id: DispatchId, *queue: DispatchId, cancelled: bool = False) -> Lane:
    run = Run(
        dispatch_id=dispatch_id,
        attempt=1,
        run_id=RunId("r"),
        worker_id=WorkerId("w"),
        started_id=EntryId("e"),
        at_ms=1,
        lease_ms=1,
        hard_ms=1,
        cancel_deadline_ms=1 if cancelled else None,
    )
    return Lane(queue=queue, run=run)


def state(lanes: dict[str, Lane], **dispatches: Dispatch) -> ThreadState:
    named = {"run": RUN, "next": NEXT, "other": OTHER}
    return ThreadState(
        is_open=True,
        lanes=lanes,
        dispatches={named[name]: each for name, each in dispatches.items()},
    )


@pytest.mark.parametrize(
    ("found", "word", "is_active"),
    [
        (state({"a": Lane(queue=(RUN,))}, run=dispatch()), "active", True),
        (state({"a": running(RUN)}, run=dispatch()), "active", True),
        (state({"a": running(RUN, cancelled=True)}, run=dispatch()), "active", True),
        # it waits with its worker, then without
        (state({"a": running(RUN)}, run=dispatch("permission")), "requires_action", False),
        (state({"a": Lane(queue=(RUN,))}, run=dispatch("output")), "requires_action", False),
        # what is queued behind it cannot go on either
        (
            state({"a": running(RUN, NEXT)}, run=dispatch("permission"), next=dispatch()),
            "requires_action",
            True,
        ),
        # another agent goes on
        (
            state(
                {"a": running(RUN), "b": Lane(queue=(OTHER,))},
                run=dispatch("permission"),
                other=dispatch(lane="b"),
            ),
            "active",
            True,
        ),
        # a question that no person answers
        (state({"a": Lane(queue=(RUN,))}, run=dispatch("delegation")), "active", True),
    ],
)
def test_open_work_is_active_unless_all_of_it_waits_for_an_answer(found, word, is_active):
    assert lifecycle_state(found, "running") == word
    assert has_active_run(found) is is_active


@pytest.mark.parametrize(
    ("outcome", "word"),
    [
        (None, "idle"),
        ("completed", "completed"),
        ("failed", "failed"),
        ("cancelled", "cancelled"),
        ("orphaned", "failed"),
    ],
)
@pytest.mark.parametrize("status", ["open", "idle", "failed"])
def test_at_rest_it_tells_how_the_last_run_ended(outcome, word, status):
    found = ThreadState(is_open=True, outcome=outcome)
    assert lifecycle_state(found, status) == word
    assert not has_active_run(found)


@pytest.mark.parametrize(
    ("status", "word"),
    [("open", "idle"), ("idle", "idle"), ("running", "active"), ("completed", "completed")],
)
def test_without_a_stream_the_row_is_believed(status, word):
    assert lifecycle_state(ThreadState(), status) == word
