"""What a chat can refuse. `code` is stable; the ARC numbers are given where ARC is spoken."""

from dispatch.errors import Conflict, NotFound


class ChatNotFound(NotFound):
    """No such chat: never made, or closed and past its retention."""

    code = "chat_not_found"

    def __init__(self, chat_id: str) -> None:
        super().__init__(
            "chat", chat_id, next_step="Start a new one: closed chats are kept for a time only."
        )


class ChatAlreadyClosed(Conflict):
    """The chat is closed; it is never opened again."""

    code = "chat_already_closed"

    def __init__(self, chat_id: str) -> None:
        super().__init__(
            "chat_already_closed",
            f"Chat '{chat_id}' is closed.",
            next_step="Start a new one.",
            chatId=chat_id,
        )


class ChatExists(Conflict):
    """The id is taken, perhaps by a closed chat that is still kept."""

    code = "chat_exists"

    def __init__(self, chat_id: str) -> None:
        super().__init__(
            "chat_exists",
            f"There is a chat '{chat_id}' already.",
            next_step="Choose another chat id, or give none.",
            chatId=chat_id,
        )
