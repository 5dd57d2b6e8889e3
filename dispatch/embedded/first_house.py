"""What a newcomer finds: a house, its owner's token and an agent that needs no key.

Remembered in `credentials.json` (mode 0600) beside the private servers. Made once per folder;
a start that is killed in between leaves a house nobody knows, and the next one makes another.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from dispatch.config import Settings
from dispatch.embedded import remembered
from dispatch.errors import Unauthenticated
from dispatch.operations import agents, authorize, houses
from dispatch.operations.record import Record, open_record

DEMO_AGENT: Final = "demo"
_HOUSE: Final = "Home"
_OWNER: Final = "Owner"


@dataclass(frozen=True)
class Credentials:
    """How the person who typed `arbe up` gets in."""

    url: str
    house_id: str
    token: str


async def find_or_make(settings: Settings, *, file: Path, url: str) -> Credentials:
    """Return what the file remembers if its token still opens a house, else a new house.

    Promise: the file holds what is returned; another database gets a house of its own.
    """
    async with open_record(settings) as record:
        known = _read(file)
        if known is None or not await _opens(record, known.token):
            known = await _first_house(record, url=url)
    here = Credentials(url=url, house_id=known.house_id, token=known.token)
    remembered.write_private(file, json.dumps(asdict(here), indent=2) + "\n")
    return here


async def _first_house(record: Record, *, url: str) -> Credentials:
    """Make a house with an owner, a token and the demo agent."""
    founded = await houses.create(record, name=_HOUSE, owner_name=_OWNER)
    owner = await authorize.caller(record, founded.secret)
    await agents.create(record, owner, handle=DEMO_AGENT, runner=DEMO_AGENT)
    return Credentials(url=url, house_id=str(founded.house.id), token=founded.secret)


async def _opens(record: Record, token: str) -> bool:
    try:
        await authorize.caller(record, token)
    except Unauthenticated:
        return False
    return True


def _read(file: Path) -> Credentials | None:
    """Read the file; an unreadable one counts as none, and its house stays in the database."""
    try:
        return Credentials(**json.loads(file.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None
