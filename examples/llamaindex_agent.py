"""A LlamaIndex agent, here with a model that needs no key.

    pip install 'arbe-dispatch[llamaindex]'
    PYTHONPATH=. arbe up                  # workers must be able to import this file
    arbe agent create @index --runner llamaindex \\
        --config '{"agent": "examples.llamaindex_agent:agent"}'
    arbe post @index "run: uname -a"

With a real model: `FunctionAgent(llm=OpenAI(…))`, and its key in the workers' environment. The
agent knows nothing of arbe; the worker offers `run_command` to it beside its own tools.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ChatMessage, ToolCallBlock
from llama_index.core.llms.mock import MockFunctionCallingLLM


async def offline(messages: Sequence[ChatMessage], **_more: Any) -> AsyncIterator[ChatMessage]:
    """Say how much was read, or run what is asked for: stands for a real model."""
    last = messages[-1].content or ""
    if messages[-1].role == "tool":
        yield ChatMessage(role="assistant", content=f"It says: {last.strip()}")
    elif last.startswith("run:"):
        call = ToolCallBlock(
            tool_call_id=f"call-{len(messages)}",
            tool_name="run_command",
            tool_kwargs={"command": last.removeprefix("run:").strip()},
        )
        yield ChatMessage(role="assistant", blocks=[call])
    else:
        count = len([each for each in messages if each.role in {"user", "assistant"}])
        yield ChatMessage(role="assistant", content=f"I have read {count} messages.")


def what_time_is_it() -> str:
    """Tell the time."""
    return "High time."


agent = FunctionAgent(
    llm=MockFunctionCallingLLM(response_generator=offline),
    tools=[what_time_is_it],
    system_prompt="Be brief.",
)
