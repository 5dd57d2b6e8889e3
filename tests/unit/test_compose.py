"""There may be no Docker engine here: what compose.yaml promises is read from its text."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from dispatch.config import Settings
from workers import leaving

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "compose.yaml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, Any] = COMPOSE["services"]
STAYING = [name for name, service in SERVICES.items() if service["restart"] != "no"]
CONDITIONS = {"service_healthy", "service_completed_successfully", "service_started"}
KNOWN = {
    "build", "command", "depends_on", "environment", "healthcheck", "hostname", "image", "init",
    "ports", "profiles", "restart", "stop_grace_period", "volumes",
}  # fmt: skip


def test_every_key_is_one_that_compose_knows():
    assert {key for service in SERVICES.values() for key in service} <= KNOWN


@pytest.mark.parametrize("name", STAYING)
def test_every_service_that_stays_has_a_health_check(name: str):
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] in {"CMD", "CMD-SHELL"}
    assert {"interval", "timeout", "retries"} <= check.keys()


@pytest.mark.parametrize("name", SERVICES)
def test_whoever_is_waited_for_exists_and_can_satisfy_it(name: str):
    for other, how in SERVICES[name].get("depends_on", {}).items():
        assert how["condition"] in CONDITIONS
        assert (how["condition"] == "service_healthy") == ("healthcheck" in SERVICES[other])


@pytest.mark.parametrize("name", SERVICES)
def test_every_volume_is_declared(name: str):
    for volume in SERVICES[name].get("volumes", []):
        assert volume.partition(":")[0] in COMPOSE["volumes"]


def test_every_password_can_be_set_and_ports_are_bound_to_the_loopback():
    for name in re.findall(r"^ +(\w*(?:PASSWORD|PASS|TOKEN|_URL)):(.*)$", TEXT, re.MULTILINE):
        assert "${" in name[1], name[0]
    for service in SERVICES.values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_a_worker_that_ends_by_itself_is_started_again_and_has_the_time_to_end():
    worker = SERVICES["worker"]
    assert worker["restart"] in {"always", "unless-stopped", "on-failure"}
    grace_seconds = float(worker["stop_grace_period"].removesuffix("s"))
    assert grace_seconds > Settings().drain_seconds + leaving.LEAVE_SECONDS


def test_the_redis_of_compose_keeps_what_the_private_one_keeps():
    command = SERVICES["redis"]["command"][-1]
    for option in (
        "--appendonly yes",
        "--appendfsync always",
        "--maxmemory-policy noeviction",
        "--stream-node-max-bytes 1024",
    ):
        assert option in command
    assert "PASSWORD" not in command.partition("<<")[0]
