from workers.ear import Silence


def silence_after(*steps: dict[str, bool], seconds: float = 1.0) -> float:
    silence = Silence(max_step_seconds=2.0)
    for step in steps:
        silence.pass_time(seconds, **{"heard": False, "is_saturated": False, **step})
    return silence.seconds


def test_time_without_a_sign_is_silence():
    assert silence_after({}, {}, {}) == 3.0


def test_any_sign_ends_it():
    assert silence_after({}, {}, {"heard": True}, {}) == 1.0


def test_a_saturated_worker_is_not_deaf():
    assert silence_after({}, {}, {"is_saturated": True}) == 0.0


def test_a_pause_of_the_whole_process_is_no_silence():
    assert silence_after({}, seconds=600) == 2.0
