"""Chats and tasks over the ARC protocol: `client.chat`, `client.task`.

The names and the arguments are those of the protocol's own SDK. A call waits for the agent's
whole answer, or hands it out as it is spoken (`stream=True`).
"""

from collections.abc import AsyncGenerator, Sequence
from typing import Any, Literal, overload

from dispatch.client.arc_answers import ARCEvent, ARCResponse
from dispatch.client.arc_line import Line
from dispatch.client.connection import Json


class ArcChats:
    """Conversations with one agent each: `chat.start`, `chat.message`, `chat.end`."""

    def __init__(self, line: Line) -> None:
        self._line = line

    @overload
    async def start(
        self,
        target_agent: str,
        initial_message: Json,
        chat_id: str | None = None,
        *,
        stream: Literal[False] = False,
        metadata: Json | None = None,
        trace_id: str | None = None,
        timeout: float | None = None,
    ) -> ARCResponse: ...
    @overload
    async def start(
        self,
        target_agent: str,
        initial_message: Json,
        chat_id: str | None = None,
        *,
        stream: bool,
        metadata: Json | None = None,
        trace_id: str | None = None,
        timeout: float | None = None,
    ) -> Any: ...
    async def start(
        self,
        target_agent: str,
        initial_message: Json,
        chat_id: str | None = None,
        *,
        stream: bool = False,
        metadata: Json | None = None,
        trace_id: str | None = None,
        timeout: float | None = None,
    ) -> ARCResponse | AsyncGenerator[ARCEvent]:
        """Open a chat with its first message.

        Args: target_agent: `@handle` or an id. timeout: seconds for the whole answer, or for
        the silence within a stream.
        Returns: `.result["chat"]` = `{chatId, status, message, …}`; with `stream`, the events.
        Raises: ArcRefusal, e.g. -41001 for an unknown agent; Unauthenticated, Unavailable.
        """
        params = {"initialMessage": initial_message, "chatId": chat_id, "metadata": metadata}
        send = self._line.stream if stream else self._line.call
        answer = send("chat.start", target_agent, params, trace_id=trace_id, timeout=timeout)
        return answer if isinstance(answer, AsyncGenerator) else await answer

    @overload
    async def message(
        self,
        target_agent: str,
        chat_id: str,
        message: Json,
        *,
        stream: Literal[False] = False,
        trace_id: str | None = None,
        timeout: float | None = None,
    ) -> ARCResponse: ...
    @overload
    async def message(
        self,
        target_agent: str,
        chat_id: str,
        message: Json,
        *,
        stream: bool,
        trace_id: str | None = None,
        timeout: float | None = None,
    ) -> Any: ...
    async def message(
        self,
        target_agent: str,
        chat_id: str,
        message: Json,
        *,
        stream: bool = False,
        trace_id: str | None = None,
        timeout: float | None = None,
    ) -> ARCResponse | AsyncGenerator[ARCEvent]:
        """Say something in an open chat; returns and raises as `start`.

        Raises: ArcRefusal -43001 for a chat that is not the caller's or not there, -43002 for a
        closed one.
        """
        params = {"chatId": chat_id, "message": message}
        send = self._line.stream if stream else self._line.call
        answer = send("chat.message", target_agent, params, trace_id=trace_id, timeout=timeout)
        return answer if isinstance(answer, AsyncGenerator) else await answer

    async def end(
        self,
        target_agent: str,
        chat_id: str,
        reason: str | None = None,
        *,
        trace_id: str | None = None,
        timeout: float | None = None,
    ) -> ARCResponse:
        """Close a chat. Returns: `.result["chat"]` = `{chatId, status: "CLOSED", closedAt}`.

        Raises: ArcRefusal -43002, if it was closed before.
        """
        params = {"chatId": chat_id, "reason": reason}
        return await self._line.call(
            "chat.end", target_agent, params, trace_id=trace_id, timeout=timeout
        )


class ArcTasks:
    """Work that takes its time: `task.create`, `send`, `info`, `cancel`, `subscribe`."""

    def __init__(self, line: Line) -> None:
        self._line = line

    async def create(
        self,
        target_agent: str,
        initial_message: Json,
        priority: str | None = None,
        metadata: Json | None = None,
        trace_id: str | None = None,
        timeout: float | None = None,
    ) -> ARCResponse:
        """Hand an agent a task. Returns at once: `.result["task"]`, status `SUBMITTED`."""
        params = {"initialMessage": initial_message, "priority": priority, "metadata": metadata}
        return await self._call("create", target_agent, params, trace_id, timeout)

    async def send(
        self,
        target_agent: str,
        task_id: str,
        message: Json,
        trace_id: str | None = None,
        timeout: float | None = None,
    ) -> ARCResponse:
        """Say to a task what it asked for (status `INPUT_REQUIRED`)."""
        params = {"taskId": task_id, "message": message}
        return await self._call("send", target_agent, params, trace_id, timeout)

    async def info(
        self,
        target_agent: str,
        task_id: str,
        include_messages: bool = True,
        include_artifacts: bool = True,
        trace_id: str | None = None,
        timeout: float | None = None,
    ) -> ARCResponse:
        """Return how a task stands: `.result["task"]`."""
        params = {
            "taskId": task_id,
            "includeMessages": include_messages,
            "includeArtifacts": include_artifacts,
        }
        return await self._call("info", target_agent, params, trace_id, timeout)

    async def cancel(
        self,
        target_agent: str,
        task_id: str,
        reason: str | None = None,
        trace_id: str | None = None,
        timeout: float | None = None,
    ) -> ARCResponse:
        """End a task. Raises: ArcRefusal -42002 or -42003 when it has ended before."""
        params = {"taskId": task_id, "reason": reason}
        return await self._call("cancel", target_agent, params, trace_id, timeout)

    async def subscribe(
        self,
        target_agent: str,
        task_id: str,
        callback_url: str,
        events: Sequence[str] | None = None,
        trace_id: str | None = None,
        timeout: float | None = None,
    ) -> ARCResponse:
        """Have a task's events sent to an address. Returns: `.result["subscription"]`."""
        params = {
            "taskId": task_id,
            "callbackUrl": callback_url,
            "events": list(events) if events else None,
        }
        return await self._call("subscribe", target_agent, params, trace_id, timeout)

    async def _call(
        self,
        verb: str,
        target_agent: str,
        params: Json,
        trace_id: str | None,
        timeout: float | None,
    ) -> ARCResponse:
        return await self._line.call(
            f"task.{verb}", target_agent, params, trace_id=trace_id, timeout=timeout
        )
