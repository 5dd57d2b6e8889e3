"""Every word of a diagnosis is explained in docs/diagnose.md."""

import re
from pathlib import Path
from typing import get_args

from dispatch.models import diagnosis
from dispatch.models.diagnosis import Stage, fleet

PAGE = (Path(__file__).parents[2] / "docs" / "diagnose.md").read_text()
SOURCES = [
    path.read_text() for path in Path(diagnosis.__path__[0]).glob("*.py") if path.is_file()
]
CODE = re.compile(r'(?:code=|_finding\(\s*)"(\w+)"')


def test_every_stage_and_verdict_is_explained() -> None:
    for word in (*get_args(Stage), *get_args(fleet.Word)):
        assert f"`{word}`" in PAGE, word


def test_every_finding_is_explained() -> None:
    codes = {code for source in SOURCES for code in CODE.findall(source)}
    assert len(codes) > 15
    for code in codes:
        assert f"`{code}`" in PAGE, code
