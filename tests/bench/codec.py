"""Reading payloads: decoded and validated, against json.loads, which validates nothing."""

import json
import time
from collections.abc import Callable, Sequence

from dispatch import payloads
from dispatch.payloads.chat import Author, Chat
from dispatch.payloads.llm import Assistant
from dispatch.payloads.signals import Heartbeat
from tests.bench import running
from tests.bench.figures import Row
from tests.bench.stage import Scale, Stage

TEXT = "A line of an answer, with “quotes” and a newline.\n" * 8


def measure(_stage: Stage, scale: Scale) -> list[Row]:
    row = Row("decode + validate, mixed events", "µs", against="json.loads")
    mix = _mix()
    for _ in range(scale.rounds):
        floor = _each(json.loads, mix, scale.of(100, 1))
        row.add(ours=[_each(payloads.decode, mix, scale.of(100, 1))], floor=[floor])
    return [row]


def _each(decode: Callable[[bytes], object], mix: Sequence[bytes], times: int) -> float:
    """Return microseconds an event."""
    began = time.perf_counter()
    for _ in range(times):
        for raw in mix:
            decode(raw)
    return 1e6 * (time.perf_counter() - began) / (times * len(mix))


def _mix() -> list[bytes]:
    """Make 80 % chunks, and of the rest some of each group."""
    others = (
        Chat(by=Author("member", "m1", "Ada"), text=TEXT),
        Assistant(message_id="m", turn_index=0, message={"role": "assistant", "content": TEXT}),
        Heartbeat(dispatch_id="000001700000000_0000000001.0", run_id="0123456789ab"),
    )
    return [running.chunk()[1] for _ in range(12)] + [payloads.encode(each) for each in others]
