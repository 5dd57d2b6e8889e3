"""The front door without an API: usage, credentials, errors and their exit codes."""

import json
from pathlib import Path

import pytest

from dispatch.cli import credentials
from dispatch.cli.__main__ import run
from dispatch.cli.credentials import Credentials
from dispatch.config import Settings
from dispatch.errors import Invalid

NOBODY = "http://127.0.0.1:9"
"""The discard port: nothing listens there."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder with nothing configured."""
    monkeypatch.chdir(tmp_path)
    for name in ("ARBE_URL", "ARBE_TOKEN", "ARBE_OPERATOR_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.parametrize(
    "line",
    ["", "nonsense", "thread", "thread frobnicate", "thread show", "thread list --limit 0",
     "thread entries create @demo", "thread update 0198 --json"],
)  # fmt: skip
def test_wrong_usage_ends_with_64_and_says_it_on_stderr(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(line.split()) == 64
    assert "Usage" in "".join(capsys.readouterr())


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("arbe ")


@pytest.mark.parametrize(
    "line",
    [
        *("thread", "thread entries", "thread agents", "agent", "house", "member", "token"),
        *("environment", "permission", "db"),
    ],
)
def test_every_verb_has_help_with_an_example_and_json(
    line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert run([*line.split(), "--help"]) == 0
    listed = capsys.readouterr().out.partition("Commands")[2]
    verbs = [row.split()[1] for row in listed.splitlines() if row.startswith("│ ")]
    assert verbs
    for verb in verbs:
        if f"{line} {verb}" in {"thread entries", "thread agents"}:
            continue
        assert run([*line.split(), verb, "--help"]) == 0
        text = capsys.readouterr().out
        assert "--json" in text, verb
        assert f"arbe {line} {verb}" in text.partition("Examples:")[2], verb


def test_without_any_token_the_error_says_where_one_may_come_from(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["thread", "list"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "ARBE_TOKEN" in err
    assert "arbe up" in err


def test_an_api_that_is_not_there_is_an_error_with_a_next_step(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARBE_TOKEN", "arbe_member_x")
    assert run(["thread", "list", "--url", NOBODY]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert NOBODY in err.replace("\n", "")
    assert "arbe up" in err
    assert "Traceback" not in err


def test_with_json_an_error_is_one_object_on_stderr(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARBE_TOKEN", "arbe_member_x")
    assert run(["thread", "show", "0198", "--url", NOBODY, "--json"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert json.loads(err)["code"] == "unavailable"


@pytest.mark.parametrize("url", ["nonsense", "ftp://x", "http://", "http://[::1"])
def test_an_address_that_is_none_is_refused(
    url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARBE_TOKEN", "arbe_member_x")
    assert run(["thread", "list", "--url", url]) == 1
    assert "is not the address of an API" in capsys.readouterr().err.replace("\n", " ")


def test_a_token_that_is_none_is_refused_and_never_shown(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token_file = folder / "token"
    token_file.write_text("two words of secret\n", encoding="utf-8")
    assert run(["thread", "list", "--token-file", str(token_file)]) == 1
    err = capsys.readouterr().err
    assert "token" in err
    assert "secret" not in err


@pytest.mark.parametrize("content", ["", "\n", None])
def test_a_token_file_without_a_token_is_an_error(
    content: str | None, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token_file = folder / "token"
    if content is not None:
        token_file.write_text(content, encoding="utf-8")
    assert run(["thread", "list", "--token-file", str(token_file)]) == 1
    assert "token file" in capsys.readouterr().err


def test_a_bad_setting_of_the_environment_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARBE_API_PORT", "many")
    assert run(["thread", "list"]) == 1
    assert "ARBE_API_PORT" in capsys.readouterr().err


def test_a_migration_without_a_database_says_what_to_set(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    assert run(["db", "upgrade"]) == 1
    assert "DATABASE_URL" in capsys.readouterr().err


def store(folder: Path) -> None:
    (folder / ".arbe").mkdir()
    (folder / credentials.FILE).write_text(
        json.dumps({"url": "http://here:1", "token": "stored", "house_id": "h"}),
        encoding="utf-8",
    )


def found(url: str | None = None, token_file: Path | None = None) -> Credentials:
    return credentials.find(Settings(), url=url, token_file=token_file)


def test_credentials_of_arbe_up_are_used_where_nothing_else_is_said(folder: Path) -> None:
    assert found() == Credentials("http://127.0.0.1:8700", "")
    store(folder)
    assert found() == Credentials("http://here:1", "stored")
    assert found(url="http://here:1/") == Credentials("http://here:1", "stored")


def test_a_token_is_never_sent_to_an_address_of_another_source(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(folder)
    assert found(url="http://elsewhere").token == ""
    monkeypatch.setenv("ARBE_TOKEN", "mine")
    assert found() == Credentials("http://127.0.0.1:8700", "mine")
    monkeypatch.setenv("ARBE_URL", "http://there:2")
    assert found() == Credentials("http://there:2", "mine")


def test_credentials_that_cannot_be_read_are_an_error_not_a_guess(folder: Path) -> None:
    store(folder)
    (folder / credentials.FILE).write_text("{}", encoding="utf-8")
    with pytest.raises(Invalid, match="credentials"):
        found()
