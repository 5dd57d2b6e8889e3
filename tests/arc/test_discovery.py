"""What can be found of the server before it is called."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

from dispatch.arc import discovery
from dispatch.config import Settings
from tests.arc.conftest import ArcSystem
from tests.arc.wire import Wire
from tests.system.houses import Casa


async def test_agents_are_told_to_their_own_house_only(
    arc_system: ArcSystem, wire: Wire, nobody: Wire, casa: Casa
):
    async with httpx.AsyncClient(base_url=arc_system.url) as stranger:
        public = (await stranger.get("/agent-info")).json()
    assert public["endpoints"] == {"arc": "/arc"}
    assert (public["registeredAgents"], public["totalAgents"]) == ({}, 0)
    own = (await wire.http.get(f"{arc_system.url}/agent-info")).json()
    assert own["totalAgents"] == 1
    assert own["registeredAgents"]["demo"]["agentId"] == str(casa.agent.id)
    assert "task.subscribe" in own["registeredAgents"]["demo"]["supportedMethods"]
    assert (await nobody.http.get(f"{arc_system.url}/agent-info")).status_code == 401


def sdk_schema() -> dict[str, Any]:
    """Read arc-sdk's own schema of cards; `import arc` would change this process."""
    found = importlib.util.find_spec("arc")
    assert found is not None
    assert found.origin is not None
    text = Path(found.origin).with_name("schemas") / "agent-card.schema.json"
    schema: dict[str, Any] = json.loads(text.read_text())
    return schema


@pytest.mark.parametrize("url", ["http://127.0.0.1:8700", "https://x.example.com/base/"])
def test_the_card_is_what_the_protocols_schema_wants(url: str):
    card = discovery.card(Settings(url=url))
    jsonschema.Draft202012Validator(sdk_schema()).validate(card)
    assert card["url"].endswith("/arc")


@pytest.mark.parametrize("prefix", ["", "/arc"])
async def test_the_card_is_served(arc_system: ArcSystem, prefix: str):
    async with httpx.AsyncClient(base_url=arc_system.url) as stranger:
        answer = await stranger.get(f"{prefix}/.well-known/a2a-agent-card.json")
    assert answer.status_code == 200
    jsonschema.Draft202012Validator(sdk_schema()).validate(answer.json())
