from importlib import metadata

import pytest

from dispatch.errors import Invalid
from workers.agents import demo, registry


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch):
    """Pretend that installed packages offer these entry points."""

    def pretend(*offers: tuple[str, str]) -> None:
        points = metadata.EntryPoints(
            metadata.EntryPoint(name, value, registry.ENTRY_POINT_GROUP)
            for name, value in offers
        )
        monkeypatch.setattr(metadata, "entry_points", points.select)

    return pretend


def test_the_demo_runner_is_built_in() -> None:
    assert registry.find("demo") is demo.run


def test_an_unknown_runner_is_refused_with_what_there_is(offer) -> None:
    offer(("mine", "workers.agents.demo:run"))

    with pytest.raises(Invalid) as refusal:
        registry.find("nobody")

    assert "'nobody'" in refusal.value.what
    assert "demo, langgraph, llamaindex, mine" in refusal.value.next_step


def test_an_installed_package_may_offer_a_runner(offer) -> None:
    offer(("mine", "workers.agents.demo:run"))

    assert registry.find("mine") is demo.run


def test_a_package_cannot_take_over_a_built_in_name(offer) -> None:
    offer(("demo", "os:abort"))

    assert registry.find("demo") is demo.run


def test_two_packages_with_one_name_are_refused(offer) -> None:
    offer(("mine", "workers.agents.demo:run"), ("mine", "os:abort"))

    with pytest.raises(Invalid, match="Several packages"):
        registry.find("mine")


@pytest.mark.parametrize(
    "value", ["no_such_module:run", "workers.agents.demo:no_such_name", "os:sep"]
)
def test_a_runner_that_cannot_be_loaded_says_what_to_do(offer, value: str) -> None:
    offer(("mine", value))

    with pytest.raises(Invalid) as refusal:
        registry.find("mine")

    assert value in refusal.value.what
    assert refusal.value.next_step
