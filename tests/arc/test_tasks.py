"""Tasks over the wire: their lives, their questions, and webhooks to a real receiver."""

import asyncio
import base64
import hashlib
import hmac
import json
from typing import Any
from uuid import UUID

import pytest

from dispatch.operations import agents, members, permissions, tokens
from dispatch.stores.postgres import arc_subscriptions, engine
from tests.arc.conftest import ArcSystem
from tests.arc.receiver import receiving
from tests.arc.wire import Wire, message, request
from tests.system.houses import Casa


async def create(wire: Wire, text: str, **params: Any) -> dict[str, Any]:
    found = await wire.result("task.create", {"initialMessage": message(text)} | params)
    assert found["type"] == "task"
    task: dict[str, Any] = found["task"]
    return task


async def info(wire: Wire, task_id: str, **params: Any) -> dict[str, Any]:
    found = await wire.result("task.info", {"taskId": task_id} | params)
    task: dict[str, Any] = found["task"]
    return task


async def wait(wire: Wire, task_id: str, status: str) -> dict[str, Any]:
    async with asyncio.timeout(60):
        while (task := await info(wire, task_id))["status"] != status:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return task


async def test_a_task_is_a_sub_job_with_messages_and_artifacts(wire: Wire, casa: Casa):
    made = await create(wire, "run: echo hello", priority="URGENT", metadata={"x": 1})
    assert made["status"] == "SUBMITTED"
    task = await wait(wire, made["taskId"], "COMPLETED")
    assert task["metadata"]["x"] == 1
    assert task["metadata"]["priority"] == "URGENT"
    assert [each["role"] for each in task["messages"]] == ["user", "agent"]
    assert [each["name"] for each in task["artifacts"]] == ["run_command"]
    assert "hello" in task["artifacts"][0]["parts"][0]["content"]
    assert task["createdAt"] <= task["completedAt"]
    rows = await casa.record.chats.get_active_chats(prefix=f"{casa.who.member_id}/")
    assert rows == []
    short = await info(wire, task["taskId"], includeMessages=False, includeArtifacts=False)
    assert not {"messages", "artifacts"} & set(short)


async def test_a_failed_task_says_why(wire: Wire):
    made = await create(wire, "fail: no ink")
    task = await wait(wire, made["taskId"], "FAILED")
    assert "no ink" in task["reason"]
    error = await wire.error("task.cancel", {"taskId": made["taskId"]})
    assert error["code"] == -42006


async def test_a_running_task_is_cancelled(wire: Wire):
    made = await create(wire, "sleep: 600")
    await wait(wire, made["taskId"], "WORKING")
    params = {"taskId": made["taskId"], "reason": "enough"}
    cancelled = (await wire.result("task.cancel", params))["task"]
    assert (cancelled["status"], cancelled["reason"]) == ("CANCELED", "enough")
    assert cancelled["canceledAt"]
    task = await wait(wire, made["taskId"], "CANCELED")
    assert task["reason"] == "enough"
    error = await wire.error("task.send", {"taskId": made["taskId"], "message": message("x")})
    assert error["code"] == -42003


async def test_a_task_waits_for_an_answer_and_takes_it(wire: Wire, casa: Casa):
    config = {"repeatable": True, "permissions": {"run_command": "ask"}}
    change = agents.AgentChange(config=config)
    await agents.update(casa.record, casa.who, casa.agent.id, change)
    made = await create(wire, "run: echo allowed")
    task_id = made["taskId"]
    task = await wait(wire, task_id, "INPUT_REQUIRED")
    question = task["messages"][-1]["parts"][0]
    assert question["type"] == "DataPart"
    assert question["content"]["toolName"] == "run_command"
    for text, code in (("perhaps", -32602),):
        error = await wire.error("task.send", {"taskId": task_id, "message": message(text)})
        assert error["code"] == code
    params = {"taskId": task_id, "message": message("grant, please")}
    assert await wire.result("task.send", params) == {"success": True}
    task = await wait(wire, task_id, "COMPLETED")
    assert "allowed" in task["artifacts"][0]["parts"][0]["content"]


async def test_a_task_is_answered_by_the_program_that_made_it(wire: Wire, casa: Casa):
    await let_call_a_function(casa)
    made = await create(wire, "how is the weather?")
    task = await wait(wire, made["taskId"], "INPUT_REQUIRED")
    asked = task["messages"][-1]["parts"][0]["content"]
    assert (asked["kind"], asked["toolName"]) == ("output", "weather")
    assert asked["arguments"] == {"city": "Oslo"}
    params = {"taskId": made["taskId"], "message": message("7 degrees")}
    await wire.result("task.send", params)
    task = await wait(wire, made["taskId"], "COMPLETED")
    said = [each["parts"][0]["content"] for each in task["messages"]]
    assert said[-2:] == ["7 degrees", "done: 7 degrees"]


async def test_a_chat_goes_on_once_another_program_made_its_call(wire: Wire, casa: Casa):
    await let_call_a_function(casa)
    params = {"initialMessage": message("how is the weather?"), "chatId": "w"}
    asking = asyncio.create_task(wire.result("chat.start", params))
    async with asyncio.timeout(60):
        while not (found := await permissions.list_in_house(casa.record, casa.who)):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    (asked,) = found
    reply = permissions.Reply(decision="grant", output="8 degrees")
    place = (asked.thread_id, asked.question.asked.permission_id)
    await permissions.answer(casa.record, casa.who, *place, reply)
    chat = (await asking)["chat"]
    # On a slow machine the turn may have given its worker up before it was answered.
    assert chat["status"] in {"ACTIVE", "PAUSED"}
    if chat["status"] == "ACTIVE":
        assert chat["message"]["parts"][0]["content"] == "done: 8 degrees"


async def let_call_a_function(casa: Casa) -> None:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}}
    weather = {"name": "weather", "description": "Tells it.", "parameters": parameters}
    config = {"functions": [weather], "repeatable": True}
    change = agents.AgentChange(runner="calling", config=config)
    await agents.update(casa.record, casa.who, casa.agent.id, change)


async def test_a_chat_that_waits_for_an_answer_says_so(wire: Wire, casa: Casa):
    config = {"repeatable": True, "permissions": {"run_command": "ask"}}
    change = agents.AgentChange(config=config)
    await agents.update(casa.record, casa.who, casa.agent.id, change)
    params = {"initialMessage": message("run: echo x"), "chatId": "waits"}
    chat = (await wire.result("chat.start", params))["chat"]
    assert chat["status"] == "PAUSED"
    assert "arbe permission grant" in chat["message"]["parts"][0]["content"]
    ended = await wire.result("chat.end", {"chatId": "waits"})
    assert ended["chat"]["status"] == "CLOSED"


async def test_a_running_task_takes_no_message(wire: Wire):
    made = await create(wire, "sleep: 600")
    await wait(wire, made["taskId"], "WORKING")
    params = {"taskId": made["taskId"], "message": message("x")}
    error = await wire.error("task.send", params)
    assert error["code"] == -42006
    await wire.result("task.cancel", {"taskId": made["taskId"]})


@pytest.mark.parametrize("method", ["task.info", "task.cancel", "task.send", "task.subscribe"])
async def test_nobody_else_learns_of_a_task(
    wire: Wire, casa: Casa, arc_system: ArcSystem, method: str
):
    made = await create(wire, "say: x")
    bob = await members.create(casa.record, casa.who, name="Bob", role="owner")
    token = await tokens.mint(casa.record, casa.who, name="t", member_id=bob.id)
    other = Wire(arc_system.endpoint, token.secret)
    try:
        for task_id in (made["taskId"], "x", "0" * 32):
            params = {"taskId": task_id, "message": message("x")}
            params |= {"callbackUrl": "https://example.com"}
            error = await other.error(method, params)
            assert (error["code"], error["details"]["taskId"]) == (-42001, task_id)
    finally:
        await other.http.aclose()


async def test_the_same_key_makes_one_task(wire: Wire):
    body = request("task.create", {"initialMessage": message("say: x")})
    found = await asyncio.gather(
        *(wire.post(body, headers={"Idempotency-Key": "k"}) for _ in range(4))
    )
    tasks = {each.json()["result"]["task"]["taskId"] for each in found}
    assert len(tasks) == 1
    task = await wait(wire, tasks.pop(), "COMPLETED")
    assert len(task["messages"]) == 2


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("task.create", {}),
        ("task.create", {"initialMessage": message("x"), "priority": "SOON"}),
        ("task.subscribe", {"taskId": "x"}),
        ("task.subscribe", {"taskId": "x", "callbackUrl": "https://x", "events": ["NEWS"]}),
    ],
)
async def test_wrong_parameters_of_tasks_are_named(wire: Wire, method: str, params: Any):
    assert (await wire.error(method, params))["code"] == -32602


async def test_webhooks_tell_of_a_task_and_are_signed(wire: Wire):
    async with receiving(500, 302) as receiver:
        made = await create(wire, "say: two words")
        params = {
            "taskId": made["taskId"],
            "callbackUrl": f"{receiver.url}/hook?x=1",
            "events": ["STATUS_CHANGE"],
        }
        found = await wire.result("task.subscribe", params, traceId="t")
        assert found["type"] == "subscription"
        subscription = found["subscription"]
        assert subscription["active"] is True
        await receiver.wait(6)
    heard = receiver.heard
    told = [json.loads(body) for _, body in heard]
    # The first was refused twice, and came again as it was; a redirect was not followed.
    assert heard[0][1] == heard[1][1] == heard[2][1]
    assert {headers["path"] for headers, _ in heard} == {"/hook"}
    assert [each["event"] for each in told[2:]] == [
        "TASK_CREATED",
        "TASK_STARTED",
        "NEW_MESSAGE",
        "TASK_COMPLETED",
    ]
    for (headers, body), each in zip(heard, told, strict=True):
        digest = hmac.new(subscription["secret"].encode(), body, hashlib.sha256).digest()
        expected = f"sha256={base64.b64encode(digest).decode()}"
        assert headers["x-arc-signature"] == expected
        assert headers["x-arc-event"] == each["event"]
        assert headers["user-agent"].endswith(subscription["subscriptionId"])
        assert each["method"] == "task.notification"
        assert each["taskId"] == made["taskId"]
        assert each["subscriptionId"] == subscription["subscriptionId"]
    deliveries = [headers["x-arc-delivery"] for headers, _ in heard]
    assert len(set(deliveries)) == 4
    assert deliveries[0] == deliveries[1] == deliveries[2]
    assert told[-1]["data"]["status"] == "COMPLETED"
    assert told[-2]["data"]["message"] == "two words"
    assert told[-2]["data"]["newMessage"]["agentId"] == "demo"


async def test_whoever_subscribes_late_is_told_all_the_same(wire: Wire):
    made = await create(wire, "fail: no ink")
    await wait(wire, made["taskId"], "FAILED")
    async with receiving() as receiver:
        params = {"taskId": made["taskId"], "callbackUrl": receiver.url}
        await wire.result("task.subscribe", params)
        await receiver.wait(1)
    assert [json.loads(body)["event"] for _, body in receiver.heard] == ["TASK_FAILED"]


async def test_a_receiver_that_is_gone_is_left_alone(wire: Wire, casa: Casa):
    made = await create(wire, "say: x")
    async with receiving(410) as receiver:
        params = {
            "taskId": made["taskId"],
            "callbackUrl": receiver.url,
            "events": ["STATUS_CHANGE"],
        }
        found = (await wire.result("task.subscribe", params))["subscription"]
        row = await ended(casa, found["subscriptionId"])
    assert row.ended_because == "HTTP 410"
    assert len(receiver.heard) == 1


async def ended(casa: Casa, subscription_id: str) -> Any:
    async with asyncio.timeout(60):
        while True:
            async with engine.as_member(casa.record.members, casa.who.member_id) as conn:
                row = await arc_subscriptions.find(conn, subscription_id=UUID(subscription_id))
            assert row is not None
            if not row.active:
                return row
            await asyncio.sleep(0.05)


async def test_a_receiver_that_never_answers_well_is_given_up(wire: Wire, casa: Casa):
    made = await create(wire, "say: x")
    async with receiving(*[500] * 20) as receiver:
        params = {"taskId": made["taskId"], "callbackUrl": receiver.url}
        found = (await wire.result("task.subscribe", params))["subscription"]
        row = await ended(casa, found["subscriptionId"])
    assert row.ended_because == "HTTP 500"
    assert len(receiver.heard) == 3


async def test_a_task_has_few_subscriptions(wire: Wire):
    made = await create(wire, "sleep: 600")
    params = {"taskId": made["taskId"], "callbackUrl": "https://example.com/"}
    for _ in range(10):
        await wire.result("task.subscribe", params)
    assert (await wire.error("task.subscribe", params))["code"] == -32602
    await wire.result("task.cancel", {"taskId": made["taskId"]})
