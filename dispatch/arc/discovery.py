"""What others find of this server before they call it: who is here, and the server's card."""

from collections.abc import Sequence
from importlib import metadata
from typing import Any
from urllib.parse import urlsplit

from dispatch.arc import envelope, methods
from dispatch.config import Settings
from dispatch.models.houses import Agent

_DESCRIPTION = "Durable turns of agents: a message is never lost, and answered once."


def info(agents: Sequence[Agent]) -> dict[str, Any]:
    """Return the server and the agents that its asker may call: none, for an unknown asker."""
    return {
        "server": envelope.SERVER,
        "description": _DESCRIPTION,
        "status": "active",
        "version": envelope.VERSION,
        "endpoints": {"arc": "/arc"},
        "registeredAgents": {
            agent.handle: {
                "agentId": str(agent.id),
                "supportedMethods": methods.names(),
                "status": "active",
            }
            for agent in agents
        },
        "totalAgents": len(agents),
    }


def _version() -> str:
    try:
        return metadata.version("arbe-dispatch")
    except metadata.PackageNotFoundError:
        return "0.0.0"  # it runs from its sources


def card(settings: Settings) -> dict[str, Any]:
    """Return the server's card as ARC's `agent-card.schema.json` wants it.

    Its `url` is `ARBE_URL` with https, which the schema demands whatever the server speaks.
    """
    address = urlsplit(settings.url)
    url = address._replace(scheme="https", path=f"{address.path.rstrip('/')}/arc")
    return {
        "name": envelope.SERVER,
        "description": _DESCRIPTION,
        "version": _version(),
        "url": url.geturl(),
        "provider": {"organization": settings.arc_organization},
        "visibility": "private",
        "capabilities": {
            "streaming": True,
            "pushNotifications": True,
            "fileUpload": False,
            "multimodal": False,
        },
        "authentication": {"schemes": ["bearer"]},
        "skills": [
            {"name": "Chat", "description": "Talk to an agent: chat.start, message, end."},
            {"name": "Task", "description": "Give an agent work and be told how it went."},
        ],
        "metadata": {"tags": ["agents", "dispatch"], "category": "platform"},
    }
