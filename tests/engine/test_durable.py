import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deeplabx.engine import durable


@contextmanager
def no_more_than(size: int) -> Iterator[None]:
    """Let the system refuse to write a file beyond `size` bytes, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_holds_the_old_or_the_new(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    durable.replace(path, "old")
    assert path.read_text() == "old"
    with no_more_than(100), pytest.raises(OSError, match="File too large"):
        durable.replace(path, "new" * 100)
    assert path.read_text() == "old"
    durable.replace(path, "new")
    assert path.read_text() == "new"
    assert names(tmp_path) == {"a.json"}


def test_a_folder_arrives_when_it_is_whole(tmp_path: Path) -> None:
    final = tmp_path / "made" / "a"
    with durable.arriving(final, over=False) as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "file").write_text("x")
        assert not final.exists()
    assert (final / "deep" / "file").read_text() == "x"
    assert names(final.parent) == {"a"}


@pytest.mark.parametrize("over", [False, True])
def test_a_folder_that_fails_leaves_nothing_and_the_old_one(over: bool, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old").touch()
    with (
        no_more_than(100),
        pytest.raises(OSError, match="File too large"),
        durable.arriving(tmp_path / "a", over=over) as folder,
    ):
        (folder / "new").write_bytes(bytes(200))
    assert names(tmp_path) == {"a"}
    assert names(tmp_path / "a") == {"old"}


def test_only_an_empty_folder_gives_way_unless_over(tmp_path: Path) -> None:
    for name in ("empty", "full"):
        (tmp_path / name).mkdir()
    (tmp_path / "full" / "old").touch()
    with durable.arriving(tmp_path / "empty", over=False) as folder:
        (folder / "new").touch()
    assert names(tmp_path / "empty") == {"new"}
    with (
        pytest.raises(OSError, match="not empty"),
        durable.arriving(tmp_path / "full", over=False) as folder,
    ):
        (folder / "new").touch()
    assert names(tmp_path / "full") == {"old"}
    with durable.arriving(tmp_path / "full", over=True) as folder:
        (folder / "new").touch()
    assert names(tmp_path / "full") == {"new"}
    assert names(tmp_path) == {"empty", "full"}


def test_tidy_removes_what_killed_processes_left_of_some_names_or_of_all(tmp_path: Path) -> None:
    for name in (".tmp-a-1", ".tmp-b-1", "a"):
        (tmp_path / name).touch()
    durable.tidy(tmp_path, "a-*")
    assert names(tmp_path) == {".tmp-b-1", "a"}
    durable.tidy(tmp_path)
    assert names(tmp_path) == {"a"}
