"""Runs a LangGraph graph: config `graph` = "package.module:attribute".

That names a `StateGraph`, a compiled graph, or a function without arguments (async or not) that
makes one; its state must have `messages`. Its checkpoints live in our Postgres, schema
`langgraph`, one LangGraph thread per thread and agent; a checkpointer of its own is replaced.

A graph needs to know nothing of us. `worker_tools()` gives it the worker's own tools; use it in
a function that makes the graph, it is called for each turn.
"""

from workers.agents.langgraph.checkpoints import close, forget
from workers.agents.langgraph.runner import run
from workers.agents.langgraph.tools import recorded, worker_tools

__all__ = ["close", "forget", "recorded", "run", "worker_tools"]
