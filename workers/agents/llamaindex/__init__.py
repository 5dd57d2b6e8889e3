"""Runs a LlamaIndex agent: config `agent` = "package.module:attribute".

That names a `FunctionAgent`, another workflow agent, an `AgentWorkflow` of several, or a
function without arguments (async or not) that makes one. Its memory is made anew for each turn
from the thread's history, within its model's context window (`ChatMemoryBuffer`).
"""

from workers.agents.llamaindex.runner import run

__all__ = ["run"]
