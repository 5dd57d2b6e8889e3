"""Periodic passes that repair: safe twice at once, safe when killed, bounded in batches.

A sweep returns counts of what it did; its decisions are made by scripts and pure functions.
"""

from collections import Counter
from typing import TypeAlias

Counts: TypeAlias = Counter[str]
