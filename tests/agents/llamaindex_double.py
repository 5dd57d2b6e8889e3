"""A LlamaIndex agent over the library's own mock of a model that calls functions."""

from collections.abc import Sequence
from typing import Any

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    LLMMetadata,
    TextBlock,
    ToolCallBlock,
)
from llama_index.core.llms.mock import MockFunctionCallingLLM

from tests.agents.model import MODEL, ModelBroke, Said

USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


class ScriptedLLM(MockFunctionCallingLLM):
    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(is_function_calling_model=True, context_window=1_000_000)

    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> Any:
        asked = [Said(each.role.value, each.content or "") for each in messages]
        reply = MODEL.next(asked, {each.metadata.get_name() for each in kwargs["tools"]})

        async def answer():
            said = ""
            for number, piece in enumerate(reply.pieces):
                said += piece
                yield ChatResponse(message=message(said), delta=piece)
                if number == 0 and reply.hold:
                    await reply.hold.wait()
            if reply.hold and not reply.pieces:
                await reply.hold.wait()
            if reply.error:
                raise ModelBroke(reply.error)
            blocks = [
                ToolCallBlock(
                    tool_call_id=call.id, tool_name=call.name, tool_kwargs=call.arguments
                )
                for call in reply.calls
            ]
            yield ChatResponse(message=message(said, *blocks), delta="", raw={"usage": USAGE})

        return answer()


def message(said: str, *blocks: ToolCallBlock) -> ChatMessage:
    texts = [TextBlock(text=said)] if said else []
    return ChatMessage(role="assistant", blocks=[*texts, *blocks])


async def book(thing: str) -> str:
    """Book a thing."""
    return await MODEL.book(thing)


def agent() -> FunctionAgent:
    return FunctionAgent(llm=ScriptedLLM(), tools=[book], system_prompt="Be brief.")
