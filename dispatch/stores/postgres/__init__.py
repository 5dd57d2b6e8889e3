"""The record's rows in Postgres: one module per noun, one function per statement.

Every function takes an open connection from one of the doors in `engine`, so that it runs
inside one transaction with an identity; row level security is the last word on who sees what.
"""
