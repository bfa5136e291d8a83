"""What predict writes, and how it goes on where it was stopped."""

import errno
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio import features

from deeplabx.command import predict as command
from deeplabx.command import prediction_files
from deeplabx.command.predict import predict
from deeplabx.dataset import voc
from deeplabx.dataset.annotations import read_geojson
from deeplabx.dataset.video import VideoFile, write_video
from deeplabx.dataset.writing import save_ids, write_image
from deeplabx.engine.predictor import Predictor
from deeplabx.errors import ConfigError, DataError, PreemptedError, ResourceError, StoppedError
from deeplabx.report.overlay import colourised, overlay
from tests.command.predictions import Standin, standin
from tests.conftest import Deeplabx

ALL = ["ids", "colour", "overlay", "probabilities", "polygons"]


@pytest.fixture
def found(tiny_run: Path) -> Standin:
    return standin(tiny_run)


def drawn(folder: Path, *names: str, size: tuple[int, int] = (20, 30)) -> Path:
    """Images of noise, each with its own."""
    for number, name in enumerate(names):
        pixels = np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)
        write_image(folder / name, pixels)
    return folder


def ids_in(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a prediction, without what it notes of itself."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


# --- files --------------------------------------------------------------------------------------------------


def test_each_kind_of_file_holds_what_was_predicted(found: Standin, tmp_path: Path) -> None:
    drawn(tmp_path / "in", "deep/a.png")
    predict(found, [tmp_path / "in"], tmp_path / "out", save=ALL)
    pixels = ids_in(tmp_path / "in/deep/a.png")
    (expected,) = found.predictor().predict([pixels], probabilities=True)
    ids, palette = expected.ids.numpy(), found.description.palette
    out = tmp_path / "out/deep"
    np.testing.assert_array_equal(ids_in(out / "a.png"), ids)
    np.testing.assert_array_equal(ids_in(out / "a_colour.png"), colourised(ids, palette))
    np.testing.assert_array_equal(ids_in(out / "a_overlay.png"), overlay(pixels, ids, palette))
    stored = np.load(out / "a_probabilities.npy", allow_pickle=False)
    assert stored.dtype == np.float16
    assert expected.probabilities is not None
    np.testing.assert_array_equal(stored, expected.probabilities.half().numpy())
    image, regions = read_geojson(out / "a.geojson")
    assert image == ("deep/a.png", 30, 20)
    assert sum(region.area for region in regions) == ids.size
    coco = json.loads((tmp_path / "out/coco.json").read_text(encoding="utf-8"))
    assert [one["file_name"] for one in coco["images"]] == ["deep/a.png"]
    assert sum(one["area"] for one in coco["annotations"]) == ids.size


def test_classes_json_says_what_the_ids_are(found: Standin, tmp_path: Path) -> None:
    drawn(tmp_path, "a.png")
    predict(found, [tmp_path / "a.png"], tmp_path / "out")
    table = json.loads((tmp_path / "out/classes.json").read_text(encoding="utf-8"))
    assert table["ignore_index"] == 255
    assert [one["name"] for one in table["classes"]] == found.description.classes
    assert [one["id"] for one in table["classes"]] == list(range(7))
    with Image.open(tmp_path / "out/a.png") as image:
        assert image.getpalette()[3:6] == table["classes"][1]["colour"]  # type: ignore[index]


def test_only_what_is_asked_for_is_written(found: Standin, tmp_path: Path) -> None:
    drawn(tmp_path, "a.png", "a_overlay.png")  # whose names clash only where overlays are written
    predict(found, [tmp_path], tmp_path / "out", save=["ids"])
    assert {name for name in contents(tmp_path / "out") if name.endswith("png")} == {
        "a.png",
        "a_overlay.png",
    }


@pytest.mark.parametrize("batch_size", [2, 5])
def test_batches_of_equal_size_give_each_image_its_own_ids(
    found: Standin, tmp_path: Path, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn(tmp_path / "in", *(f"{number}.png" for number in range(7)))
    drawn(tmp_path / "in", "wide.png", "other.png", size=(20, 40))
    together: list[int] = []
    original = Predictor.predict

    def noted(self: Predictor, images: Sequence[np.ndarray], **rest: Any) -> Any:
        assert len({image.shape for image in images}) == 1
        together.append(len(images))
        return original(self, images, **rest)

    predict(found, [tmp_path / "in"], tmp_path / "single")
    monkeypatch.setattr(Predictor, "predict", noted)
    predict(found, [tmp_path / "in"], tmp_path / "out", batch_size=batch_size)
    assert sum(together) == 9
    assert max(together) == batch_size
    one, several = contents(tmp_path / "single"), contents(tmp_path / "out")
    assert one == several


def test_images_that_wait_for_others_of_their_size_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "MOST_WAITING", 10 * 300)
    frames = [
        prediction_files.Frame(str(number), np.zeros((10, 10 + number % 9, 3), np.uint8), {})
        for number in range(60)
    ]
    held = 0
    given: list[str] = []

    def counted() -> Iterator[prediction_files.Frame]:
        nonlocal held
        for frame in frames:
            held += 1
            yield frame

    for batch in command.batches(counted(), most=16):
        assert held <= 11
        assert len({frame.pixels.shape for frame in batch}) == 1
        held -= len(batch)
        given += [frame.name for frame in batch]
    assert sorted(given, key=int) == [str(number) for number in range(60)]


def test_a_full_disk_ends_the_prediction_and_the_message_says_how_to_go_on(
    found: Standin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn(tmp_path / "in", *(f"{number}.png" for number in range(12)))
    written: list[Path] = []
    original = save_ids

    def full(path: Path, *rest: Any) -> None:
        if len(written) == 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(path)
        original(path, *rest)

    monkeypatch.setattr(prediction_files, "save_ids", full)
    with pytest.raises(ResourceError, match="No space left on device") as refused:
        predict(found, [tmp_path / "in"], tmp_path / "out", save=["ids"])
    assert f"the same command with out={tmp_path / 'out'} continues it" in refused.value.hint
    assert not list((tmp_path / "out").rglob(".tmp-*"))
    monkeypatch.setattr(prediction_files, "save_ids", original)
    predict(found, [tmp_path / "in"], tmp_path / "out", save=["ids"])
    assert len(list((tmp_path / "out").glob("*.png"))) == 12


def test_a_wrong_setting_is_named(deeplabx: Deeplabx, tiny_run: Path, tmp_path: Path) -> None:
    drawn(tmp_path, "a.png")
    for setting, words in (
        ("save=polygon", "save=polygon is not one of ids, colour"),
        ("submission=voc", "submission=voc is not one of voc_comp5"),
        ("batch_size=0", "batch_size=0 is out of range"),
    ):
        ended = deeplabx("predict", str(tiny_run), "a.png", setting, "out=out")
        assert ended.code == 2
        assert words in ended.err


# --- submissions --------------------------------------------------------------------------------------------


def test_a_submission_lies_beside_the_other_files(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn(tmp_path / "in", "2008_000006.jpg", "more/2008_000008.jpg")
    of_voc = standin(tiny_run, classes=voc.CLASSES)
    predict(of_voc, [tmp_path / "in"], tmp_path / "out", save=["ids"], submission="voc_comp6")
    packed = tmp_path / "out/results/VOC2012/Segmentation/comp6_test_cls"
    assert sorted(path.name for path in packed.iterdir()) == ["2008_000006.png", "2008_000008.png"]
    assert (packed / "2008_000008.png").read_bytes() == (tmp_path / "out/more/2008_000008.png").read_bytes()
    said = capsys.readouterr().out
    assert "2 images; the test set of VOC 2012 has 1456" in said
    assert f"pack: tar -czf results.tgz -C {tmp_path / 'out'} results" in said


def test_a_submission_of_other_classes_is_refused(found: Standin, tmp_path: Path) -> None:
    drawn(tmp_path, "a.png")
    with pytest.raises(ConfigError, match="needs a model of the 19 classes of Cityscapes"):
        predict(found, [tmp_path / "a.png"], tmp_path / "out", submission="cityscapes")
    assert not (tmp_path / "out").exists()


# --- videos -------------------------------------------------------------------------------------------------


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Ten frames of blocks in ten shades each, as noise does not survive the compression."""
    shades = np.random.default_rng(0).integers(0, 256, (10, 2, 3, 3), dtype=np.uint8)
    frames = (np.kron(one, np.ones((16, 16, 1), np.uint8)) for one in shades)
    write_video(tmp_path / "clip.mp4", frames, rate=5, size=(48, 32))
    return tmp_path / "clip.mp4"


@pytest.mark.parametrize("save", [["ids", "overlay", "polygons"], ["overlay"]])
def test_a_video_becomes_a_video_and_ids_of_each_frame(
    found: Standin, tmp_path: Path, clip: Path, save: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    predict(found, [clip], tmp_path / "out", save=save)
    assert "no sound" in capsys.readouterr().out
    video, shown = VideoFile(clip), VideoFile(tmp_path / "out/clip_overlay.mp4")
    assert shown.properties == video.properties == (10, 5.0, (48, 32))
    palette = found.description.palette
    for (number, pixels), (_, laid_over) in zip(video, shown, strict=True):
        ids = found.predictor().ids(pixels).numpy()
        expected = overlay(pixels, ids, palette).astype(int)
        assert np.abs(expected - laid_over).mean() < 10  # it is compressed
        if "ids" in save:
            np.testing.assert_array_equal(ids_in(tmp_path / f"out/clip/{number:06d}.png"), ids)
    kept = {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()}
    assert kept == ({"clip", "clip_polygons"} if "ids" in save else set())


def test_a_video_goes_on_with_the_frames_that_are_missing(
    found: Standin, tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict(found, [clip], tmp_path / "whole")
    stop_after(monkeypatch, 4)
    with pytest.raises(StoppedError):
        predict(found, [clip], tmp_path / "out")
    done = len(list((tmp_path / "out/clip").glob("*.png")))
    assert 0 < done <= 4
    count = counted(monkeypatch)
    predict(found, [clip], tmp_path / "out")
    assert len(count) == 10 - done
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_video_that_changed_keeps_no_frame_of_before(found: Standin, tmp_path: Path, clip: Path) -> None:
    predict(found, [clip], tmp_path / "out", save=["ids", "overlay"])
    shorter = (np.full((32, 48, 3), shade, np.uint8) for shade in (10, 200))
    write_video(clip, shorter, rate=5, size=(48, 32))
    predict(found, [clip], tmp_path / "out", save=["ids", "overlay"])
    assert len(list((tmp_path / "out/clip").iterdir())) == 2
    assert VideoFile(tmp_path / "out/clip_overlay.mp4").properties.frames == 2


def test_damaged_frames_of_a_video_are_an_error_and_the_others_are_there(
    found: Standin, tmp_path: Path, clip: Path
) -> None:
    held = bytearray(clip.read_bytes())
    begin, end = held.find(b"mdat") + 4, held.find(b"moov") - 4
    middle = begin + (end - begin) * 2 // 3
    held[middle:end] = bytes(end - middle)
    clip.write_bytes(held)
    with pytest.raises(DataError, match="1 of 1 images could not be read") as refused:
        predict(found, [clip], tmp_path / "out")
    assert "of 10 frames cannot be read: it ends after frame" in refused.value.hint
    assert (tmp_path / "out/clip_overlay.mp4").is_file()


def test_a_video_beside_images_of_its_name_keeps_its_frames_apart(found: Standin, tmp_path: Path) -> None:
    drawn(tmp_path / "in/clip", "000000.png", size=(32, 48))
    frames = iter([np.zeros((32, 48, 3), np.uint8)])
    write_video(tmp_path / "in/clip.mp4", frames, rate=5, size=(48, 32))
    predict(found, [tmp_path / "in/clip.mp4", tmp_path / "in"], tmp_path / "out", save=["ids"])
    names = {name for name in contents(tmp_path / "out") if name.endswith(".png")}
    assert names == {"clip.mp4/000000.png", "clip/000000.png.png"}


# --- rasters ------------------------------------------------------------------------------------------------


@pytest.fixture
def field(tmp_path: Path) -> Path:
    """A georeferenced image of 70 x 50 pixels, without data in its upper left corner."""
    pixels = np.random.default_rng(0).integers(1, 256, (3, 50, 70), dtype=np.uint8)
    pixels[:, :20, :10] = 0
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(0.5, 0, 5e5, 0, -0.5, 5e6), "nodata": 0}
    layout = {"driver": "GTiff", "dtype": "uint8", "count": 3, "height": 50, "width": 70}
    (tmp_path / "in").mkdir()
    with rasterio.open(tmp_path / "in/field.tif", "w", **layout, **place) as file:
        file.write(pixels)
    return tmp_path / "in/field.tif"


def test_a_georeferenced_image_becomes_georeferenced_files(
    found: Standin, tmp_path: Path, field: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn(tmp_path / "in", "plain.png")
    predict(found, [tmp_path / "in"], tmp_path / "out", save=ALL)
    with rasterio.open(field) as source:
        for name in ("", "_colour", "_overlay", "_probabilities"):
            with rasterio.open(tmp_path / f"out/field{name}.tif") as file:
                assert (file.crs, file.transform, file.shape) == (source.crs, source.transform, source.shape)
                assert (file.dataset_mask() == source.dataset_mask()).all()
        pixels, valid = source.read().transpose(1, 2, 0), source.dataset_mask() > 0
    with rasterio.open(tmp_path / "out/field.tif") as file:
        ids = file.read(1)
    palette = found.description.palette
    for name, expected in (("colour", colourised(ids, palette)), ("overlay", overlay(pixels, ids, palette))):
        with rasterio.open(tmp_path / f"out/field_{name}.tif") as file:
            shown = file.read((1, 2, 3)).transpose(1, 2, 0)
        np.testing.assert_array_equal(shown[valid], expected[valid])
    coco = json.loads((tmp_path / "out/coco.json").read_text(encoding="utf-8"))
    assert [one["file_name"] for one in coco["images"]] == ["plain.png"]
    count = counted(monkeypatch)
    predict(found, [tmp_path / "in"], tmp_path / "out", save=ALL)
    assert count == []


def test_a_raster_whose_colours_were_not_finished_is_not_computed_again(
    found: Standin, tmp_path: Path, field: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*arguments: Any, **rest: Any) -> None:
        raise KeyboardInterrupt

    save = ["ids", "colour"]
    with monkeypatch.context() as patched:
        patched.setattr(command, "write_colours", stopped)
        with pytest.raises(StoppedError):
            predict(found, [field], tmp_path / "out", save=save)
    count = counted(monkeypatch)
    predict(found, [field], tmp_path / "out", save=save)
    assert count == []
    assert (tmp_path / "out/field_colour.tif").is_file()
    assert not list((tmp_path / "out").glob("*.part"))


def test_a_raster_too_large_for_polygons_is_refused_before_it_is_predicted(
    found: Standin, tmp_path: Path, field: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deeplabx.report.rasters.MAX_PIXELS", 3000)
    count = counted(monkeypatch)
    with pytest.raises(DataError, match="could not be read") as error:
        predict(found, [field], tmp_path / "out", save=["ids", "polygons"])
    assert "polygons are traced of up to 3,000 pixels, not of 70 x 50" in error.value.hint
    assert count == []


def test_polygons_of_a_georeferenced_image_lie_where_its_ids_do(
    found: Standin, tmp_path: Path, field: Path
) -> None:
    predict(found, [field], tmp_path / "out", save=["polygons"])
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.name[0] != ".") == [
        *("classes.json", "coco.json", "field.geojson", "predict.json")
    ]
    predict(found, [field], tmp_path / "ids", save=["ids"])
    with rasterio.open(tmp_path / "ids/field.tif") as file:
        ids, transform = file.read(1), file.transform
    content = json.loads((tmp_path / "out/field.geojson").read_text(encoding="utf-8"))
    assert content["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::32633"
    shapes = [(one["geometry"], one["properties"]["id"]) for one in content["features"]]
    burned = features.rasterize(shapes, out_shape=ids.shape, transform=transform, fill=255, dtype="uint8")
    np.testing.assert_array_equal(burned, ids)
    for one in content["features"]:
        ring = np.array(one["geometry"]["coordinates"][0])
        x, y = ring[:, 0] - ring[0, 0], ring[:, 1] - ring[0, 1]
        assert (x[:-1] * y[1:] - x[1:] * y[:-1]).sum() > 0  # outlines run as RFC 7946 asks


def test_without_rasterio_a_georeferenced_image_is_a_plain_one(
    found: Standin,
    tmp_path: Path,
    field: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    predict(found, [field], tmp_path / "out", save=["ids"])
    assert "1 TIFFs are predicted as plain images, without their georeference" in capsys.readouterr().out
    assert (tmp_path / "out/field.png").is_file()


# --- going on -----------------------------------------------------------------------------------------------


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that grows by one for each image that is predicted from now on."""
    count: list[int] = []
    original = Predictor.predict

    def noted(self: Predictor, images: Sequence[np.ndarray], **rest: Any) -> Any:
        count.extend(1 for _ in images)
        return original(self, images, **rest)

    monkeypatch.setattr(Predictor, "predict", noted)
    return count


def stop_after(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Ctrl-C comes while image `number` + 1 is predicted."""
    original = Predictor.predict
    count: list[int] = []

    def stopping(self: Predictor, images: Sequence[np.ndarray], **rest: Any) -> Any:
        if len(count) == number:
            monkeypatch.setattr(Predictor, "predict", original)
            raise KeyboardInterrupt
        count.append(1)
        return original(self, images, **rest)

    monkeypatch.setattr(Predictor, "predict", stopping)


def test_a_stopped_prediction_goes_on_and_ends_as_an_unbroken_one(
    found: Standin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn(tmp_path / "in", *(f"{number}.png" for number in range(9)))
    predict(found, [tmp_path / "in"], tmp_path / "whole", save=ALL)
    stop_after(monkeypatch, 4)
    with pytest.raises(StoppedError, match=f"the same command with out={tmp_path / 'out'} continues it"):
        predict(found, [tmp_path / "in"], tmp_path / "out", save=ALL)
    done = len(list((tmp_path / "out").glob("?.png")))
    assert 0 < done < 9
    capsys.readouterr()
    count = counted(monkeypatch)
    predict(found, [tmp_path / "in"], tmp_path / "out", save=ALL)
    assert f"{done} of 9 images were done already\n" in capsys.readouterr().out
    assert len(count) == 9 - done
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_prediction_goes_on_with_another_number_of_processes(
    found: Standin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn(tmp_path / "in", "a.png", "b.png")
    predict(found, [tmp_path / "in"], tmp_path / "out")
    (tmp_path / "out/.done-0.jsonl").rename(tmp_path / "out/.done-1.jsonl")  # as if a second process did it
    drawn(tmp_path / "in", "a.png", size=(21, 30))
    predict(found, [tmp_path / "in"], tmp_path / "out")
    count = counted(monkeypatch)
    predict(found, [tmp_path / "in"], tmp_path / "out")
    assert count == []


def test_an_image_that_replaces_the_files_of_another_is_said(
    found: Standin, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("one", "two"):
        drawn(tmp_path / folder, "a.png")
    predict(found, [tmp_path / "one"], tmp_path / "out", save=["ids"])
    assert "replacing" not in capsys.readouterr().out
    predict(found, [tmp_path / "two"], tmp_path / "out", save=["ids"])
    replaced = f"replacing 1 files of other images of the same name: a.png (of {tmp_path}/one/a.png)\n"
    assert replaced in capsys.readouterr().out
    count = counted(monkeypatch)
    predict(found, [tmp_path / "one"], tmp_path / "out", save=["ids"])  # equal in size, but not its ids
    assert len(count) == 1


@pytest.mark.parametrize("change", ["image", "time", "removed", "cut", "cut line"])
def test_what_changed_since_is_predicted_again(
    found: Standin, tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn(tmp_path / "in", "a.png", "b.png")
    predict(found, [tmp_path / "in"], tmp_path / "out")
    if change == "image":
        drawn(tmp_path / "in", "a.png", size=(21, 30))
    elif change == "time":
        os.utime(tmp_path / "in/a.png", (1, 1))
    elif change == "removed":
        (tmp_path / "out/a_overlay.png").unlink()
    elif change == "cut":
        (tmp_path / "out/a.png").write_bytes(b"")
    else:
        noted = tmp_path / "out/.done-0.jsonl"
        noted.write_bytes(noted.read_bytes()[:-20])
    count = counted(monkeypatch)
    predict(found, [tmp_path / "in"], tmp_path / "out")
    assert len(count) == 1
    predict(found, [tmp_path / "in"], tmp_path / "out")
    assert len(count) == 1


def test_a_prediction_that_is_done_computes_nothing(
    found: Standin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn(tmp_path / "in", "a.png")
    predict(found, [tmp_path / "in"], tmp_path / "out", save=ALL)
    before = contents(tmp_path / "out")
    (tmp_path / "out/coco.json").unlink()  # as if it was killed before it wrote this
    monkeypatch.setattr(Standin, "predictor", lambda self: pytest.fail("the network was built"))
    predict(found, [tmp_path / "in"], tmp_path / "out", save=ALL)
    assert "1 of 1 images were done already" in capsys.readouterr().out
    assert contents(tmp_path / "out") == before


def test_a_folder_of_other_settings_is_refused_and_they_are_named(
    found: Standin, tmp_path: Path, tiny_run: Path
) -> None:
    drawn(tmp_path / "in", "a.png")
    predict(found, [tmp_path / "in"], tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(ConfigError, match=r"save was \['ids', 'overlay'\], is \['ids'\]") as refused:
        predict(found, [tmp_path / "in"], tmp_path / "out", save=["ids"])
    assert "another out=FOLDER" in refused.value.hint
    other = standin(tiny_run)
    other.config.eval.flip = True
    with pytest.raises(ConfigError, match=r"eval\.flip was False, is True"):
        predict(other, [tmp_path / "in"], tmp_path / "out")
    checkpoint = shutil.copytree(found.checkpoint.path, tmp_path / "step-00000002")
    (checkpoint / "MANIFEST.json").write_text("{}", encoding="utf-8")
    moved = found._replace(checkpoint=replace(found.checkpoint, path=checkpoint))
    with pytest.raises(ConfigError, match="checkpoint was "):
        predict(moved, [tmp_path / "in"], tmp_path / "out")
    assert contents(tmp_path / "out") == before


def test_a_record_that_is_damaged_is_an_error(found: Standin, tmp_path: Path) -> None:
    drawn(tmp_path / "in", "a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/predict.json").write_text("[", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"predict\.json is not what a prediction writes"):
        predict(found, [tmp_path / "in"], tmp_path / "out")


def test_term_ends_a_prediction_with_how_to_go_on(
    found: Standin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn(tmp_path / "in", "a.png", "b.png")

    def terminated(self: Predictor, images: Sequence[np.ndarray], **rest: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return []

    monkeypatch.setattr(Predictor, "predict", terminated)
    with pytest.raises(PreemptedError, match=f"SIGTERM received: .* out={tmp_path / 'out'} continues it"):
        predict(found, [tmp_path / "in"], tmp_path / "out")


@pytest.mark.slow  # two processes that import torch
def test_a_killed_prediction_goes_on_and_ends_as_an_unbroken_one(tiny_run: Path, tmp_path: Path) -> None:
    drawn(tmp_path / "in", *(f"{number}.png" for number in range(60)), size=(120, 160))
    words = [sys.executable, "-m", "deeplabx", "predict", str(tiny_run), str(tmp_path / "in")]
    words += ["save=[ids,overlay,polygons]", "trainer.devices=cpu"]
    subprocess.run([*words, f"out={tmp_path / 'whole'}"], check=True, cwd=tmp_path)
    killed = subprocess.Popen([*words, f"out={tmp_path / 'out'}"], cwd=tmp_path)
    deadline = time.monotonic() + 120
    while len(list((tmp_path / "out").glob("*_overlay.png"))) < 15 and time.monotonic() < deadline:
        time.sleep(0.01)
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    assert 15 <= len(list((tmp_path / "out").glob("*_overlay.png"))) < 60
    ended = subprocess.run([*words, f"out={tmp_path / 'out'}"], cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0
    assert "of 60 images were done already" in ended.stdout
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert not list((tmp_path / "out").rglob(".tmp-*"))
