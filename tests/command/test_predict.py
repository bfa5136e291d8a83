from dataclasses import replace
from pathlib import Path

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
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"one.png", "one_overlay.png"}


def test_a_damaged_image_stops_no_other(tiny_run: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "in" / "good.png", np.zeros((20, 30, 3), np.uint8))
    (tmp_path / "in" / "bad.jpg").write_bytes(b"no")
    with pytest.raises(DataError, match=r"1 of 2 images could not be read; the others are done\n.*bad.jpg"):
        predict(stored_model(str(tiny_run)), [tmp_path / "in"], tmp_path / "out")
    assert (tmp_path / "out" / "good.png").is_file()


@pytest.mark.parametrize("names", [("a.png", "a.jpg"), ("a.png", "a_overlay.png")])
def test_two_images_for_one_place_are_refused_before_anything_is_written(
    tiny_run: Path, tmp_path: Path, names: tuple[str, str]
) -> None:
    for name in names:
        write_image(tmp_path / "in" / name, np.zeros((20, 30, 3), np.uint8))
    with pytest.raises(DataError, match="rename one of them"):
        predict(stored_model(str(tiny_run)), [tmp_path / "in"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_image_is_never_overwritten_by_its_ids(tiny_run: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", np.zeros((20, 30, 3), np.uint8))
    with pytest.raises(DataError, match="another out=FOLDER"):
        predict(stored_model(str(tiny_run)), [tmp_path], tmp_path)


def test_what_an_earlier_run_left_inside_is_not_an_input(tiny_run: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", np.zeros((20, 30, 3), np.uint8))
    for _ in range(2):
        predict(stored_model(str(tiny_run)), [tmp_path], tmp_path / "out")
    assert len(list((tmp_path / "out").rglob("*.png"))) == 2


def test_an_empty_folder_is_an_error(tiny_run: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no images"):
        predict(stored_model(str(tiny_run)), [tmp_path], tmp_path / "out")
