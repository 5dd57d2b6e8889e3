import pytest

from dispatch.models.state import Lane, ThreadState
from dispatch.models.status import thread_status


@pytest.mark.parametrize(
    ("outcome", "chat", "sub_job"),
    [
        (None, "open", "idle"),
        ("completed", "open", "completed"),
        ("failed", "open", "failed"),
        ("cancelled", "open", "cancelled"),
        ("orphaned", "failed", "failed"),
    ],
)
def test_a_thread_at_rest_shows_how_it_ended(outcome, chat, sub_job) -> None:
    state = ThreadState(is_open=True, outcome=outcome)

    assert thread_status(state, is_sub_job=False) == chat
    assert thread_status(state, is_sub_job=True) == sub_job


@pytest.mark.parametrize("is_sub_job", [True, False])
def test_waiting_work_makes_a_thread_running(is_sub_job: bool) -> None:
    state = ThreadState(is_open=True, outcome="orphaned", lanes={"lane": Lane(("d.0",), 1)})

    assert thread_status(state, is_sub_job=is_sub_job) == "running"
