from pathlib import Path

from tests.conftest import Deeplabx


def test_a_made_up_data_set_is_written_once(deeplabx: Deeplabx, tmp_path: Path) -> None:
    ended = deeplabx("data", "fake", "dataset=voc", "out=made up")
    assert (ended.code, ended.err) == (0, "")
    assert "next: deeplabx train dataset=voc dataset.root='made up' " in ended.out
    assert len(list((tmp_path / "made up").rglob("*.jpg"))) == 12  # 6 images in each of two splits
    assert deeplabx("data", "fake", "dataset=voc", "out=made up").code == 3
