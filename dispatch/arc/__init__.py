"""The ARC protocol as this server speaks it: envelopes, errors, methods, events.

Dialect: arc-sdk 1.3.1's (methods `chat.*` and `task.*`). HTTP is `api/routes/arc`'s business;
what a method does is an operation's.
"""
