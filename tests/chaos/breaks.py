"""Guards that a round may take away, to see that the checker notices.

The scripts' text is changed inside the processes under test by a `sitecustomize` of the run's
own folder, the first thing a Python process imports; the product knows nothing of it.
"""

from pathlib import Path
from typing import Final

BREAKS: Final[dict[str, list[tuple[str, str, str]]]] = {
    "fence": [
        (
            "append",
            "if found[1] ~= ARGV[2] or",
            "if not found[1] or",
        ),
        ("finish", "if found[1] ~= fence or", "if not found[1] or"),
        ("renew", "if found[1] ~= ARGV[2] or", "if not found[1] or"),
    ],
    "effects": [("expire", "not found[10] or limits.repeatable", "true")],
    "key": [("accept", "if known then", "if false then")],
    "due": [("accept", "redis.call('ZADD', due, now + ARGV[6], due_member(lane))", "")],
}
"""Name → (script, a piece of its text that stands there once, what stands there instead)."""

_SITE: Final = '''\
"""Takes a guard away from the scripts of every process that is started with this folder."""

from dispatch.streams import scripts

_CHANGES = {changes!r}
_whole = scripts.source


def source(name, **named):
    text = _whole(name, **named)
    for script, piece, other in _CHANGES:
        if script == name:
            assert text.count(piece) == 1, "the change must find its place"
            text = text.replace(piece, other)
    return text


scripts.source = source
'''


def install(name: str, site: Path) -> None:
    """Write the module that breaks this guard into a folder of PYTHONPATH."""
    (site / "sitecustomize.py").write_text(_SITE.format(changes=BREAKS[name]))
