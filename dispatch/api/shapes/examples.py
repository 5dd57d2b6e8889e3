"""The one small world from which all examples in OpenAPI are taken."""

from typing import Any, Final

HOUSE_ID: Final = "0199d2a4-1c00-7a3b-9c4d-5e6f708192a3"
MEMBER_ID: Final = "0199d2a4-1c01-7b4c-8d5e-6f708192a3b4"
TOKEN_ID: Final = "0199d2a4-1c02-7c5d-9e6f-708192a3b4c5"  # noqa: S105 - an id, no token
AGENT_ID: Final = "0199d2a4-1c03-7d6e-8f70-8192a3b4c5d6"
ENVIRONMENT_ID: Final = "0199d2a4-1c04-7e7f-9081-92a3b4c5d6e7"
PRIMARY_ID: Final = "0199d2a4-1c05-7f80-8192-a3b4c5d6e7f8"
THREAD_ID: Final = "0199d2a4-5b7e-7c1d-8f00-3a5b6c7d8e9f"
ENTRY_ID: Final = "001760000000123_0000000000"
DISPATCH_ID: Final = f"{ENTRY_ID}.0"
AT: Final = 1760000000123

HOUSE: Final[dict[str, Any]] = {
    "id": HOUSE_ID,
    "name": "Casa",
    "primaryThreadId": PRIMARY_ID,
    "createdAt": AT,
}
MEMBER: Final[dict[str, Any]] = {
    "id": MEMBER_ID,
    "houseId": HOUSE_ID,
    "name": "Ada",
    "role": "owner",
    "createdAt": AT,
}
TOKEN: Final[dict[str, Any]] = {
    "id": TOKEN_ID,
    "memberId": MEMBER_ID,
    "name": "laptop",
    "createdAt": AT,
}
SECRET: Final = "arbe_owner_0000000000000000000000000000000000000000000"  # noqa: S105 - shape only
AGENT: Final[dict[str, Any]] = {
    "id": AGENT_ID,
    "houseId": HOUSE_ID,
    "handle": "demo",
    "runner": "demo",
    "triggerMode": "mention",
    "config": {},
    "createdAt": AT,
}
ENVIRONMENT: Final[dict[str, Any]] = {
    "id": ENVIRONMENT_ID,
    "houseId": HOUSE_ID,
    "name": "workspace",
    "provider": "local",
    "config": {},
    "createdAt": AT,
}
USAGE: Final[dict[str, Any]] = {
    "input": 12,
    "output": 34,
    "cacheRead": 0,
    "cacheWrite": 0,
    "totalTokens": 46,
    "cost": {"total": 0.00021},
}
THREAD: Final[dict[str, Any]] = {
    "id": THREAD_ID,
    "houseId": HOUSE_ID,
    "parent": {"kind": "house", "id": HOUSE_ID},
    "name": "Release notes",
    "tags": ["release"],
    "status": "open",
    "usage": USAGE,
    "config": {},
    "metadata": {},
    "createdAt": AT,
    "updatedAt": AT,
}
CANCELLATION: Final[dict[str, Any]] = {
    "id": "0199d2a4-5b80-7e3f-8123-4d5e6f708192",
    "threadId": THREAD_ID,
    "cascade": True,
    "by": {"kind": "member", "id": MEMBER_ID, "name": "Ada"},
    "message": "Wrong branch.",
    "done": True,
    "threads": 3,
    "cancelled": 2,
    "requested": 1,
    "requestedAt": AT,
    "doneAt": AT,
}
ENTRY: Final[dict[str, Any]] = {
    "id": ENTRY_ID,
    "at": AT,
    "seq": 2,
    "payload": {
        "type": "chat",
        "by": {"kind": "member", "id": MEMBER_ID, "name": "Ada"},
        "text": "@demo run: uname -a",
    },
}
PERMISSION: Final[dict[str, Any]] = {
    "id": f"{DISPATCH_ID}.5f0c1b2a3d4e.7",
    "threadId": THREAD_ID,
    "dispatchId": DISPATCH_ID,
    "agentId": AGENT_ID,
    "kind": "permission",
    "toolCallId": "call_1",
    "toolName": "run_command",
    "arguments": {"command": "make deploy"},
    "deadlineMs": AT + 86_400_000,
    "default": "deny",
    "status": "open",
}
DISPATCHES: Final[list[dict[str, Any]]] = [{"id": DISPATCH_ID, "agentId": AGENT_ID}]
ACCEPTED: Final[dict[str, Any]] = {
    "entry": {"id": ENTRY_ID, "at": AT},
    "threadId": THREAD_ID,
    "dispatches": DISPATCHES,
}
