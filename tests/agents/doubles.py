"""The runners under test, each with the scripted model behind it.

To add one: a `Double` whose `config` makes the runner ask `tests.agents.model.MODEL`. What a
runner cannot do stands in `lacks`, with the words of `behaviour.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.agents.model import Model

OWN_TOOL = "own tool"
CONTEXT = "context"
STEERING = "steering"
RESUMING = "resuming"
EXACT_TEXT = "exact text"


@dataclass(frozen=True)
class Double:
    runner: str
    config: dict[str, Any] = field(default_factory=dict)
    lacks: frozenset[str] = frozenset()
    order: Callable[[str, Model], str] = lambda text, _model: text
    """Makes the text to post; a runner without a model behind it gets its orders by it."""

    def __str__(self) -> str:
        return self.runner


def _demo_order(text: str, model: Model) -> str:
    """Turn the script into orders for the demo agent, which has no model."""
    reply, model.replies = model.replies[0], []
    if reply.calls:
        return f"run: {reply.calls[0].arguments['command']}"
    if reply.error:
        return f"fail: {reply.error}"
    return "sleep: 600" if reply.hold else text


DOUBLES = (
    Double(
        "demo",
        lacks=frozenset({OWN_TOOL, CONTEXT, STEERING, RESUMING, EXACT_TEXT}),
        order=_demo_order,
    ),
    Double(
        "python",
        {"callable": "tests.agents.python_double:agent", "repeatable": True},
        lacks=frozenset({OWN_TOOL}),
    ),
    Double("langgraph", {"graph": "tests.agents.langgraph_double:graph"}),
    Double("llamaindex", {"agent": "tests.agents.llamaindex_double:agent"}),
    Double("pydantic-ai", {"agent": "tests.agents.pydantic_ai_double:agent"}),
)
