"""The campaign: a system of real processes, hurt on purpose, then asked for every promise.

`python -m tests.chaos --help` runs it (`make chaos`). The plan of what is done when and to whom
is a function of the seed alone; what the machine makes of it is not, so the same seed tries the
same blows again, not the same interleaving.
"""
