from pathlib import Path

import pytest

from deeplabx.dataset.inputs import given_by, refuse_absent
from deeplabx.errors import DataError


def touched(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def names(source: str | Path, folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in given_by(source).found.paths]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("in/*.jpg", ["in/a.jpg", "in/b.jpg"]),
        ("in/[ab].*", ["in/a.jpg", "in/b.jpg"]),
        ("in/**/*.png", ["in/deep/er/d.png", "in/deep/e.png"]),
        ("in/**", ["in/a.jpg", "in/b.jpg", "in/clip.MP4", "in/deep/e.png", "in/deep/er/d.png"]),
        ("*/de?p", ["in/deep/e.png", "in/deep/er/d.png"]),
    ],
)
def test_a_pattern_is_what_it_matches(tmp_path: Path, pattern: str, expected: list[str]) -> None:
    touched(tmp_path, "in/a.jpg", "in/b.jpg", "in/.c.jpg", "in/notes.txt", "in/clip.MP4")
    touched(tmp_path, "in/deep/e.png", "in/deep/er/d.png")
    assert sorted(names(tmp_path / pattern, tmp_path)) == sorted(expected)


def test_outputs_lie_relative_to_the_part_of_a_pattern_without_wildcards(tmp_path: Path) -> None:
    touched(tmp_path, "photos/x/a.jpg", "photos/y/a.jpg")
    base, found = given_by(tmp_path / "photos/*/a.jpg")
    assert (base, len(found.paths)) == (tmp_path / "photos", 2)


def test_what_a_pattern_matches_beside_images_is_counted(tmp_path: Path) -> None:
    touched(tmp_path, "a.jpg", "notes.txt", "more.txt")
    _, found = given_by(tmp_path / "*")
    assert found.left_out == [f"left out of {tmp_path / '*'}: 2 files that are neither images nor videos"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    touched(tmp_path, "a[1].jpg", "a1.jpg")
    assert names(tmp_path / "a[1].jpg", tmp_path) == ["a[1].jpg"]


def test_a_pattern_does_not_match_the_output_folder(tmp_path: Path) -> None:
    touched(tmp_path, "a.png", "out/a.png")
    _, found = given_by(tmp_path / "**" / "*.png", besides=tmp_path / "out")
    assert found.paths == [tmp_path / "a.png"]
    assert found.left_out == [f"skipped {tmp_path / 'out'}: the output folder"]


@pytest.mark.parametrize(
    ("pattern", "words"),
    [("*.jpg", r"matches no file"), ("*.txt", "matches no image or video, but 1 other"), ("x.jpg", "exist")],
)
def test_a_pattern_or_path_without_images_is_an_error(tmp_path: Path, pattern: str, words: str) -> None:
    touched(tmp_path, "notes.txt")
    with pytest.raises(DataError, match=words):
        given_by(tmp_path / pattern)


def test_a_list_names_files_and_folders_relative_to_its_own_folder(tmp_path: Path) -> None:
    touched(tmp_path, "sub/a.jpg", "sub/deep/b.png", "c.mp4")
    (tmp_path / "list.txt").write_text("sub/deep\nc.mp4\n\nsub/a.jpg\r\n", encoding="utf-8")
    assert names(tmp_path / "list.txt", tmp_path) == ["sub/deep/b.png", "c.mp4", "sub/a.jpg"]
    assert given_by(tmp_path / "list.txt").base == tmp_path


def test_a_list_may_lead_out_of_its_folder_but_its_outputs_do_not(tmp_path: Path) -> None:
    touched(tmp_path, "lists/in.jpg", "elsewhere/a.jpg", "elsewhere/b/a.jpg")
    lines = ["../elsewhere/a.jpg", str(tmp_path / "elsewhere/b/a.jpg")]
    (tmp_path / "lists/list.txt").write_text("\n".join(lines), encoding="utf-8")
    base, found = given_by(tmp_path / "lists/list.txt")
    inside = [path.relative_to(base).as_posix() for path in found.paths]
    assert (base, inside) == (tmp_path / "elsewhere", ["a.jpg", "b/a.jpg"])


def test_all_missing_entries_of_a_list_are_named_at_once(tmp_path: Path) -> None:
    touched(tmp_path, "a.jpg")
    (tmp_path / "list.txt").write_text("x.jpg\na.jpg\ny.jpg", encoding="utf-8")
    with pytest.raises(DataError, match=r"2 of 3 listed paths do not exist: x\.jpg, y\.jpg"):
        refuse_absent(tmp_path / "list.txt")


def test_a_list_of_folders_without_images_is_an_error(tmp_path: Path) -> None:
    touched(tmp_path, "sub/notes.md")
    (tmp_path / "list.txt").write_text("sub", encoding="utf-8")
    with pytest.raises(DataError, match=r"list\.txt: its folders hold no images .*1 \.md"):
        given_by(tmp_path / "list.txt")


def test_an_empty_list_is_an_error(tmp_path: Path) -> None:
    touched(tmp_path, "list.txt")
    with pytest.raises(DataError, match="lists no names"):
        refuse_absent(tmp_path / "list.txt")
