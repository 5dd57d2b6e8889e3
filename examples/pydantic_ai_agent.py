"""A pydantic-ai agent, here with a model that needs no key.

    pip install 'arbe-dispatch[pydantic-ai]'
    PYTHONPATH=. arbe up                  # workers must be able to import this file
    arbe agent create @pydantic --runner pydantic-ai \\
        --config '{"agent": "examples.pydantic_ai_agent:agent"}'
    arbe post @pydantic "run: uname -a"

With a real model: `Agent("openai:gpt-5", …)`, and its key in the workers' environment. The
agent knows nothing of arbe; the worker offers `run_command` to it beside its own tools.
"""

import json
from collections.abc import AsyncIterator

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelRequest, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, DeltaToolCalls, FunctionModel


async def offline(
    messages: list[ModelMessage], _info: AgentInfo
) -> AsyncIterator[str | DeltaToolCalls]:
    """Say how much was read, or run what is asked for: stands for a real model."""
    last = messages[-1].parts[-1]
    if isinstance(last, ToolReturnPart):
        yield f"It says: {last.content.strip()}"
    elif isinstance(last, UserPromptPart) and str(last.content).startswith("run:"):
        command = str(last.content).removeprefix("run:").strip()
        if command == "the time":
            yield {0: DeltaToolCall("what_time_is_it", "{}", tool_call_id="call-time")}
        else:
            call_id = f"call-{len(messages)}"
            arguments = json.dumps({"command": command})
            yield {0: DeltaToolCall("run_command", arguments, tool_call_id=call_id)}
    else:
        yield "I have read "
        yield f"{_count(messages)} messages."


def _count(messages: list[ModelMessage]) -> int:
    asked = [
        part
        for message in messages
        if isinstance(message, ModelRequest)
        for part in message.parts
        if isinstance(part, UserPromptPart)
    ]
    return len(asked) + len([each for each in messages if not isinstance(each, ModelRequest)])


agent = Agent(FunctionModel(stream_function=offline), instructions="Be brief.")


@agent.tool_plain
def what_time_is_it() -> str:
    """Tell the time."""
    return "High time."
