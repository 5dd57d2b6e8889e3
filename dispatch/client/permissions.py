"""What turns ask people, or programs of theirs: see it, answer it."""

from dispatch.client.connection import Connection, Json, present, segment


class Permissions:
    """Questions of turns in the caller's house."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def list(self, thread: str | None = None) -> Json:
        """Return the open questions of a thread, or of the whole house: `{permissions}`.

        Each has `id`, `threadId`, `kind`, `toolName`, `arguments`, `deadlineMs`, `default`.
        """
        path = "/v1" if thread is None else f"/v1/threads/{segment(thread)}"
        return await self._connection.call("GET", f"{path}/permissions")

    async def grant(
        self,
        thread: str,
        permission_id: str,
        *,
        message: str | None = None,
        key: str | None = None,
    ) -> Json:
        """Let a call be made. Returns the question with its `status`.

        Raises: Conflict (`already_answered`, `turn_ended`); Invalid, for one of kind `output`.
        """
        body = {"decision": "grant", "message": message}
        return await self._answer(thread, permission_id, body, key)

    async def deny(
        self,
        thread: str,
        permission_id: str,
        *,
        message: str | None = None,
        key: str | None = None,
    ) -> Json:
        """Refuse a call; the agent's model reads the message.

        Raises: Conflict (`already_answered`, `turn_ended`).
        """
        body = {"decision": "deny", "message": message}
        return await self._answer(thread, permission_id, body, key)

    async def submit_output(
        self,
        thread: str,
        permission_id: str,
        output: str,
        *,
        is_error: bool = False,
        message: str | None = None,
        key: str | None = None,
    ) -> Json:
        """Tell what came of a call that was yours to make (kind `output`).

        Raises: Conflict (`already_answered`, `turn_ended`); Invalid, for another kind.
        """
        body = {
            "decision": "grant",
            "output": output,
            "isError": is_error or None,
            "message": message,
        }
        return await self._answer(thread, permission_id, body, key)

    async def _answer(
        self, thread: str, permission_id: str, body: Json, key: str | None
    ) -> Json:
        return await self._connection.call(
            "POST",
            f"/v1/threads/{segment(thread)}/permissions/{segment(permission_id)}",
            body=present(body),
            key=key,
        )
