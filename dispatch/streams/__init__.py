"""The durable stream store on Redis: scripts, typed calls of them, reading and following.

The only package that knows Redis's commands for streams.
"""
