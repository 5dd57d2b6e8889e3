"""`client.task`: the protocol's tasks by our own client."""

import asyncio

import pytest

from dispatch.client import ArcRefusal, Client, Json
from tests.documents.conftest import System
from tests.documents.sockets import message
from tests.system.houses import Casa

LIMIT_SECONDS = 60.0


async def ended(client: Client, task_id: str) -> Json:
    async with asyncio.timeout(LIMIT_SECONDS):
        while True:
            task: Json = (await client.task.info("demo", task_id)).result["task"]
            if task["status"] not in {"SUBMITTED", "WORKING"}:
                return task
            await asyncio.sleep(0.1)


async def test_a_task_is_created_looked_at_subscribed_to_and_cancelled(
    system: System, casa: Casa
):
    async with Client(endpoint=system.endpoint, token=casa.token) as client:
        made = await client.task.create(
            "demo", message("say: done"), priority="HIGH", metadata={"order": 17}, trace_id="t"
        )
        assert made["traceId"] == "t"
        assert made.result["task"]["status"] == "SUBMITTED"
        task_id = made.result["task"]["taskId"]
        task = await ended(client, task_id)
        assert task["status"] == "COMPLETED"
        said = [part["content"] for each in task["messages"] for part in each["parts"]]
        assert said == ["say: done", "done"]
        bare = await client.task.info("demo", task_id, include_messages=False)
        assert not bare.result["task"].get("messages")
        subscribed = await client.task.subscribe(
            "demo", task_id, "https://example.com/hook", events=["TASK_FAILED"]
        )
        assert subscribed.result["subscription"]["events"] == ["TASK_FAILED"]

        long = await client.task.create("demo", message("sleep: 600"))
        long_id = long.result["task"]["taskId"]
        cancelled = await client.task.cancel("demo", long_id, reason="changed")
        assert cancelled.result["task"]["status"] == "CANCELED"
        for call, code in (
            (client.task.send("demo", task_id, message("x")), -42002),
            (client.task.cancel("demo", long_id), -42003),
            (client.task.info("demo", "none"), -42001),
        ):
            with pytest.raises(ArcRefusal) as refused:
                await call
            assert refused.value.arc_code == code
