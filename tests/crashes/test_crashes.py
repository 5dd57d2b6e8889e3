"""Whatever process dies, at whatever step, the record comes to its right end; the net bites.

Here: a death after every step in every context, and a sample of the rest. The whole sweep is
`python -m tests.crashes`.
"""

import random
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from tests.crashes.campaign import Task, context, distinct, followers, overtaken, paused
from tests.crashes.conftest import Acting
from tests.crashes.mutants import MUTANTS
from tests.crashes.stories import STORIES
from tests.crashes.tally import told

NAMES = [story.name for story in STORIES]


def chance(story: str) -> random.Random:
    return random.Random(f"3 {story}")  # noqa: S311 - the same every time


def all_well(acting: Acting, tasks: Iterable[Task]) -> None:
    for task in tasks:
        result = acting(task)
        assert not result.violation, "\n".join(told(result))


@pytest.fixture(scope="module")
def known() -> set[tuple[str, ...]]:
    """Contexts in which somebody has died; stories begin alike."""
    return set()


@pytest.mark.parametrize("story", NAMES)
def test_a_death_at_any_step_loses_nothing_and_doubles_nothing(
    acting: Acting, known: set[tuple[str, ...]], story: str
) -> None:
    dry = acting(Task(story))
    deaths = distinct(dry)
    new = {context(dry, task): task for task in deaths if context(dry, task) not in known}
    known.update(new)
    all_well(acting, [Task(story), *new.values(), *chance(story).sample(deaths, 3)])


@pytest.mark.parametrize("story", NAMES)
def test_a_second_strike_while_the_first_is_repaired_changes_nothing(
    acting: Acting, story: str
) -> None:
    dry = acting(Task(story))
    first = chance(story).choice([*distinct(dry), *paused(dry)])
    later = followers(acting(first))
    all_well(acting, chance(story).sample(later, min(2, len(later))))


@pytest.mark.parametrize("story", NAMES)
def test_a_process_that_was_paused_and_wakes_late_does_no_harm(
    acting: Acting, story: str
) -> None:
    dry = acting(Task(story))
    all_well(acting, chance(story).sample([*paused(dry), *overtaken(dry)], 2))


@pytest.mark.parametrize("name", MUTANTS)
def test_the_sweep_catches_a_product_with_a_guard_removed(
    acting: Acting, breaking: Callable[[Any], None], name: str
) -> None:
    story, choose, broken = MUTANTS[name]
    tasks = choose(acting(Task(story)))
    chance(story).shuffle(tasks)
    breaking(broken)
    assert any(acting(task).violation for task in tasks), "nobody noticed"
