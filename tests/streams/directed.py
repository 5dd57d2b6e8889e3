"""Short lives that chance finds seldom: the straight way to what a guard prevents."""

from collections.abc import Callable
from typing import Any, Final

from dispatch.streams.threads import Terms
from tests.streams.lives import Holder, Known
from tests.streams.machine import Machine
from tests.streams.machine_people import POLICIES, POLITE
from tests.streams.scene import CALLS, RETRYING

Directed = Callable[[Machine, Known], object]


def play(lives: type[Machine], name: str) -> None:
    """Play one life in a thread of its own; raises AssertionError at a broken promise."""
    life = lives()
    try:
        LIVES[name](life, life.create())
        life.every_promise_holds()
    finally:
        life.teardown()


def _held(life: Machine, known: Known) -> Holder:
    holder = life.hold(known, life.lane(0))
    assert isinstance(holder, Holder)
    return holder


# --- people ----------------------------------------------------------------------------------


def _same_key(life: Machine, known: Known) -> None:
    for _ in range(2):
        life.post(known, "key", [life.lane(0)])


def _another_status(life: Machine, known: Known) -> None:
    life.post(known, "key", [life.lane(0)], Terms(if_status=("running",)))


def _steers_what_ends(life: Machine, known: Known) -> None:
    life.end_dispatch(known, _held(life, known).fence.dispatch_id)
    life.post(known, "steers", [life.lane(0)], Terms(when_busy="steer"))


def _reads_in_pieces(life: Machine, known: Known) -> None:
    for key in "ab":
        life.post(known, key, [life.lane(0)])
        life.follower_reads(known, 2, anew=0)
        life.scene.clock.advance(1)


# --- runs ------------------------------------------------------------------------------------


def _row_sees_the_start_only(life: Machine, known: Known) -> None:
    holder = _held(life, known)
    life.play(life.project(known))
    life.end(holder)


def _speaks_before_it_is_reaped(life: Machine, known: Known) -> None:
    holder = _held(life, known)
    life.scene.clock.advance(life.scene.settings.worker_dead_seconds)
    life.write(holder, [RETRYING])
    life.keeper_looks_at_a_run(holder, dead=True, silent=False)


def _wakes_up(word: str) -> Directed:
    return lambda life, known: life.old_holder_wakes_up(known, 0, word, seen=False)


def _given_back(how: str, before: str, *, patient: bool = True) -> Directed:
    return lambda life, known: life.a_run_is_given_back(
        known, 0, [how], before, POLITE, patient=patient
    )


def _calls(then: Callable[[Machine, Holder], object], *, checkpoint: bool = True) -> Directed:
    """A run makes two tool calls, which nobody answers."""

    def life(life: Machine, known: Known) -> None:
        holder = _held(life, known)
        life.write(holder, [CALLS], checkpoint=checkpoint)
        then(life, holder)

    return life


def _mute(minutes: int) -> Directed:
    return lambda life, known: life.agent_is_mute(known, 0, ["mute"] * minutes)


def _asks(asks: list[int], *then: str | int, **how: Any) -> Directed:
    return lambda life, known: life.turn_asks(known, 0, asks, then=then, **how)


def _waits_for_an_answer_in_its_run(life: Machine, known: Known) -> None:
    holder = life.hold(known, life.lane(0), policy=POLICIES[2])
    assert isinstance(holder, Holder)
    life.put(holder)
    for _ in range(4):
        life.scene.clock.advance(60)
        life.holder_does(holder, "renew")
        life.look_at(known, holder.fence.lane)


def _after_a_loss(word: str) -> Directed:
    """Redis comes back with a run that had ended; then somebody goes on."""
    return lambda life, known: life.redis_forgets_runs(
        known, 0, "started", back=False, then=[word]
    )


def _waits_when_redis_forgets(life: Machine, known: Known) -> None:
    life.turn_asks(known, 2, [20])
    life.redis_forgets_runs(known, 1, "before", back=False, then=["post"])


LIVES: Final[dict[str, Directed]] = {
    "accept_any_key_again": _same_key,
    "any_status_will_do": _another_status,
    "steer_a_turn_that_ends": _steers_what_ends,
    "take_for_another_turn": lambda life, known: life.a_turn_is_steered(
        known, 0, "overtaken", more=False
    ),
    "delete_without_tombstone": lambda life, known: life.delete(known, sure=2),
    "claim_before_its_time": _given_back("retry", "nothing", patient=False),
    "append_by_anybody": _wakes_up("append"),
    "finish_by_anybody": _wakes_up("finish"),
    "retry_after_effects": _given_back("retry", "seen"),
    "retry_undoes_a_cancel": _given_back("retry", "asked"),
    "release_undoes_a_cancel": _given_back("release", "asked"),
    "checkpoint_that_spoils": _given_back("release", "checkpoint"),
    "rows_never_hear_of_an_end": _row_sees_the_start_only,
    "reap_by_old_news": _speaks_before_it_is_reaped,
    "finish_with_open_calls": _calls(lambda life, holder: life.end(holder)),
    "release_with_open_calls": _calls(lambda life, holder: life.holder_does(holder, "release")),
    "lose_with_open_calls": _calls(lambda life, holder: life.go_silent(holder, patient=False)),
    "fail_with_open_calls": _calls(
        lambda life, holder: life.go_silent(holder, patient=False), checkpoint=False
    ),
    "warned_again_and_again": _mute(3),
    "a_beat_is_progress": _mute(4),
    "mute_agents_run_for_ever": _mute(4),
    "answer_twice": _asks([20], "grant", "again"),
    "answer_over_early": _asks([20], "over"),
    "resume_before_the_last_answer": _asks([20, 20], "grant", "claim"),
    "expire_questions_early": _asks([20], "expire"),
    "wait_though_answered": _asks([20], "grant", "wait", leaves=False),
    "wait_burns_an_attempt": _asks([20], "grant", "claim"),
    "lose_what_was_answered": _asks([300], "grant", "release", leaves=False),
    "wait_after_effects": _asks([20], "grant", "claim", policy=POLITE),
    "wait_for_a_thread_unseen": _asks([300]),
    "look_at_a_task_never_again": _asks([300], 50, "expire"),
    "wait_undoes_a_cancel": _asks([20], cancelled=True),
    "wait_with_open_calls": _asks([20]),
    "interrupt_lets_who_waits_go_on": _asks([20], "interrupt"),
    "interrupt_with_open_calls": _asks([20], "rollback"),
    "who_waits_for_an_answer_is_mute": _waits_for_an_answer_in_its_run,
    "accept_after_a_restart_unasked": _after_a_loss("post"),
    "append_after_a_restart_unasked": _after_a_loss("append"),
    "finish_after_a_restart_unasked": _after_a_loss("finish"),
    "expire_after_a_restart_unasked": _after_a_loss("expire"),
    "believe_a_shorter_stream": _after_a_loss("post"),
    "rollback_keeps_the_work": _after_a_loss("post"),
    "fail_what_waits_when_redis_forgot": _waits_when_redis_forgets,
    "follower_skips_its_millisecond": _reads_in_pieces,
}
"""By the mutant that each must catch, or by what it lives through; all hold on the product."""
