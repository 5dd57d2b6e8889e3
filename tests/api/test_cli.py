"""`arbe` as a process against the real API: what it prints, and how it ends."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from dispatch.operations.record import Record
from tests.api import turns
from tests.api.conftest import MakeHome
from tests.api.homes import Home

LIMIT_SECONDS = 60.0


@dataclass
class Ended:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)


@dataclass
class Arbe:
    """Runs `arbe` as one member, in a folder of its own."""

    environment: dict[str, str]
    folder: Path

    async def start(self, *arguments: str, **more: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "dispatch.cli", *arguments),
            env={**self.environment, **more},
            cwd=self.folder,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def __call__(self, *arguments: str, stdin: str = "", **more: str) -> Ended:
        return await finish(await self.start(*arguments, **more), stdin)


async def finish(process: asyncio.subprocess.Process, stdin: str = "") -> Ended:
    async with asyncio.timeout(LIMIT_SECONDS):
        out, err = await process.communicate(stdin.encode())
    assert b"Traceback" not in err, err.decode()
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


async def read_until(process: asyncio.subprocess.Process, text: str) -> str:
    assert process.stdout is not None
    found = b""
    async with asyncio.timeout(LIMIT_SECONDS):
        while text.encode() not in found:
            piece = await process.stdout.read(4096)
            assert piece, found.decode()
            found += piece
    return found.decode()


@pytest_asyncio.fixture
async def arbe(api_url: str, home: Home, tmp_path: Path) -> AsyncIterator[Arbe]:
    await home.agent()
    environment = {
        **os.environ,
        "ARBE_URL": api_url,
        "ARBE_TOKEN": home.founded.secret,
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    yield Arbe(environment, tmp_path)


async def test_posting_to_an_agent_reuses_its_direct_thread(arbe: Arbe) -> None:
    first = (await arbe("thread", "entries", "create", "@demo", "hi", "--json")).json
    again = await arbe("thread", "entries", "create", "@demo", "-", stdin="from a pipe\n")
    assert again.code == 0
    assert again.out.split("\t")[1] == first["threadId"]
    listed = (await arbe("thread", "entries", "list", first["threadId"][:18], "--json")).json
    texts = [e["payload"].get("text") for e in listed["entries"]]
    assert [text for text in texts if text] == ["hi", "from a pipe"]


async def test_reading_streams_a_turn_as_it_comes_and_ends_with_it(
    arbe: Arbe, record: Record
) -> None:
    posted = (await arbe("thread", "entries", "create", "@demo", "hi", "--json")).json
    reader = await arbe.start("thread", "entries", "read", posted["threadId"])
    await read_until(reader, "@demo is asked")
    turn = await turns.begin(record, posted)
    await turn.say("One ", "two")
    live = await read_until(reader, "@demo: One two")
    await turn.end()
    ended = await finish(reader)
    assert ended.code == 0, ended.err
    late = await arbe("thread", "entries", "read", posted["threadId"])
    assert late.code == 0
    assert late.out.endswith("@demo: One two\n· completed\n")
    assert (live + ended.out).endswith("@demo: One two\n· completed\n")


async def test_follow_reads_the_answer_and_exits_2_when_the_turn_failed(
    arbe: Arbe, record: Record
) -> None:
    process = await arbe.start(
        "thread", "entries", "create", "@demo", "hi", "--follow", "--json"
    )
    assert process.stdout is not None
    posted = json.loads(await process.stdout.readline())
    turn = await turns.begin(record, posted)
    await turn.end(failed="no luck")
    ended = await finish(process)
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert ended.code == 2
    assert lines[-1] == {"threadId": posted["threadId"], "outcome": "failed", "exitCode": 2}
    assert lines[-2]["payload"]["message"] == "no luck"
    diagnosed = await arbe("thread", "diagnose", posted["threadId"])
    assert diagnosed.code == 2
    assert diagnosed.out.startswith("failed\n")


async def test_follow_goes_into_the_turn_that_takes_the_entry_in(
    arbe: Arbe, record: Record
) -> None:
    create = ("thread", "entries", "create")
    posted = (await arbe(*create, "@demo", "go", "--json")).json
    turn = await turns.begin(record, posted)
    thread = posted["threadId"]
    busy = await arbe(*create, thread, "@demo no", "--when-busy", "reject", "--json")
    assert busy.code == 1
    assert json.loads(busy.err)["dispatchId"] == turn.fence.dispatch_id
    resting = await arbe(*create, thread, "@demo no", "--if-status", "open", "--json")
    assert (resting.code, json.loads(resting.err)["threadStatus"]) == (1, "running")
    steering = (*create, thread, "@demo in English", "--when-busy", "steer", "--follow")
    follower = await arbe.start(*steering)
    await read_until(follower, "@demo is asked, to join the turn that runs\n")
    assert await turn.take(2) == 1
    await turn.say("Of course.")
    await turn.end()
    ended = await finish(follower)
    assert ended.code == 0, ended.err
    assert ended.out.splitlines() == [
        "· taken into the turn that runs, at its step 2",
        "@demo: Of course.",
        "· completed",
    ]


async def test_an_entry_that_waits_is_withdrawn(arbe: Arbe) -> None:
    posted = (await arbe("thread", "entries", "create", "@demo", "oops", "--json")).json
    entry = (posted["threadId"], posted["entry"]["id"])
    done = await arbe("thread", "entries", "withdraw", *entry, "--message", "typo")
    assert done.out == f"{posted['dispatches'][0]['id']}\twithdrawn\n"
    read = await arbe("thread", "entries", "read", posted["threadId"])
    assert read.code == 4
    assert "typo" in read.out
    unknown = await arbe("thread", "entries", "withdraw", posted["threadId"], "what")
    assert unknown.code == 1
    assert "No entry 'what'" in unknown.err


async def test_a_cancelled_turn_exits_4_and_a_timeout_3(arbe: Arbe) -> None:
    posted = (await arbe("thread", "entries", "create", "@demo", "hi", "--json")).json
    waited = await arbe("thread", "entries", "read", posted["threadId"], "--timeout", "0.5")
    assert waited.code == 3
    assert "arbe thread diagnose" in waited.err
    dispatch = posted["dispatches"][0]["id"]
    cancelled = await arbe("thread", "cancel", posted["threadId"], dispatch, "-m", "enough")
    assert cancelled.out == f"{dispatch}\tcancelled\n"
    ended = await arbe("thread", "entries", "read", posted["threadId"])
    assert ended.code == 4
    assert "enough" in ended.out


async def test_a_thread_and_a_house_are_cancelled_as_a_whole(arbe: Arbe) -> None:
    for command in (["thread", "cancel", "THREAD"], ["house", "cancel", "--yes"]):
        posted = (await arbe("thread", "entries", "create", "@demo", "hi", "--json")).json
        thread = posted["threadId"]
        words = [thread if word == "THREAD" else word for word in command]
        asked = (await arbe(*words, "--message", "enough", "--json")).json
        assert (asked["done"], asked["cancelled"], asked["threads"]) == (True, 1, 1)
        shown = (await arbe("cancellation", "show", asked["id"], "--json")).json
        assert shown == asked
        assert "enough" in (await arbe("thread", "entries", "read", thread)).out
    nothing = (await arbe("house", "cancel", "--tag", "x", "--yes", "--json")).json
    assert (nothing["tag"], nothing["cancelled"]) == ("x", 0)


async def test_a_thread_is_left_alone_while_it_has_another_status(arbe: Arbe) -> None:
    thread = (await arbe("thread", "create", "me", "--json")).json["thread"]["id"]
    for command in (["update", thread, "--name", "x"], ["cancel", thread], ["delete", thread]):
        ended = await arbe("thread", *command, "--if-status", "failed", "--json")
        assert ended.code == 1
        refused = json.loads(ended.err)
        assert (refused["reason"], refused["threadStatus"]) == ("status_mismatch", "open")
    assert (await arbe("thread", "delete", thread, "--if-status", "open", "-y")).code == 0


async def test_a_run_that_nobody_carries_on_is_stalled_then_reconciled(
    arbe: Arbe, record: Record
) -> None:
    posted = (await arbe("thread", "entries", "create", "@demo", "hi", "--json")).json
    turn = await turns.begin(record, posted, lease_seconds=0.05)
    await turn.append(turns.Chunk(kind="text", message_id="m", delta="Half"))
    thread = posted["threadId"]
    diagnosed = await arbe("thread", "diagnose", thread, "--json")
    assert diagnosed.code == 3
    assert json.loads(diagnosed.out)["stage"] == "stalled"
    assert (await arbe("thread", "reconcile", thread)).out == "running → failed\n"
    assert (await arbe("thread", "reconcile", thread)).out == "no change\n"
    counts = (await arbe("thread", "prune", "--dry-run", "--json")).json
    assert counts["checked"] == 0


async def test_chats_are_listed_and_swept(arbe: Arbe) -> None:
    assert (await arbe("chat", "list", "--json")).json == {"chats": [], "nextCursor": None}
    assert (await arbe("chat", "sweep", "--dry-run", "--json")).json["dryRun"] is True
    assert (await arbe("chat", "sweep")).code == 0


async def test_the_fleet_is_diagnosed_only_when_asked_for(arbe: Arbe) -> None:
    bare = await arbe("diagnose")
    assert bare.code == 64
    assert "--fleet" in bare.err
    whole = await arbe("diagnose", "--fleet")
    assert whole.code == 2
    assert whole.out.startswith("failed\nfailed (no_worker): ")
    assert "\nredis: up, version " in whole.out
    assert "\nthreads: none has work" in whole.out


async def test_an_api_that_is_away_counts_as_a_server_away(arbe: Arbe, dead_port: int) -> None:
    away = await arbe("diagnose", "--fleet", ARBE_URL=f"http://127.0.0.1:{dead_port}")
    assert away.code == 2
    assert "cannot be reached" in away.err


async def test_deleting_is_idempotent_and_what_is_gone_says_so(arbe: Arbe) -> None:
    made = (await arbe("thread", "create", "@demo", "--name", "x", "--json")).json
    thread = made["thread"]["id"]
    for _ in range(2):
        assert (await arbe("thread", "delete", thread, "--yes")).code == 0
    shown = await arbe("thread", "show", thread, "--json")
    assert shown.code == 1
    assert shown.out == ""
    assert json.loads(shown.err)["code"] == "gone"


async def test_threads_are_made_changed_and_listed_by_pages(arbe: Arbe) -> None:
    made = []
    for number in range(3):
        line = await arbe("thread", "create", "me", "--name", f"n{number}", "--tag", "t")
        made.append(line.out.split("\t")[0])
    changed = (
        await arbe("thread", "update", made[0], "--pin", "--name", "", "--tag", "u", "--json")
    ).json
    assert "name" not in changed
    assert changed["tags"] == ["u"]
    assert changed["pinnedAt"]
    steered = ("thread", "update", made[0], "--json", "--when-busy")
    assert (await arbe(*steered, "steer")).json["whenBusy"] == "steer"
    assert "whenBusy" not in (await arbe(*steered, "")).json
    assert (await arbe(*steered, "panic")).code == 1
    first = (await arbe("thread", "list", "--tag", "t", "--limit", "1", "--json")).json
    assert [thread["id"] for thread in first["threads"]] == [made[2]]
    assert first["nextCursor"]
    everything = await arbe("thread", "list", "--limit", "2", "--all")
    listed = [line.split("\t")[0] for line in everything.out.splitlines()]
    assert set(made) <= set(listed)
    assert listed == sorted(listed, reverse=True)


async def test_following_raw_entries_prints_json_lines_as_they_come(arbe: Arbe) -> None:
    thread = (await arbe("thread", "create", "me", "--json")).json["thread"]["id"]
    process = await arbe.start(
        *("thread", "entries", "list", thread, "--follow", "--limit", "2", "--json")
    )
    await read_until(process, "signal.thread.created")
    await arbe("thread", "entries", "create", thread, "hello")
    ended = await finish(process)
    assert ended.code == 0
    assert json.loads(ended.out)["payload"]["text"] == "hello"


async def test_ctrl_c_ends_a_reader_quietly_with_130(arbe: Arbe) -> None:
    posted = (await arbe("thread", "entries", "create", "@demo", "hi", "--json")).json
    reader = await arbe.start("thread", "entries", "read", posted["threadId"])
    await read_until(reader, "@demo is asked\n")
    reader.send_signal(signal.SIGINT)
    assert await finish(reader) == Ended(130, "", "")


async def test_a_broken_pipe_ends_quietly_with_141(arbe: Arbe) -> None:
    thread = (await arbe("thread", "create", "me", "--json")).json["thread"]["id"]
    shell = await asyncio.create_subprocess_exec(
        *("bash", "-c", '"$@" | true; echo ${PIPESTATUS[0]}', "-"),
        *(sys.executable, "-m", "dispatch.cli", "thread", "entries", "list", thread),
        env=arbe.environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert await finish(shell) == Ended(0, "141\n", "")


async def test_another_houses_thread_does_not_exist(arbe: Arbe, make_home: MakeHome) -> None:
    foreign = (await (await make_home()).thread(name="theirs"))["id"]
    for command in (["show"], ["delete", "--yes"], ["diagnose"], ["entries", "read"]):
        ended = await arbe("thread", *command, foreign)
        assert ended.code == 1, command
        assert f"No thread '{foreign}'" in ended.err


async def test_houses_members_and_tokens_are_looked_after(arbe: Arbe) -> None:
    founded = (
        await arbe(
            "house", "create", "Villa", "--json", ARBE_OPERATOR_TOKEN="op", ARBE_TOKEN=""
        )
    ).json
    assert founded["house"]["name"] == "Villa"
    renamed = (await arbe("house", "rename", "Casa Nova", "--json")).json
    assert renamed["name"] == "Casa Nova"
    steered = (await arbe("house", "update", "--when-busy", "steer", "--json")).json
    assert (steered["name"], steered["whenBusy"]) == ("Casa Nova", "steer")
    assert (await arbe("house", "update")).code == 64
    member = (await arbe("member", "create", "Ben", "--json")).json
    token = (
        await arbe("token", "create", "ci", "--member", member["id"], "--days", "1", "--json")
    ).json
    token_file = arbe.folder / "token"
    token_file.write_text(token["token"], encoding="utf-8")
    as_ben = ("--token-file", str(token_file), "--json")
    assert (await arbe("house", "show", *as_ben)).json["name"] == "Casa Nova"
    assert (await arbe("house", "rename", "Mine", *as_ben)).code == 1
    assert token["token"] not in (await arbe("token", "list")).out
    assert (await arbe("token", "revoke", token["id"])).code == 0
    assert member["id"] in (await arbe("member", "list")).out


@pytest.mark.parametrize("handle", ["Bad Handle", "@demo"])
async def test_an_agent_that_cannot_be_is_refused_with_a_reason(
    arbe: Arbe, handle: str
) -> None:
    ended = await arbe("agent", "create", handle)
    assert ended.code == 1
    assert ended.out == ""
    assert "handle" in ended.err
