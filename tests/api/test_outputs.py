"""The whole output of a command, over HTTP and by `arbe`; environments that are refused."""

import uuid

from dispatch import ids
from dispatch.operations import outputs
from dispatch.operations.record import Record
from tests.api.conftest import MakeHome
from tests.api.homes import Home, created, problem
from tests.api.test_cli import Arbe, arbe  # noqa: F401 - a fixture


async def kept(record: Record, thread_id: str, *parts: bytes) -> str:
    ref = ids.uuid7()
    for number, part in enumerate(parts):
        is_kept = await outputs.append(
            record, ids.ThreadId(uuid.UUID(thread_id)), ref, part=number, data=part
        )
        assert is_kept
    return str(ref)


async def test_an_output_is_read_whole_by_its_house_alone(
    home: Home, record: Record, make_home: MakeHome
) -> None:
    thread = await home.thread()
    ref = await kept(record, thread["id"], b"<b>one\n", b"\xff two\n")
    answer = await home.http.get(f"/v1/threads/{thread['id']}/outputs/{ref}")
    assert (answer.status_code, answer.content) == (200, b"<b>one\n\xff two\n")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    stranger = await make_home()
    problem(
        await stranger.http.get(f"/v1/threads/{thread['id']}/outputs/{ref}"), 404, "not_found"
    )
    for wrong in (str(ids.uuid7()), "nonsense"):
        problem(
            await home.http.get(f"/v1/threads/{thread['id']}/outputs/{wrong}"),
            404,
            "not_found",
        )


async def test_arbe_prints_an_output(arbe: Arbe, home: Home, record: Record) -> None:  # noqa: F811
    thread = await home.thread()
    ref = await kept(record, thread["id"], b"one\n", b"two\n")
    assert (await arbe("thread", "output", thread["id"], ref)).out == "one\ntwo\n"
    shown = await arbe("thread", "output", thread["id"], ref, "--json")
    assert shown.json == {"output": "one\ntwo\n"}
    unknown = await arbe("thread", "output", thread["id"], str(ids.uuid7()))
    assert unknown.code != 0
    assert "details.output.ref" in unknown.err


async def test_arbe_makes_environments_of_both_providers(arbe: Arbe) -> None:  # noqa: F811
    made = await arbe(
        *("environment", "create", "tests", "--provider", "docker"),
        *("--image", "python:3.12-slim", "--network", "--json"),
    )
    assert made.json["config"] == {"image": "python:3.12-slim", "network": True}
    refused = await arbe("environment", "create", "tests", "--provider", "docker")
    assert refused.code != 0
    assert "image" in refused.err


async def test_a_wrong_environment_is_refused_with_what_there_is(home: Home) -> None:
    made = created(await home.http.post("/v1/environments", json={"name": "e"}))
    assert made["config"] == {}
    body = {"name": "e", "config": {"memory": 1}}
    found = problem(await home.http.post("/v1/environments", json=body), 422, "invalid")
    assert "memoryBytes" in found["nextStep"]
