"""What turns ask, and its answers: by HTTP, by the library, by the command line."""

import json

import pytest

from dispatch.client import Client, Json
from dispatch.errors import Conflict, Invalid, NotFound
from dispatch.operations.record import Record
from tests.api import turns
from tests.api.conftest import MakeHome
from tests.api.homes import Home, created, problem
from tests.api.test_cli import Arbe, arbe, finish, read_until
from tests.api.test_client import client
from tests.api.turns import Turn

__all__ = ["arbe", "client"]


async def asking(home: Home, record: Record, **how: str) -> tuple[str, str, Turn]:
    """Let a turn ask; return its thread, its question and itself."""
    thread = (await home.thread())["id"]
    turn = await turns.begin(record, created(await home.post(thread, "@demo hi")))
    return thread, await turn.ask(**how), turn


def summary(found: Json) -> list[tuple[str, str]]:
    return [(each["threadId"], each["id"]) for each in found["permissions"]]


async def test_a_thread_and_its_house_list_what_is_asked_until_it_is_answered(
    home: Home, record: Record, make_home: MakeHome
) -> None:
    await home.agent()
    thread, question, _ = await asking(home, record)
    other, second, _ = await asking(home, record)
    url = f"/v1/threads/{thread}/permissions"
    (found,) = (await home.http.get(url)).json()["permissions"]
    assert found["id"] == question
    assert (found["threadId"], found["kind"], found["status"]) == (thread, "permission", "open")
    assert (found["toolName"], found["arguments"]) == ("run_command", {"command": "make"})
    assert found["deadlineMs"] > 0
    assert "by" not in found
    house = (await home.http.get("/v1/permissions")).json()
    assert sorted(summary(house)) == sorted([(thread, question), (other, second)])
    assert (await (await make_home()).http.get("/v1/permissions")).json() == {"permissions": []}
    answered = await home.http.post(f"{url}/{question}", json={"decision": "grant"})
    assert answered.status_code == 200, answered.text
    assert answered.json()["status"] == "granted"
    assert answered.json()["by"]["name"] == "Ada"
    assert (await home.http.get(url)).json() == {"permissions": []}


async def test_a_question_that_cannot_be_answered_says_why(
    home: Home, record: Record, make_home: MakeHome
) -> None:
    await home.agent()
    thread, question, turn = await asking(home, record)
    url = f"/v1/threads/{thread}/permissions"
    unknown = await home.http.post(f"{url}/{question}0", json={"decision": "deny"})
    assert problem(unknown, 404, "not_found")["kind"] == "permission"
    foreign = (await make_home()).http
    problem(await foreign.get(url), 404, "not_found")
    problem(
        await foreign.post(f"{url}/{question}", json={"decision": "deny"}), 404, "not_found"
    )
    for wrong in (
        {},
        {"decision": "perhaps"},
        {"decision": "grant", "output": "done"},
        {"decision": "deny", "output": "done"},
        {"decision": "grant", "isError": True},
    ):
        problem(await home.http.post(f"{url}/{question}", json=wrong), 422, "invalid")
    denial = {"decision": "deny", "message": "no"}
    for _ in range(2):
        told = (await home.http.post(f"{url}/{question}", json=denial)).json()
        assert (told["status"], told["message"]) == ("denied", "no")
    late = await home.http.post(f"{url}/{question}", json={"decision": "grant"})
    assert problem(late, 409, "conflict")["reason"] == "already_answered"
    left = await turn.ask()
    await turn.end()
    ended = await home.http.post(f"{url}/{left}", json=denial)
    assert problem(ended, 409, "conflict")["reason"] == "turn_ended"


async def test_the_library_answers_each_kind_of_question(
    client: Client, home: Home, record: Record
) -> None:
    thread, question, turn = await asking(home, record)
    function = await turn.ask(kind="output")
    assert summary(await client.permissions.list()) == [(thread, question), (thread, function)]
    granted = await client.permissions.grant(thread, question, message="go")
    assert (granted["status"], granted["message"]) == ("granted", "go")
    with pytest.raises(Conflict, match="another answer"):
        await client.permissions.deny(thread, question)
    with pytest.raises(Invalid, match="needs `output`"):
        await client.permissions.grant(thread, function)
    told = await client.permissions.submit_output(thread, function, "7 °C", is_error=True)
    assert (told["status"], told["output"], told["isError"]) == ("granted", "7 °C", True)
    assert summary(await client.permissions.list(thread)) == []
    with pytest.raises(NotFound):
        await client.permissions.deny(thread, "nothing")


async def test_the_transcript_shows_a_question_with_the_command_that_answers_it(
    arbe: Arbe, home: Home, record: Record
) -> None:
    thread, question, turn = await asking(home, record)
    function = await turn.ask(kind="output")
    reader = await arbe.start("thread", "entries", "read", thread)
    shown = await read_until(reader, f"grant {thread} {function} --output -")
    assert "? @demo asks for permission: $ make" in shown
    command = f"permission grant {thread} {question}"
    assert f"arbe {command}\n" in shown
    listed = (await arbe("permission", "list", thread)).out.splitlines()
    assert [line.split("\t")[:4] for line in listed] == [
        [question, thread, "permission", "$ make"],
        [function, thread, "output", "$ make"],
    ]
    assert summary((await arbe("permission", "list", "--json")).json) == [
        (thread, question),
        (thread, function),
    ]
    assert (await arbe(*command.split(), "--json")).json["status"] == "granted"
    denied = await arbe("permission", "deny", thread, question)
    assert denied.code == 1
    assert "another answer" in denied.err
    wrong = await arbe("permission", "grant", thread, function, "--is-error")
    assert wrong.code == 64
    output = ("permission", "grant", thread, function, "--output", "-", "--json")
    assert (await arbe(*output, stdin="warm\n")).json["output"] == "warm"
    await turn.end()
    ended = await finish(reader)
    assert (shown + ended.out).count("· granted by Ada") == 1
    assert "· what came of it, given by Ada" in ended.out


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("permissions", {"run_command": "maybe"}),
        ("permissions", ["run_command"]),
        ("permissionSeconds", 0),
        ("permissionSeconds", "an hour"),
        ("permissionDefault", "perhaps"),
        ("tools", ["run_comand"]),
        ("tools", "run_command"),
        ("functions", [{"name": "f"}]),
        ("functions", [{"name": "a b", "description": "", "parameters": {"type": "object"}}]),
        ("functions", [{"name": "f", "description": "", "parameters": {"type": "array"}}]),
        ("functions", [{"name": "f", "description": "", "parameters": {"type": "object"}}] * 2),
    ],
)
async def test_a_config_that_no_turn_could_use_is_refused_by_the_name_of_its_key(
    home: Home, key: str, value: object
) -> None:
    body = {"handle": "bad", "runner": "demo", "config": {key: value}}
    refused = problem(await home.http.post("/v1/agents", json=body), 422, "invalid")
    assert key in refused["detail"]
    await home.agent("good")
    changed = await home.http.patch("/v1/agents/@good", json={"config": {key: value}})
    assert key in problem(changed, 422, "invalid")["detail"]


async def test_an_agents_config_is_given_as_json_or_as_a_file(arbe: Arbe) -> None:
    rules = {"permissions": {"run_command": "ask"}, "permissionSeconds": 60}
    text = json.dumps(rules)
    made = await arbe("agent", "create", "@careful", "--config", text, "--json")
    assert made.json["config"] == rules
    (arbe.folder / "c.json").write_text('{"permissions": {"run_command": "deny"}}')
    changed = await arbe("agent", "update", "@careful", "--config", "@c.json", "--json")
    assert changed.json["config"] == {"permissions": {"run_command": "deny"}}
    for wrong in ("[]", "{", "@nothing.json"):
        assert (await arbe("agent", "update", "@careful", "--config", wrong)).code == 64
    refused = await arbe("agent", "update", "@careful", "--config", '{"permissions": 1}')
    assert (refused.code, "permissions" in refused.err) == (1, True)


@pytest.mark.parametrize("parked", [False, True])
async def test_a_turn_that_waits_says_so_with_the_command_that_answers_it(
    arbe: Arbe, home: Home, record: Record, parked: bool
) -> None:
    thread, question, turn = await asking(home, record)
    if parked:
        assert await turn.wait() == "waiting"
    url = f"/v1/threads/{thread}"
    dispatch = f"{url}/dispatches/{turn.fence.dispatch_id}"
    seen = (await home.http.get(dispatch)).json()
    assert (seen["status"], "runId" in seen) == ("waiting", not parked)
    told = await arbe("thread", "diagnose", thread)
    assert told.code == 0
    assert told.out.startswith("waiting\nIt waits for permission to call")
    assert f"arbe permission grant {thread} {question}" in told.out
    found = (await home.http.get(f"{url}/diagnose")).json()
    assert found["evidence"]["asks"] == [question]
    fleet = (await home.http.get("/v1/diagnose")).json()
    assert fleet["threads"]["stages"] == {"waiting": 1}
    child = {"parent": thread, "parentDispatchId": turn.fence.dispatch_id}
    created(await home.http.post("/v1/threads", json=child))
    await home.http.post(f"{url}/permissions/{question}", json={"decision": "grant"})
    after = (await home.http.get(dispatch)).json()
    assert after["status"] == ("queued" if parked else "running")
