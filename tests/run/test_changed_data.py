"""What changes in a data set between a stop and `resume` or `extend`."""

import json
import os
import shutil
import signal
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from deeplabx.command import train as train_command
from deeplabx.command.extend import extend
from deeplabx.command.resume import resume
from deeplabx.engine import checkpoint as checkpoints
from deeplabx.errors import CheckpointError, DataError, DeeplabxError, StoppedError
from deeplabx.process.signals import StopRequest
from deeplabx.run.build import dataset_of, open_dataset
from deeplabx.run.changed_data import (
    evaluation_warnings,
    found_data,
    names_before,
    recorded,
    refuse_other_copy,
)
from deeplabx.run.description import Description
from tests.conftest import Root, compose_plain, times

SMALL = [
    "dataset=folder",
    "backbone=mobilenetv3_small",
    "model=lraspp",
    "augment.crop_size=65",
    "trainer.batch_size=2",
    "trainer.workers=0",
    "trainer.devices=cpu",
    "trainer.precision=fp32",
    "trainer.samples=0",
    "trainer.eval_every=4",
    "schedule.max_iters=4",
]
CLASSES = "classes: [background, object]\n"
Change = Callable[[Path], Any]


def add(root: Path, name: str, *, seed: int = 0) -> None:
    """An image and its mask, each named `name` below images/ and masks/."""
    ids = np.zeros((70, 80), np.uint8)
    ids[10:40, 10 + seed : 50] = 1
    pixels = np.random.default_rng(seed).integers(0, 256, (70, 80, 3), dtype=np.uint8)
    for kind, array in (("images", pixels), ("masks", ids)):
        path = root / kind / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path)


def remove(root: Path, name: str) -> None:
    for kind in ("images", "masks"):
        (root / kind / name).unlink()


def rename(root: Path, name: str, new: str) -> None:
    for kind in ("images", "masks"):
        (root / kind / new).parent.mkdir(parents=True, exist_ok=True)
        (root / kind / name).rename(root / kind / new)


def classes(text: str) -> Change:
    return lambda root: (root / "classes.yaml").write_text(text)


def write_data(root: Path, *, lists: bool = False) -> Path:
    for split, count in (("train", 5), ("val", 2)):
        for number in range(count):
            add(root, f"{split}{number}.png" if lists else f"{split}/{split}{number}.png", seed=number)
        if lists:
            (root / f"{split}.txt").write_text("".join(f"{split}{number}\n" for number in range(count)))
    (root / "classes.yaml").write_text(CLASSES)
    return root


def stopped_run(run: Path, root: Path) -> Path:
    """A run that is stopped, and saved, after its first step of four."""
    run.mkdir()
    stop = StopRequest()
    stop.number = signal.SIGINT
    config = compose_plain(*SMALL, f"dataset.root='{root}'")
    with pytest.raises(StoppedError):
        train_command.run(config, run, [], stop)
    return run


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data sets and a stopped run of each; of `listed`, with train.txt and val.txt."""
    place = tmp_path_factory.mktemp("stopped")
    for name, lists in (("plain", False), ("listed", True)):
        stopped_run(place / f"{name}_run", write_data(place / name, lists=lists))
    return place


@pytest.fixture
def place(both: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, which one test may change."""
    monkeypatch.setattr(train_command, "draw_curves", lambda folder: None)
    return shutil.copytree(both, tmp_path / "place")


def onto(root: Path, **settings: Any) -> Callable[[Any], Any]:
    """The change of a run's config: the data set is at `root`."""
    return lambda config: replace(config, dataset=replace(config.dataset, root=str(root)), **settings)


def record_of(run: Path) -> Description:
    found, _ = checkpoints.newest(run / "checkpoints")
    assert found is not None
    return Description.of(found)


def move_all(root: Path) -> None:
    for number in range(5):
        rename(root, f"train/train{number}.png", f"train/inside/train{number}.png")


IMAGES = "the training images changed since step 1 was saved: "
REFUSED: dict[str, tuple[Change, str]] = {
    "an image is added": (
        lambda root: add(root, "train/a_first.png"),
        rf"^{IMAGES}5 then, 6 now; 1 added \(images/train/a_first.png\)\n.*accept_changed_images=true",
    ),
    "an image is removed": (
        lambda root: remove(root, "train/train0.png"),
        rf"{IMAGES}5 then, 4 now; 1 removed \(images/train/train0.png\)",
    ),
    "an image is renamed": (
        lambda root: rename(root, "train/train1.png", "train/other.png"),
        rf"{IMAGES}5 then, 5 now; 1 added \(images/train/other.png\), 1 removed \(images/train/train1.png\)",
    ),
    "all are moved into a sub-folder": (
        move_all,
        rf"{IMAGES}5 then, 5 now; 5 added \(images/train/inside/train0.png, .*2 more\), 5 removed \(",
    ),
    "the classes are swapped": (
        classes("classes: [object, background]\n"),
        r"^the classes changed since step 1 was saved: class 0 was background, now object; class 1 was "
        r"object, now background\n.*init_from=RUN",
    ),
    "a class is renamed": (classes("classes: [background, thing]\n"), r"class 1 was object, now thing"),
    "a class is appended": (
        classes("classes: [background, object, third]\n"),
        r"the classes changed .*: 2 then, 3 now; class 2 was none, now third",
    ),
    "label_map swaps the values": (
        classes(f"{CLASSES}label_map: {{1: background, 0: object}}\n"),
        r"what the values in label files mean changed since step 1 was saved: background was 0, now 1; "
        r"object was 1, now 0\nrestore label_map and ignore",
    ),
    "a value is ignored": (classes(f"{CLASSES}ignore: [7, 8, 255]\n"), r": ignore was no value, now 7-8 255"),
    "colours are meant": (
        classes("classes: [background, object]\nlabel_map: {'#000000': background, '#010101': object}\n"),
        r"background was 0, now #000000; object was 1, now #010101",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_the_weights_depend_on_may_not_change(kind: str, place: Path) -> None:
    change, said = REFUSED[kind]
    change(place / "plain")
    run = place / "plain_run"
    before = times(run)
    for call in (
        lambda: resume(run, change=onto(place / "plain")),
        lambda: extend(run, max_iters=6, change=onto(place / "plain")),
        lambda: train_again(run, place / "plain"),
    ):
        with pytest.raises(DataError, match=said):
            call()
    assert times(run) == before


def train_again(run: Path, root: Path) -> float:
    """`deeplabx train ... resume=true`."""
    config = compose_plain(*SMALL, f"dataset.root='{root}'", "resume=true")
    return train_command.train(config, run, overrides=[])


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda lines: lines[:-1], r"5 then, 4 now; 1 removed \(images/train4.png\)"),
        (lambda lines: [*lines, "val0"], r"5 then, 6 now; 1 added \(images/val0.png\)"),
        (lambda lines: lines[::-1], r"the same 5 in another order, from images/train4.png on"),
    ],
)
def test_an_edited_list_is_another_list_of_images(
    place: Path, edit: Callable[[list[str]], list[str]], said: str
) -> None:
    path = place / "listed" / "train.txt"
    path.write_text("\n".join(edit(path.read_text().split())))
    with pytest.raises(DataError, match=IMAGES + said):
        resume(place / "listed_run", change=onto(place / "listed"))


def test_without_the_list_of_names_the_numbers_are_said(place: Path) -> None:
    shutil.rmtree(place / "plain_run" / "data")
    remove(place / "plain", "train/train0.png")
    with pytest.raises(DataError, match=rf"{IMAGES}5 then, 4 now, of names that are not known"):
        resume(place / "plain_run", change=onto(place / "plain"))


def test_a_forged_list_of_names_is_not_believed(place: Path) -> None:
    images = record_of(place / "plain_run").data.training  # type: ignore[union-attr]
    assert names_before(place / "plain_run", images) == [f"images/train/train{n}.png" for n in range(5)]
    for text in ("[1, 2]", "{", "[" * 100_000, '["images/train/train0.png"]', '["\\ud800"]'):
        for path in (place / "plain_run" / "data").iterdir():
            path.write_text(text)
        assert names_before(place / "plain_run", images) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"data": "text"},
        {"data": {}},
        {"given_root": 7},
        {"training": {"split": "train", "number": 5, "sha256": "../../x"}},
        {"training": [1, 2]},
        {"raw_values": {"of_classes": [7], "ignored": ""}},
        {"accepted": [["a"]]},
    ],
)
def test_a_record_that_no_run_writes_is_a_checkpoint_error(both: Path, changes: dict[str, Any]) -> None:
    found, _ = checkpoints.newest(both / "plain_run" / "checkpoints")
    assert found is not None
    plain = found.description
    plain["data"] = changes["data"] if "data" in changes else {**plain["data"], **changes}
    with pytest.raises(CheckpointError, match=r"config.json is not one of this version"):
        Description.from_plain(plain, source=found.path)


# --- no change ----------------------------------------------------------------------------------------------


def test_a_data_set_elsewhere_is_the_same(place: Path) -> None:
    moved = (place / "plain").rename(place / "über there")
    (moved / "images" / "train" / ".train0.png.swp").write_bytes(b"")
    (moved / "images" / "train" / "notes.txt").write_text("hidden files and other kinds are no images")
    resume(place / "plain_run", change=onto(moved))
    assert (place / "plain_run" / "DONE").is_file()
    data = record_of(place / "plain_run").data
    assert data is not None
    assert data.given_root == str(moved)
    assert "changed" not in (place / "plain_run" / "train.log").read_text()


@pytest.mark.parametrize(
    "text",
    [
        "# the same\nclasses:\n- background\n- object\n",
        "classes: {background: [0, 0, 0], object: [9, 9, 9]}\n",  # a palette, for masks of ids
        f"{CLASSES}label_map: {{1: object, 0: background}}\n",
    ],
)
def test_the_same_table_in_other_words(place: Path, text: str) -> None:
    classes(text)(place / "plain")
    now = found_data(*splits(place / "plain"), root=str(place / "plain"))
    found, _ = checkpoints.newest(place / "plain_run" / "checkpoints")
    assert recorded(now, found, place / "plain_run", accept=False)[1] == []


def test_the_same_list_with_other_line_ends_and_suffixes(place: Path) -> None:
    names = "".join(f"train{number}.png\r\n" for number in range(5))
    (place / "listed" / "train.txt").write_bytes(b"\xef\xbb\xbf" + names.encode())
    now = found_data(*splits(place / "listed"), root=str(place / "listed"))
    found, _ = checkpoints.newest(place / "listed_run" / "checkpoints")
    assert recorded(now, found, place / "listed_run", accept=False)[1] == []


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_file_system_that_decomposes_accents_changes_no_name(tmp_path: Path, form: Any) -> None:
    root = write_data(tmp_path / "data")
    rename(root, "train/train3.png", unicodedata.normalize(form, "train/train3é.png"))
    found = found_data(*splits(root), root=str(root))
    expected = [f"images/train/{name}.png" for name in ("train0", "train1", "train2", "train3é", "train4")]
    expected = [unicodedata.normalize("NFC", name) for name in expected]
    assert found.training_names == expected
    digest = sha256("\0".join(expected).encode()).hexdigest()
    assert found.record.training == ("train", 5, digest)


def splits(root: Path) -> tuple[Any, Any]:
    return tuple(open_dataset("folder", root=str(root), split=split) for split in ("train", "val"))  # type: ignore[return-value]


def test_a_name_that_is_not_utf8_is_recorded_by_its_bytes(tmp_path: Path) -> None:
    root = write_data(tmp_path / "data")
    rename(root, "train/train4.png", os.fsdecode(b"train/z\xe9\xff.png"))
    found = found_data(*splits(root), root=str(root))
    names = [
        *(f"images/train/train{number}.png".encode() for number in range(4)),
        b"images/train/z\xe9\xff.png",
    ]
    assert found.record.training.sha256 == sha256(b"\0".join(names)).hexdigest()


def test_vocs_root_may_be_its_year_or_the_folder_above(fake_root: Root) -> None:
    roots = [fake_root("voc"), fake_root("voc") / "VOCdevkit" / "VOC2012"]
    found = [
        found_data(
            open_dataset("voc", root=str(root), split="train"),
            open_dataset("voc", root=str(root), split="val"),
            root=str(root),
        )
        for root in roots
    ]
    assert found[0].record._replace(given_root=None) == found[1].record._replace(given_root=None)
    assert found[0].training_names is not None
    assert found[0].training_names[0].startswith("JPEGImages/")


def test_generated_images_are_compared_by_their_number() -> None:
    training = open_dataset("shapes", split="train", train_images=3, val_images=1)
    record = found_data(training, training, root=None).record
    assert (record.raw_values, record.training) == (None, ("train", 3, None))


# --- said, not refused --------------------------------------------------------------------------------------


def test_other_training_images_are_accepted_when_that_is_typed_and_then_compared_again(place: Path) -> None:
    root, run = place / "plain", place / "plain_run"
    add(root, "train/a_first.png")
    resume(run, change=onto(root, accept_changed_images=True))
    said = f"{IMAGES}5 then, 6 now; 1 added (images/train/a_first.png); accepted, from step 1 on"
    assert said in (run / "train.log").read_text()
    stored = record_of(run)
    assert stored.config.accept_changed_images is False
    assert yaml.safe_load((run / "config.yaml").read_text())["accept_changed_images"] is False
    assert stored.data is not None
    assert stored.data.accepted == [{"step": 1, "before": 5, "now": 6, "added": 1, "removed": 0}]
    remove(root, "train/train0.png")
    with pytest.raises(DataError, match=r"since step 4 was saved: 6 then, 5 now; 1 removed"):
        extend(run, max_iters=6, change=onto(root))
    extend(run, max_iters=6, change=onto(root, accept_changed_images=True))
    data = record_of(run).data
    assert data is not None
    assert [one["step"] for one in data.accepted] == [1, 4]
    assert yaml.safe_load((run / "config.yaml").read_text())["accept_changed_images"] is False


def test_other_evaluated_images_are_said(place: Path) -> None:
    root, run = place / "plain", place / "plain_run"
    remove(root, "val/val0.png")
    resume(run, change=onto(root))
    said = (
        "the evaluated images changed since step 1 was saved: 2 then, 1 now; 1 removed (images/val/val0.png)"
    )
    assert said in (run / "train.log").read_text()
    assert json.loads((run / "result.json").read_text())["images"] == 1


def test_other_class_names_do_not_stop_init_from(place: Path) -> None:
    classes("classes: [object, background]\n")(place / "plain")
    config = compose_plain(*SMALL, f"dataset.root='{place / 'plain'}'", f"init_from='{place / 'plain_run'}'")
    (place / "new").mkdir()
    stop = StopRequest()
    stop.number = signal.SIGINT
    with pytest.raises(StoppedError):
        train_command.run(config, place / "new", [], stop)
    assert record_of(place / "new").classes == ["object", "background"]


# --- several machines ---------------------------------------------------------------------------------------


def test_a_machine_with_other_files_than_the_main_ones_is_named(tmp_path: Path) -> None:
    roots = [write_data(tmp_path / name) for name in ("main", "other")]
    main, same = (found_data(*splits(root), root=str(root)) for root in roots)
    refuse_other_copy(same, main.record)
    remove(roots[1], "val/val1.png")
    other = found_data(*splits(roots[1]), root=str(roots[1]))
    with pytest.raises(DataError, match=r"split val has 1 images here and 2 on the machine of the main"):
        refuse_other_copy(other, main.record)
    shutil.copytree(roots[0], roots[1], dirs_exist_ok=True)
    (roots[1] / "classes.yaml").write_text(f"{CLASSES}ignore: [255]\n")
    with pytest.raises(DataError, match=r"label_map or ignore differs"):
        refuse_other_copy(found_data(*splits(roots[1]), root=str(roots[1])), main.record)


# --- a process that was killed ------------------------------------------------------------------------------


KILLED = "the process before this one was killed, or its machine stopped"


def test_a_run_without_a_mark_of_its_end_was_killed(place: Path) -> None:
    root, run = place / "plain", place / "plain_run"
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "loss": 1.0}\n{"step": 4, "lo')  # it was killed in the middle of a line
    resume(run, change=onto(root))
    log = (run / "train.log").read_text()
    assert (
        f"{KILLED} (memory, a time limit, power): its log ends at step 4; continuing from step-00000001"
        in log
    )
    before = len(log)
    extend(run, max_iters=6, change=onto(root))  # of a finished run
    assert KILLED not in (run / "train.log").read_text()[before:]


def test_a_run_that_was_killed_before_its_first_save_starts_again(place: Path) -> None:
    run = place / "plain_run"
    shutil.rmtree(run / "checkpoints")
    resume(run, change=onto(place / "plain"))
    assert f"{KILLED}" in (run / "train.log").read_text()
    assert "it had saved no checkpoint: starting again" in (run / "train.log").read_text()


@pytest.mark.parametrize("mark", ["INTERRUPTED", "FAILED"])
def test_a_run_that_ended_by_itself_was_not_killed(place: Path, mark: str) -> None:
    run = place / "plain_run"
    (run / mark).write_text("why\n")
    add(place / "plain", "train/new.png")
    with pytest.raises(DeeplabxError):
        resume(run, change=onto(place / "plain"))
    assert (run / mark).read_text() == "why\n"  # what is refused leaves the run as it was
    remove(place / "plain", "train/new.png")
    resume(run, change=onto(place / "plain"))
    assert KILLED not in (run / "train.log").read_text()


# --- eval ---------------------------------------------------------------------------------------------------


def warned(run: Path, trained_on: Path, **settings: Any) -> list[str]:
    """The warnings of an evaluation of the run, which was trained on the data set in `trained_on`."""
    stored = record_of(run)
    dataset = replace(stored.config.dataset, root=str(trained_on))
    stored = stored._replace(config=replace(stored.config, dataset=dataset))
    config = replace(dataset, **settings)
    return evaluation_warnings(dataset_of(config, split=config.split), config, stored=stored, folder=run)


def test_an_evaluation_on_training_images_says_so(place: Path) -> None:
    root, run = place / "listed", place / "listed_run"
    assert warned(run, root) == []
    assert warned(run, root, split="train") == []  # asked for
    (root / "val.txt").write_text("val0\nval1\ntrain3\n")
    first, second = warned(run, root)
    assert first.startswith("1 of 3 images of val were training images of this run, the first: images/train3")
    assert "2 then, 3 now; 1 added (images/train3.png)" in second
    (root / "test.txt").write_text("train0\ntrain3\n")
    assert warned(run, root, split="test")[0].startswith("2 of 2 images of test were training images")
    assert warned(run, shutil.copytree(root, place / "other"), root=str(root)) == []  # another data set


def test_an_evaluation_says_that_values_mean_something_else(place: Path) -> None:
    root, run = place / "plain", place / "plain_run"
    classes(CLASSES + "label_map: {1: background, 0: object}\n")(root)
    (words,) = warned(run, root)
    assert words.endswith("was saved: background was 0, now 1; object was 1, now 0")
    classes(CLASSES + "ignore: [255]\n")(root)
    assert warned(run, root)[0].endswith("ignore was no value, now 255")
