"""An agent of plain Python: an async generator. Nothing but the standard library.

    PYTHONPATH=. arbe up                  # workers must be able to import this file
    arbe agent create @plain --runner python \\
        --config '{"callable": "examples.python_agent:agent", "repeatable": true}'
    arbe post @plain "run: uname -a"

What it yields is streamed. `turn.text` is what was said, `turn.history` the whole conversation;
`turn.call_tool` runs a tool of the worker's, `turn.steering` hears what people say meanwhile.
`repeatable` says that it can go on after a crash: it answers the calls that were left open.
"""

from collections.abc import AsyncIterator

from workers.agents.python import Turn


async def agent(turn: Turn) -> AsyncIterator[str]:
    said = [each for each in turn.history if each.role in {"user", "assistant"}]
    if turn.history[-1].role == "user":
        if turn.text.startswith("run:"):
            command = turn.text.removeprefix("run:").strip()
            answer = await turn.call_tool("run_command", command=command)
            yield f"It says: {answer.text.strip()}"
            return
        yield "I have read "
        yield f"{len(said)} messages."
        return
    # An earlier attempt was killed in the middle: its calls are answered, then it goes on.
    for call in turn.open_calls:
        await turn.answer(call)
    results = [each for each in await turn.hands.history() if each.role == "toolResult"]
    yield f"It says: {results[-1].message['content'][0]['text'].strip()}"
