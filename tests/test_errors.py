import errno
import tempfile

import pytest

from deeplabx.errors import ResourceError, printable, quoted, resource_error


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "file"),
        PermissionError(errno.EACCES, "Permission denied", "file"),
        OSError(errno.ENAMETOOLONG, "File name too long", "file"),
        RuntimeError("SafetensorError: I/O error: No space left on device (os error 28)"),
        MemoryError("out"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_a_lack_of_memory_or_disk_is_recognized_under_its_names(error: Exception) -> None:
    assert isinstance(resource_error(error), ResourceError)


def test_another_error_is_not() -> None:
    assert resource_error(ValueError("no")) is None


def test_a_quoted_value_is_short_however_large_its_repr_would_be() -> None:
    value: list[object] = ["x"] * 9
    for _ in range(30):
        value = [value] * 9
    assert len(quoted(value)) < 500
    assert quoted("x" * 10**6).startswith("'xxx")
    assert len(quoted("x" * 10**6)) < 200
    assert quoted(7) == "7"


def test_a_printable_line_is_one_line_without_control_characters() -> None:
    assert printable("größe 写真") == "größe 写真"
    assert printable("a\nb\x1b[31m\u202e") == "a\\nb\\x1b[31m\\u202e"
    assert printable("x" * 11, 10) == "xxxxxx ..."


@pytest.mark.parametrize(
    ("number", "words"),
    [(27, "File too large"), (28, "No space left on device"), (122, "Disk quota exceeded")],
)
def test_what_safetensors_says_of_a_disk_is_understood(number: int, words: str) -> None:
    error = resource_error(RuntimeError(f"Error while serializing: I/O error: {words} (os error {number})"))
    assert error is not None
    assert error.exit_code == 6
    assert words in error.message


def test_no_temporary_folder_is_named_with_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/nowhere"])
    monkeypatch.setattr(tempfile, "tempdir", None)
    with pytest.raises(FileNotFoundError) as raised:
        tempfile.gettempdir()
    found = resource_error(raised.value)
    assert found is not None
    assert found.message.endswith("No usable temporary directory found in ['/nowhere']")
    assert "TMPDIR=FOLDER" in found.hint
