"""The stories: straight ways through the product, acted with every death in every place."""

from typing import Final

from tests.crashes.stories import (
    archiving,
    asking,
    busy,
    delegating,
    endings,
    forgetting,
    lifecycle,
    people,
    permitting,
    turns,
)
from tests.crashes.stories.story import Story

STORIES: Final[tuple[Story, ...]] = (
    *turns.STORIES,
    *busy.STORIES,
    *asking.STORIES,
    *permitting.STORIES,
    *delegating.STORIES,
    *endings.STORIES,
    *people.STORIES,
    *forgetting.STORIES,
    *lifecycle.STORIES,
    *archiving.STORIES,
)
