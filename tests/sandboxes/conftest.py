"""Both isolations run one behaviour suite; bubblewrap's own promises have their own file."""

from pathlib import Path

import pytest

from workers.sandboxes import isolation
from workers.sandboxes.bubblewrap import Bubblewrap
from workers.sandboxes.launches import Bare, Isolation
from workers.sandboxes.local import LocalSandbox


@pytest.fixture(params=["bubblewrap", "bare"])
def apart(request: pytest.FixtureRequest) -> Isolation:
    if request.param == "bare":
        return Bare()
    return request.getfixturevalue("bubblewrap")


@pytest.fixture(scope="session")
def bubblewrap() -> Bubblewrap:
    found = isolation.choose()
    if not isinstance(found, Bubblewrap):
        pytest.skip("bubblewrap does not work on this machine")
    return found


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return tmp_path / "workspaces" / "thread"


@pytest.fixture
def sandbox(workspace: Path, apart: Isolation) -> LocalSandbox:
    return LocalSandbox(workspace, apart)
