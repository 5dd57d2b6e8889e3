"""Our ThreadManager takes the real arc-sdk's client, and says what goes wrong in our words."""

import asyncio
import json
import os
import sys
from pathlib import Path

from tests.documents.conftest import System
from tests.system.houses import Casa

SECONDS = 120


async def test_it_works_over_the_protocols_own_client(system: System, casa: Casa):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "ignore", str(Path(__file__).with_name("sdk_threads.py"))),
        *(system.endpoint, casa.token),
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path])},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(SECONDS):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, err.decode()[-3000:]
    assert json.loads(out.splitlines()[-1]) == {
        "first contact": {"words": "a b c", "last": "done", "code": None},
        "second": ["two", True],
        "lost": "healed",
        "closed": {"words": "healed too", "last": "done", "code": None},
        "lost stream": {"words": "healed again", "last": "done", "code": None},
        "five": 1,
        "unknown agent": ["ArcRefusal", -41001],
        "unknown agent streamed": {"words": "", "last": "error", "code": -41001},
        "invalid": ["ArcRefusal", -32602],
        "failed": ["ArcRefusal", -42004],
        "bad token": ["Unauthenticated", None],
        "absent": ["Unavailable", None],
        "absent ended": [{"demo": False}, ["demo"]],
        "absent stream": "Unavailable",
        "agents": ["demo"],
        "ended": {"demo": True},
        "ended again": {},
    }
