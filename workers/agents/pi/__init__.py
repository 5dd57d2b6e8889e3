"""The runner `pi`: the real pi coding agent, one process per turn, driven over its RPC.

    history ─▶ session file ─▶ pi ─▶ events ─▶ stream
                                └─ tools ─▶ bridge ─▶ hands.call_tool

pi holds nothing of its own: its session file is made anew from the thread's stream for each
turn and deleted after it, so any worker can take the next. It has none of its own tools; those
of the request are performed by the worker. Facts about pi's protocol and its versions stand
where they are met; they were observed with 0.73.1, 0.87.1 and 1.5.2.
"""
