"""Paths that later commands need again, from any folder, and data sets that moved."""

import contextlib
import shutil
from pathlib import Path

import pytest
import yaml

from deeplabx.command import train as train_command
from deeplabx.engine import checkpoint as checkpoints
from deeplabx.errors import DataError
from deeplabx.run.description import Description
from deeplabx.run.folder import newest_root
from deeplabx.run.paths import absolute, refuse_moved, with_absolute_paths
from tests.conftest import Deeplabx, compose_plain, exit_code
from tests.run.test_changed_data import SMALL, write_data


def test_each_path_that_exists_is_absolute(tmp_path: Path) -> None:
    for name in ("voc", "sbd", "weights.pth", "imagenet"):
        (tmp_path / name).mkdir()
    settings = ["dataset=voc", "dataset.root=voc", "dataset.sbd_root=voc/../sbd", "init_from=weights.pth"]
    with contextlib.chdir(tmp_path):
        config = with_absolute_paths(compose_plain(*settings, "backbone.weights=weights.pth"))
        named = with_absolute_paths(compose_plain("backbone.weights=imagenet", "init_from=made_up_name"))
    assert config.dataset.root == f"{tmp_path}/voc"
    assert vars(config.dataset)["sbd_root"] == f"{tmp_path}/sbd"
    assert config.init_from == config.backbone.weights == f"{tmp_path}/weights.pth"
    assert (named.backbone.weights, named.init_from) == ("imagenet", "made_up_name")
    assert named.dataset.root is None


def test_a_link_is_kept_and_what_is_above_its_target_is_not_confused(tmp_path: Path) -> None:
    (tmp_path / "disk" / "sets" / "one").mkdir(parents=True)
    (tmp_path / "disk" / "sets" / "two").mkdir()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "data").symlink_to(tmp_path / "disk" / "sets" / "one")
    with contextlib.chdir(tmp_path / "home"):
        assert absolute("data") == f"{tmp_path}/home/data"
        assert absolute("data/../two") == f"{tmp_path}/home/data/../two"  # not tmp_path/home/two


# --- from another folder ------------------------------------------------------------------------------------


@pytest.fixture
def run(deeplabx: Deeplabx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was started in tmp_path/here with dataset.root=own/data."""
    monkeypatch.setattr(train_command, "draw_curves", lambda folder: None)
    write_data(tmp_path / "here" / "own" / "data")
    (tmp_path / "there").mkdir()
    with contextlib.chdir(tmp_path / "here"):
        words = ["train", *SMALL, "dataset.root=own/data", "schedule.max_iters=1", "hydra.run.dir=run"]
        assert exit_code(*words) == 0
    return tmp_path / "here" / "run"


def test_eval_and_extend_find_the_data_from_any_folder(
    run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = str(tmp_path / "here" / "own" / "data")
    assert yaml.safe_load((run / "config.yaml").read_text())["dataset"]["root"] == root
    assert "dataset.root='own/data'" in yaml.safe_load((run / "overrides.yaml").read_text())
    found, _ = checkpoints.newest(run / "checkpoints")
    assert found is not None
    stored = Description.of(found)
    assert stored.config.dataset.root == root
    assert stored.data is not None
    assert stored.data.given_root == "own/data"
    with contextlib.chdir(tmp_path / "there"):
        assert exit_code("eval", f"ckpt={run}", "trainer.devices=cpu") == 0, capfd.readouterr().err
        assert exit_code("extend", str(run), "schedule.max_iters=2") == 0, capfd.readouterr().err
    found, _ = checkpoints.newest(run / "checkpoints")
    assert found is not None
    data = Description.of(found).data
    assert data is not None
    assert data.given_root == "own/data"


@pytest.mark.parametrize(
    ("parent", "content", "root"),
    [
        ("checkpoints", "dataset: {root: /moved}", "/moved"),
        ("checkpoints", "dataset: !include other.yaml", None),
        ("weights", "dataset: {root: /moved}", None),  # of an import, beside a project's own config.yaml
    ],
)
def test_the_newest_root_is_that_of_the_run(
    tmp_path: Path, parent: str, content: str, root: str | None
) -> None:
    (tmp_path / "config.yaml").write_text(content)
    assert newest_root(tmp_path / parent / "step-00000001") == root


def test_a_data_set_that_moved_is_asked_for(run: Path, tmp_path: Path, deeplabx: Deeplabx) -> None:
    root = tmp_path / "here" / "own" / "data"
    root.rename(tmp_path / "moved")
    (run / "DONE").unlink()
    missing = f"dataset.root={root}"
    where = f"does not exist; {root.parent} is empty: is its disk mounted?"
    ended = deeplabx("eval", f"ckpt={run}", "trainer.devices=cpu")
    assert ended.code == 3
    assert f"{missing} (given as own/data), stored in {run}/checkpoints/step-00000001, {where}" in ended.err
    assert "type deeplabx eval RUN dataset.root=PATH" in ended.err
    for words in (["resume", str(run)], ["extend", str(run), "schedule.max_iters=3"]):
        ended = deeplabx(*words)
        assert ended.code == 3
        assert f"{missing}, stored in {run}/config.yaml, {where}" in ended.err
        assert f"if it moved, type deeplabx {' '.join(words)} dataset.root=PATH" in ended.err
    given = "dataset.root=moved"
    assert deeplabx("eval", f"ckpt={run}", "trainer.devices=cpu", given).code == 0
    assert deeplabx("extend", str(run), "schedule.max_iters=3", given).code == 0
    assert yaml.safe_load((run / "config.yaml").read_text())["dataset"]["root"] == f"{tmp_path}/moved"
    ckpt = run / "checkpoints" / "step-00000003"
    assert deeplabx("eval", f"ckpt={ckpt}", "trainer.devices=cpu").code == 0
    ended = deeplabx("eval", f"ckpt={run / 'checkpoints' / 'step-00000001'}", "trainer.devices=cpu")
    assert f"type deeplabx eval RUN dataset.root={tmp_path}/moved" in ended.err


def test_what_is_wrong_with_a_folder_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = compose_plain("dataset=voc", f"dataset.root='{tmp_path}/root'", "dataset.sbd_root=/none").dataset
    source, command = "RUN", "deeplabx resume RUN"

    def refused() -> str:
        with pytest.raises(DataError) as error:
            refuse_moved(stored, stored=stored, source=source, command=command)
        return error.value.message

    assert refused().endswith(f"does not exist; {tmp_path} is empty: is its disk mounted?")
    (tmp_path / "root").mkdir()
    assert refused() == f"dataset.root={tmp_path}/root, stored in RUN, is empty: is its disk mounted?"
    (tmp_path / "root" / "VOCdevkit").mkdir()
    assert refused() == "dataset.sbd_root=/none, stored in RUN, does not exist; / is there"

    def stale(path: Path) -> bool:
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr(Path, "is_dir", stale)
    assert refused() == f"dataset.root={tmp_path}/root, stored in RUN, cannot be read: Stale file handle"


def test_a_path_that_is_given_now_is_not_looked_for_as_a_stored_one(tmp_path: Path) -> None:
    stored = compose_plain("dataset=voc", f"dataset.root='{tmp_path}/root'").dataset
    for settings in (["dataset=voc", "dataset.root=other"], ["dataset=shapes"]):
        refuse_moved(compose_plain(*settings).dataset, stored=stored, source="RUN", command="")
    shutil.copytree(write_data(tmp_path / "data"), tmp_path / "root")
    refuse_moved(stored, stored=stored, source="RUN", command="")
