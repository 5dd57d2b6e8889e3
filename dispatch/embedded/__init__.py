"""Private servers and their supervisor, for `arbe up` and for the tests.

Nothing here is needed where Postgres and Redis are given by URL, and nothing outside this
package knows whether the servers it talks to are private ones.
"""
