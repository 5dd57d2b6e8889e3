"""A plain Python agent that asks the scripted model, step by step, as a user would write it."""

from dispatch.payloads.content import text_of
from dispatch.payloads.usage import TokenUsage
from tests.agents.model import MODEL, ModelBroke, Said
from workers.agents.python import Turn

ROLES = {"toolResult": "tool", "summary": "user"}


async def agent(turn: Turn):  # noqa: C901  # the whole of an agent, as a user writes it
    """Ask the model until it calls no tool any more."""
    for call in turn.open_calls:
        await turn.answer(call)
    while True:
        await turn.steering()
        history = await turn.hands.history()
        asked = [
            Said(ROLES.get(each.role, each.role), text_of(each.message)) for each in history
        ]
        reply = MODEL.next(asked, {tool.name for tool in turn.tools})
        for number, piece in enumerate(reply.pieces):
            yield piece
            if number == 0 and reply.hold:
                await reply.hold.wait()
        if reply.hold and not reply.pieces:
            await reply.hold.wait()
        if reply.error:
            raise ModelBroke(reply.error)
        turn.use(TokenUsage(input=7, output=3, total_tokens=10))
        if not reply.calls:
            return
        for call in reply.calls:
            await turn.call_tool(call.name, **call.arguments)
