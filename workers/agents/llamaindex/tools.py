"""Tools that act through the ledger: an agent's own, and the worker's."""

from typing import Any

from llama_index.core.tools import AsyncBaseTool, ToolMetadata, ToolOutput

from dispatch.errors import Invalid
from workers.agents import Perform, Tool, ToolAnswer
from workers.agents.telling import Telling


class RecordedTool(AsyncBaseTool):
    """A tool that is answered through the ledger."""

    def __init__(self, tool: AsyncBaseTool, told: Telling, perform: Perform | None) -> None:
        self._tool = tool
        self._told = told
        self._perform = perform

    @property
    def metadata(self) -> ToolMetadata:
        """Return what a model is told of it."""
        return self._tool.metadata

    def call(self, input: Any) -> ToolOutput:  # noqa: A002  # the library's name
        """Refuse: the library calls it from a loop."""
        raise NotImplementedError(input)

    async def acall(self, **arguments: Any) -> ToolOutput:  # type: ignore[override]
        """Answer from the record, or perform the call and record how it ended."""
        name = self.metadata.get_name()
        call = self._told.open_call(name, arguments)
        if call is None:
            raise Invalid(f"Nobody announced this call of {name}.")
        answer = await self._told.answer(call.id, self._perform)
        return ToolOutput(
            tool_name=name,
            content=answer.text,
            raw_input=arguments,
            raw_output=answer.text,
            is_error=answer.is_error,
        )


class _OwnMetadata(ToolMetadata):
    """What a model is told of a worker's tool: its JSON schema as it is."""

    def __init__(self, tool: Tool) -> None:
        super().__init__(description=tool.description, name=tool.name, fn_schema=None)
        self._parameters = tool.parameters

    def get_parameters_dict(self) -> dict[str, Any]:
        """Return the tool's JSON schema."""
        return self._parameters


class OwnTool(AsyncBaseTool):
    """One of the worker's own tools; the ledger performs it."""

    def __init__(self, tool: Tool) -> None:
        self._metadata = _OwnMetadata(tool)

    @property
    def metadata(self) -> ToolMetadata:
        """Return what a model is told of it."""
        return self._metadata

    def call(self, input: Any) -> ToolOutput:  # noqa: A002  # the library's name
        """Refuse: the worker performs it."""
        raise NotImplementedError(input)

    async def acall(self, input: Any) -> ToolOutput:  # noqa: A002  # the library's name
        """Refuse: the worker performs it."""
        raise NotImplementedError(input)


def answer_in(output: ToolOutput) -> ToolAnswer:
    """Return a tool's result as the ledger records it."""
    return ToolAnswer(text=output.content, is_error=output.is_error)
