from pathlib import Path

import pytest

from deeplabx.engine import durable


def test_a_file_holds_the_old_or_the_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    durable.replace(path, "old")
    assert path.read_text() == "old"

    def full_disk(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable, "sync", full_disk)
    with pytest.raises(OSError, match="No space"):
        durable.replace(path, "new")
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["a.json"]
