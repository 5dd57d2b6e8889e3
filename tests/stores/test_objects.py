"""Objects by any fsspec URL; those on a disk last."""

from pathlib import Path

import pytest

from dispatch.errors import Invalid, Unavailable
from dispatch.stores import objects


@pytest.fixture(params=["file", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"file://{tmp_path}/a" if request.param == "file" else f"memory://{tmp_path}/a"


async def test_what_was_put_is_found_listed_and_removed(url: str) -> None:
    place = await objects.put(url, "00/thread/one", b"\0one")
    await objects.put(url, "00/thread/two", b"two")
    assert await objects.get(place) == b"\0one"
    assert set(await objects.list_names(url, "00")) == {"thread"}
    assert set(await objects.list_names(url, "00/thread")) == {"one", "two"}
    await objects.delete(place)
    await objects.delete(place)
    assert await objects.get(place) is None
    await objects.delete_folder(url, "00/thread")
    await objects.delete_folder(url, "00/thread")
    assert not await objects.list_names(url, "00/thread")
    assert not await objects.list_names(url, "ff")


async def test_a_store_that_is_not_there_is_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"arbe-dispatch\[archive\]"):
        await objects.put("nonsense://x", "a", b"")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Unavailable, match="ARBE_ARCHIVE_URL"):
        await objects.put(f"file://{tmp_path}/file", "a/b", b"")
