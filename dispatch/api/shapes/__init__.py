"""What goes over the wire, one module per noun: bodies (strict, nothing unknown) and answers.

Names are camelCase, ids are strings, times are integer Unix milliseconds, absent means unset.
"""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from dispatch import clock
from dispatch.models.threads import ThreadStatus

Milliseconds = Annotated[int, Field(description="Unix milliseconds.")]


IfStatus = Annotated[
    list[ThreadStatus],
    Field(description="Only while the thread has one of these statuses, else 409."),
]


class Body(BaseModel):
    """What a client sends."""

    model_config = ConfigDict(
        alias_generator=to_camel, validate_by_name=False, extra="forbid", strict=True
    )


class Answer(BaseModel):
    """What a client gets."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True)


def example(**fields: Any) -> ConfigDict:
    """Return the model settings that show one example in OpenAPI."""
    return ConfigDict(json_schema_extra={"examples": [fields]})


def milliseconds(moment: datetime | None) -> int | None:
    """Return a moment as the wire carries it, or None."""
    return None if moment is None else clock.milliseconds(moment)
