"""How far agents may wake each other."""

from typing import Any

import pytest

from dispatch.errors import Invalid
from dispatch.models import hops


def test_the_smallest_word_counts() -> None:
    assert hops.limit({}, {}, most=4) == 4
    assert hops.limit({"maxAgentHops": 9}, {"maxAgentHops": 2}, most=4) == 2
    assert hops.limit({"maxAgentHops": 0}, {}, most=4) == 0
    assert hops.limit({"maxAgentHops": "none"}, {"maxAgentHops": True}, most=4) == 4


@pytest.mark.parametrize("said", [-1, 101, 1.5, "2", True, None])
def test_what_is_no_limit_is_refused(said: Any) -> None:
    with pytest.raises(Invalid, match="maxAgentHops"):
        hops.check({"maxAgentHops": said})
    hops.check({})
