"""A turn that outlives every patience of its broker is started once, and told once."""

import pytest

from tests.system import brokers
from tests.system.houses import Casa
from tests.system.processes import SHORT_CLOCKS, Processes
from tests.system.rabbitmq import CONSUMER_TIMEOUT_MS

STARTED = "signal.dispatch.started"
COMPLETED = "signal.dispatch.completed"
VISIBILITY_SECONDS = 1.0
LEASE_SECONDS = float(SHORT_CLOCKS["ARBE_LEASE_SECONDS"])
TURN_SECONDS = 2 * max(LEASE_SECONDS, VISIBILITY_SECONDS, CONSUMER_TIMEOUT_MS / 1000)


@brokers.on_both
@pytest.mark.parametrize("word", ["mute", "sleep"])
async def test_a_turn_longer_than_visibility_consumer_timeout_and_lease_runs_once(
    casa: Casa, processes: Processes, word: str
) -> None:
    short = {"ARBE_BROKER_VISIBILITY_SECONDS": str(VISIBILITY_SECONDS)}
    processes.start_worker(**short)
    processes.start_worker(**short)
    processes.start_beat(**short)
    thread_id = await casa.dm()
    await casa.post(thread_id, f"{word}: {TURN_SECONDS}")
    types = await casa.wait(thread_id, lambda types: COMPLETED in types)
    assert types.count(STARTED) == types.count(COMPLETED) == 1
    assert types.count("pi.assistant") == 1
    await casa.post(thread_id, "hello")
    types = await casa.wait(thread_id, lambda types: types.count(COMPLETED) == 2)
    assert types.count(STARTED) == 2
    log = (processes.folder / "log").read_text(errors="replace")
    assert "onnection to broker lost" not in log
    assert log.count("run.claimed") == 2
