import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from deeplabx.command.predict import predict
from deeplabx.dataset.writing import write_image
from deeplabx.engine.evaluator import evaluate
from deeplabx.engine.metrics import confusion_matrix, metrics
from deeplabx.errors import DataError
from deeplabx.run.build import dataset_of
from deeplabx.run.description import stored_model
from tests.command.predictions import standin


def test_the_miou_of_the_id_files_is_evals_to_the_last_digit(tiny_run: Path, tmp_path: Path) -> None:
    found = stored_model(str(tiny_run))
    samples = dataset_of(found.config.dataset, split="val")
    for index in range(len(samples)):
        write_image(tmp_path / "in" / f"{index}.png", samples[index].image)
    predict(stored_model(str(tiny_run)), [tmp_path / "in"], tmp_path / "out")
    confusion = torch.zeros(7, 7, dtype=torch.int64)
    for index in range(len(samples)):
        ids = torch.from_numpy(np.array(Image.open(tmp_path / "out" / f"{index}.png")))
        confusion += confusion_matrix(
            ids, torch.from_numpy(samples[index].label), num_classes=7, ignore_index=255
        )
    assert replace(metrics(confusion, list(samples.classes)), images=len(samples)) == evaluate(
        found.predictor(), samples
    )


def test_ids_are_palette_files_of_the_images_size_and_overlays_are_not(
    tiny_run: Path, tmp_path: Path
) -> None:
    source = tmp_path / "in"
    for name, size in (("photo (1).jpg", (50, 41)), ("deep/er/b.png", (17, 70)), ("deep/c.JPG", (64, 64))):
        write_image(source / name, np.zeros((size[1], size[0], 3), np.uint8))
    (source / "notes.txt").write_text("no image")
    predict(stored_model(str(tiny_run)), [source], tmp_path / "out")
    written = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.png")}
    stems = {"photo (1)", "deep/er/b", "deep/c"}
    assert written == {f"{stem}{ending}" for stem in stems for ending in (".png", "_overlay.png")}
    with Image.open(tmp_path / "out" / "photo (1).png") as ids:
        assert (ids.mode, ids.size) == ("P", (50, 41))
        assert ids.getpalette()[3:6] == [230, 60, 60]  # type: ignore[index]
        assert np.array(ids).max() < 7
    with Image.open(tmp_path / "out" / "photo (1)_overlay.png") as overlay:
        assert (overlay.mode, overlay.size) == ("RGB", (50, 41))


def test_one_image(tiny_run: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "one.png", np.zeros((20, 30, 3), np.uint8))
    predict(stored_model(str(tiny_run)), [tmp_path / "one.png"], tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"one.png", "one_overlay.png", *RECORDS}


def test_a_damaged_image_stops_no_other(tiny_run: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "in" / "good.png", np.zeros((20, 30, 3), np.uint8))
    (tmp_path / "in" / "bad.jpg").write_bytes(b"no")
    with pytest.raises(DataError, match=r"1 of 2 images could not be read; the others are done\n.*bad.jpg"):
        predict(stored_model(str(tiny_run)), [tmp_path / "in"], tmp_path / "out")
    assert (tmp_path / "out" / "good.png").is_file()


RECORDS = {"classes.json", "predict.json", ".done-0.jsonl", ".lock"}


def drawn(*paths: Path) -> None:
    for path in paths:
        write_image(path, np.zeros((20, 30, 3), np.uint8))


def written(folder: Path) -> set[str]:
    """What lies in an output folder, without the overlays, each of which lies beside its ids, and without
    what a prediction notes of itself.
    """
    noted = RECORDS | {".done-before.jsonl"}
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*.*")} - noted
    overlays = {name for name in files if name.endswith("_overlay.png")}
    ids = {name for name in files - overlays if name.endswith(".png")}
    ids |= {name for name in overlays if f"{name.removesuffix('.png')}_overlay.png" in overlays}
    assert {f"{name.removesuffix('.png')}_overlay.png" for name in ids} <= overlays
    return files - (overlays - ids)


@pytest.mark.parametrize(
    ("names", "files"),
    [
        (("a.jpg",), {"a.png"}),
        (("a.png", "a.jpg", "b.jpg"), {"a.png.png", "a.jpg.png", "b.png"}),
        (("a.png", "a_overlay.png"), {"a.png.png", "a_overlay.png.png"}),
        (("a.png", "a.jpg", "a.jpg.bmp"), {"a.png.png", "a.jpg.png", "a.jpg.bmp.png"}),
        (("x/a.png", "y/a.jpg"), {"x/a.png", "y/a.png"}),
        (("a.jpg", "a.JPG"), {"a.jpg.png", "a.JPG.png"}),
    ],
)
def test_images_of_one_name_are_kept_apart_by_their_suffix(
    tiny_run: Path, tmp_path: Path, names: tuple[str, ...], files: set[str]
) -> None:
    drawn(*(tmp_path / "in" / name for name in names))
    predict(stored_model(str(tiny_run)), [tmp_path / "in"], tmp_path / "out")
    assert written(tmp_path / "out") == files
    assert len(list((tmp_path / "out").rglob("*.png"))) == 2 * len(names)


@pytest.mark.parametrize(
    ("images", "inputs", "files"),
    [
        (("one/a.jpg", "two/a.jpg"), ("one", "two"), {"one/a.png", "two/a.png"}),
        (("one/a.jpg", "two/a.png"), ("one/a.jpg", "two/a.png"), {"one/a.png", "two/a.png"}),
        (("x/val/a.jpg", "y/val/a.jpg"), ("x/val", "y/val"), {"x/val/a.png", "y/val/a.png"}),
        (("a.jpg", "two/a.jpg"), ("a.jpg", "two"), {"a.png", "two/a.png"}),
        (("one/a.jpg", "two/b.jpg"), ("one", "two"), {"a.png", "b.png"}),
        (("one/a.jpg", "one/b.jpg"), ("one", "one/a.jpg", "one"), {"a.png", "b.png"}),
    ],
)
def test_images_of_one_name_in_several_inputs_are_kept_apart_by_their_folders(
    tiny_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    images: tuple[str, ...],
    inputs: tuple[str, ...],
    files: set[str],
) -> None:
    drawn(*(tmp_path / image for image in images))
    predict(stored_model(str(tiny_run)), [tmp_path / one for one in inputs], tmp_path / "out")
    assert written(tmp_path / "out") == files
    assert ("given twice" in capsys.readouterr().out) == (len(inputs) > 2)


@pytest.mark.parametrize("names", [("a.jpg", "a.png"), ("b.jpg", "b_overlay.png")])
def test_an_image_that_is_read_is_never_written_onto(
    tiny_run: Path, tmp_path: Path, names: tuple[str, ...]
) -> None:
    drawn(*(tmp_path / name for name in names))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(DataError, match="another out=FOLDER"):
        predict(stored_model(str(tiny_run)), [tmp_path], tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_two_that_cannot_be_kept_apart_are_refused(tiny_run: Path, tmp_path: Path) -> None:
    drawn(tmp_path / "x.jpg", tmp_path / "other.jpg")
    (tmp_path / "other.jpg").rename(tmp_path / "x.jpg_overlay")
    with pytest.raises(DataError, match="would be written to one file"):
        predict(
            stored_model(str(tiny_run)),
            [tmp_path / name for name in ("x.jpg", "x.jpg_overlay")] + [tmp_path / "x.jpg_overlay"],
            tmp_path / "out",
        )
    assert not (tmp_path / "out").exists()


def test_long_names_are_written_and_those_that_no_file_system_takes_are_refused(
    tiny_run: Path, tmp_path: Path
) -> None:
    found = standin(tiny_run)
    longest = "é" * 121 + "n"  # 243 bytes; with _overlay.png 255
    for name in (longest, longest + "n"):
        write_image(tmp_path / name / f"{name}.png", np.zeros((8, 9, 3), np.uint8))
    predict(found, [tmp_path / longest], tmp_path / "out")
    assert (tmp_path / f"out/{longest}_overlay.png").is_file()
    with pytest.raises(DataError, match=r"is too long: é+nn_overlay\.png would have more than 255 bytes"):
        predict(found, [tmp_path / f"{longest}n"], tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_folder_where_a_file_is_to_be_written_is_named(tiny_run: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "in/a.png", np.zeros((8, 9, 3), np.uint8))
    (tmp_path / "out/a.png").mkdir(parents=True)
    with pytest.raises(DataError, match="out/a.png is a folder, where a file is to be written"):
        predict(standin(tiny_run), [tmp_path / "in"], tmp_path / "out")


def test_an_image_is_never_overwritten_by_its_ids(tiny_run: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", np.zeros((20, 30, 3), np.uint8))
    with pytest.raises(DataError, match="another out=FOLDER"):
        predict(stored_model(str(tiny_run)), [tmp_path], tmp_path)


def test_what_an_earlier_run_left_inside_is_not_an_input(tiny_run: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", np.zeros((20, 30, 3), np.uint8))
    for _ in range(2):
        predict(stored_model(str(tiny_run)), [tmp_path], tmp_path / "out")
    assert len(list((tmp_path / "out").rglob("*.png"))) == 2


def test_earlier_outputs_in_their_default_place_are_no_input(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn(tmp_path / "a.png", tmp_path / "outputs/train/run/samples/step-1.png")
    for stamp in ("one", "two"):
        predict(stored_model(str(tiny_run)), [tmp_path], tmp_path / "outputs/predict" / stamp)
        assert written(tmp_path / "outputs/predict" / stamp) == {"a.png"}
    assert f"skipped {tmp_path / 'outputs'}: the output folder" in capsys.readouterr().out


# --- what people's folders hold -----------------------------------------------------------------------------


def test_a_folder_from_elsewhere_is_predicted_whole(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, odd = tmp_path / "in", os.fsdecode(b"caf\xe9.jpg")
    drawn(source / "a.jpg", tmp_path / "elsewhere/b.jpg", source / odd, source / ".ipynb_checkpoints/a.jpg")
    drawn(source / "d.jpg")
    (source / "d.jpg").rename(source / "d.jfif")
    (source / "linked").symlink_to(tmp_path / "elsewhere")
    (source / "loop").symlink_to(".")
    (source / "dangling.jpg").symlink_to("gone.jpg")
    (source / os.fsdecode(b"kaputt\xe9.jpg")).write_bytes(b"no image")
    os.mkfifo(source / "pipe.png")
    (source / "._a.jpg").write_bytes(b"\0\5\x16\7")
    (source / "notes.txt").touch()
    with pytest.raises(DataError, match=r"3 of 7 images could not be read; the others are done\n") as refused:
        predict(stored_model(str(tiny_run)), [source], tmp_path / "out")
    assert refused.value.hint.endswith(f"all are listed in {tmp_path / 'out/unreadable.txt'}")
    assert written(tmp_path / "out") == {
        *("a.png", "linked/b.png", "d.png", os.fsdecode(b"caf\xe9.png"), "unreadable.txt")
    }
    listed = (tmp_path / "out/unreadable.txt").read_bytes().splitlines()
    assert len(listed) == 3
    for name in (b"kaputt\xe9.jpg: ", b"dangling.jpg is a link to gone.jpg", b"pipe.png is a FIFO"):
        assert sum(name in line for line in listed) == 1
    said = capsys.readouterr().out
    assert f"left out of {source}: 1 .txt, 1 hidden .jpg" in said
    assert f"skipped {source / 'loop'}: it is a link to a folder that contains it" in said


@pytest.mark.parametrize("link", ["content", "folder", "twice", "file"])
def test_linked_folders_are_predicted(tiny_run: Path, tmp_path: Path, link: str) -> None:
    drawn(tmp_path / "data/a.png", tmp_path / "data/deep/b.png")
    (tmp_path / "in").mkdir()
    source = tmp_path / ("linked" if link == "folder" else "in")
    if link == "folder":
        source.symlink_to(tmp_path / "data")
    elif link == "file":
        (source / "c.png").symlink_to(tmp_path / "data/a.png")
    else:
        (source / "site1").symlink_to(tmp_path / "data")
        if link == "twice":
            (source / "site2").symlink_to(source / "site1")
    predict(stored_model(str(tiny_run)), [source], tmp_path / "out")
    below = {"folder": "", "file": None}.get(link, "site1/")
    assert written(tmp_path / "out") == (
        {"c.png"} if below is None else {f"{below}a.png", f"{below}deep/b.png"}
    )


def test_a_folder_that_cannot_be_listed_is_named(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn(tmp_path / "in/a.png", tmp_path / "in/site_b/b.png")
    scandir = os.scandir

    def failing(path: Any) -> Any:
        if Path(path).name == "site_b":
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", failing)
    with pytest.raises(DataError, match="site_b cannot be listed: Stale file handle"):
        predict(stored_model(str(tiny_run)), [tmp_path / "in"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_list_of_an_earlier_prediction_does_not_stay(tiny_run: Path, tmp_path: Path) -> None:
    drawn(tmp_path / "in/a.png")
    (tmp_path / "in/bad.png").touch()
    with pytest.raises(DataError, match="1 of 2 images"):
        predict(stored_model(str(tiny_run)), [tmp_path / "in"], tmp_path / "out")
    (tmp_path / "in/bad.png").unlink()
    predict(stored_model(str(tiny_run)), [tmp_path / "in"], tmp_path / "out")
    assert written(tmp_path / "out") == {"a.png"}


def test_an_empty_folder_is_an_error(tiny_run: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no images"):
        predict(stored_model(str(tiny_run)), [tmp_path], tmp_path / "out")
