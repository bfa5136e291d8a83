"""images.npz and predictions.zip: what is written is read back, and a damaged file is an error in words."""

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import pytest

from deeplabx.engine.record import record as records
from deeplabx.engine.record.boundaries import WIDEST
from deeplabx.engine.record.counts import Cells, ImageCounts
from deeplabx.engine.record.details import Details
from deeplabx.engine.record.record import (
    IMAGES,
    PREDICTIONS,
    SIDE,
    Predictions,
    Record,
    as_png,
    shrunk,
    write_predictions,
)
from deeplabx.errors import CheckpointError

CLASSES = ["a", "é <b>", "c"]


def record(*, details: bool = True, calibration: bool = True, groups: bool = True) -> Record:
    rng = np.random.default_rng(0)
    cells = [Cells(np.array([0, 4, 7]), np.array([5, 6, 7])), Cells(np.array([8]), np.array([1 << 40]))]
    measured = Details(
        rng.integers(0, 9, (3, 2)),
        rng.integers(0, 9, (WIDEST, 3, 3)),
        rng.random((3, 16, 2)),
        rng.random((20, 3)) if calibration else None,
    )
    return Record(
        classes=CLASSES,
        palette=[(0, 0, 0), (1, 2, 3), (255, 255, 255)],
        ignore_index=255,
        dataset="voc",
        split="val",
        step=7,
        names=["one.jpg", "two \udcff.jpg"],
        groups=["day", "night"] if groups else None,
        indices=np.array([0, 3]),
        sizes=np.array([[4, 5], [60, 70]]),
        counts=ImageCounts.of(cells, num_classes=3),
        details=measured if details else None,
    )


@pytest.mark.parametrize("kept", [{}, {"details": False}, {"calibration": False}, {"groups": False}], ids=str)
def test_a_record_is_read_back_as_it_was_written(kept: dict[str, bool], tmp_path: Path) -> None:
    written = record(**kept)
    written.write(tmp_path)
    found = Record.read(tmp_path)
    for name in ("classes", "palette", "ignore_index", "dataset", "split", "step", "names", "groups"):
        assert getattr(found, name) == getattr(written, name), name
    for name in ("indices", "sizes"):
        assert np.array_equal(getattr(found, name), getattr(written, name))
    for name in ("image", "cell", "pixels"):
        assert np.array_equal(getattr(found.counts, name), getattr(written.counts, name))
    assert (found.details is None) == (written.details is None)
    for name, value in vars(written.details or object).items() if written.details else ():
        own = getattr(found.details, name)
        assert np.array_equal(own, value) if value is not None else own is None


def test_a_folder_without_a_record_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no images\.npz: it holds no finished evaluation"):
        Record.read(tmp_path)


# --- damage -------------------------------------------------------------------------------------------------


def changed(folder: Path, **arrays: Any) -> None:
    """Write the record with some arrays replaced; None: left out."""
    record().write(folder)
    with np.load(folder / IMAGES) as file:
        found = {name: file[name] for name in file.files}
    found.update(arrays)
    np.savez_compressed(folder / IMAGES, **{name: one for name, one in found.items() if one is not None})


def plain(**values: Any) -> np.ndarray:
    """The JSON of the record with some values replaced."""
    own = record()
    names = ("classes", "palette", "ignore_index", "dataset", "split", "step", "names", "groups")
    table = {"version": 1, **{name: getattr(own, name) for name in names}, **values}
    return np.frombuffer(json.dumps(table).encode(), np.uint8)


WRONG = {
    "version": plain(version=2),
    "no classes": plain(classes=[]),
    "too many classes": plain(classes=["x"] * 20_000),
    "classes are a number": plain(classes=3),
    "a colour of two": plain(palette=[[1, 2], [1, 2, 3], [1, 2, 3]]),
    "two colours": plain(palette=[[1, 2, 3], [1, 2, 3]]),
    "another number of names": plain(names=["one"]),
    "another number of groups": plain(groups=["one"]),
    "step is a text": plain(step="x"),
    "step is infinite": np.frombuffer(plain().tobytes().replace(b'"step": 7', b'"step": 1e999'), np.uint8),
    "no JSON": np.frombuffer(b"{" * 50_000, np.uint8),
    "a list": np.frombuffer(b"[]", np.uint8),
    "deep": np.frombuffer(b"[" * 200_000, np.uint8),
}
WRONG_ARRAYS: dict[str, dict[str, Any]] = {
    "cells beyond the matrix": {"cell": np.array([0, 4, 7, 9])},
    "cells below 0": {"cell": np.array([-1, 4, 7, 8])},
    "cells not in order": {"cell": np.array([4, 0, 7, 8])},
    "a cell twice": {"cell": np.array([0, 4, 4, 8])},
    "no pixels": {"pixels": np.array([5, 6, 0, 1])},
    "pixels that are no integers": {"pixels": np.array([5.0, np.nan, 1.0, 1.0])},
    "another length": {"pixels": np.array([5, 6])},
    "an image too many": {"image": np.array([0, 0, 0, 2])},
    "indices below 0": {"indices": np.array([-1, 3])},
    "an index twice": {"indices": np.array([3, 3])},
    "sizes of 0": {"sizes": np.array([[0, 5], [60, 70]])},
    "sizes of three": {"sizes": np.ones((2, 3), np.int64)},
    "details of other classes": {"boundary": np.zeros((4, 2), np.int64)},
    "details that are nan": {"objects": np.full((3, 16, 2), np.nan)},
    "details below 0": {"boundary": np.full((3, 2), -1)},
    "details without distance": {"distance": None},
    "calibration of other bins": {"calibration": np.zeros((5, 3))},
    "texts": {"boundary": np.array([["a", "b"]] * 3)},
    "no cells": {"cell": None},
}


@pytest.mark.parametrize("name", WRONG)
def test_what_no_evaluation_writes_is_refused(name: str, tmp_path: Path) -> None:
    changed(tmp_path, record=WRONG[name])
    refused(tmp_path)


@pytest.mark.parametrize("name", WRONG_ARRAYS)
def test_arrays_that_no_evaluation_writes_are_refused(name: str, tmp_path: Path) -> None:
    changed(tmp_path, **WRONG_ARRAYS[name])
    refused(tmp_path)


def refused(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="is damaged: .") as raised:
        Record.read(folder)
    assert str(raised.value).count("\n") <= 1
    assert len(str(raised.value).splitlines()[0]) < 400


def test_pickles_are_not_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / IMAGES, record=np.array([{"a": 1}], object))
    refused(tmp_path)


def test_any_damage_of_the_bytes_is_an_error_in_words(tmp_path: Path) -> None:
    record().write(tmp_path)
    path = tmp_path / IMAGES
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    lengths = [0, 1, 10, len(whole) // 2, len(whole) - 1]
    damaged = [whole[:length] for length in lengths]
    for _ in range(200):
        one = bytearray(whole)
        for place in rng.integers(0, len(one), 3):
            one[place] = rng.integers(0, 256)
        damaged.append(bytes(one))
    raised = 0
    for content in damaged:
        path.write_bytes(content)
        try:
            Record.read(tmp_path)
        except CheckpointError:
            raised += 1
    assert raised > 100  # some bytes, such as times in the zip file, change nothing


def test_a_file_that_claims_to_be_huge_is_refused_before_it_is_read(tmp_path: Path) -> None:
    header = b"\x93NUMPY\x01\x00\x76\x00"
    header += b"{'descr': '|u1', 'fortran_order': False, 'shape': (4000000000000,), }".ljust(117) + b"\n"
    with zipfile.ZipFile(tmp_path / IMAGES, "w") as file:
        file.writestr("record.npy", header)
    refused(tmp_path)


@pytest.mark.parametrize("header", ["(((", "{'descr': 1 +}", "  x\n y"])
def test_a_header_that_is_not_pythons_is_refused(header: str, tmp_path: Path) -> None:
    content = header.encode().ljust(117) + b"\n"
    with zipfile.ZipFile(tmp_path / IMAGES, "w") as file:
        file.writestr("record.npy", b"\x93NUMPY\x01\x00\x76\x00" + content)
    refused(tmp_path)


def test_a_compression_that_no_evaluation_writes_is_refused(tmp_path: Path) -> None:
    for name in (IMAGES, PREDICTIONS):
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_LZMA) as file:
            file.writestr("0.png", bytes(1000))
        content = bytearray((tmp_path / name).read_bytes())
        content[50:60] = bytes(10)  # for which LZMA has an error of its own
        (tmp_path / name).write_bytes(content)
    refused(tmp_path)
    with pytest.raises(CheckpointError, match="compressed with method 14"):
        Predictions(tmp_path)


def test_arrays_that_are_together_too_large_are_refused(tmp_path: Path) -> None:
    record().write(tmp_path)
    with (
        mock.patch.object(records, "MOST_BYTES", 1000),
        pytest.raises(CheckpointError, match="more than 1,000"),
    ):
        Record.read(tmp_path)


# --- predictions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_predictions_are_read_back(dtype: type, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ids = {index: rng.integers(0, np.iinfo(dtype).max, (20 + index, 30), dtype) for index in (0, 7, 12)}
    write_predictions(tmp_path, {index: as_png(one) for index, one in ids.items()})
    found = Predictions(tmp_path)
    assert found.indices() == {0, 7, 12}
    for index, one in ids.items():
        own = found.ids(index)
        assert own is not None
        assert own.dtype == dtype
        assert np.array_equal(own, one)
    assert found.ids(1) is None


def test_without_a_file_there_are_no_predictions(tmp_path: Path) -> None:
    assert Predictions(tmp_path).indices() == set()
    assert Predictions(tmp_path).ids(0) is None


@pytest.mark.parametrize("size", [(512, 512), (513, 100), (1024, 2048), (3000, 2)])
def test_a_large_prediction_is_kept_smaller_without_new_ids(size: tuple[int, int]) -> None:
    ids = np.random.default_rng(0).choice(np.array([3, 9, 77], np.uint8), size)
    found = shrunk(ids)
    assert max(found.shape) == min(max(size), SIDE)
    assert set(np.unique(found)) <= {3, 9, 77}
    assert (
        abs(found.shape[0] / found.shape[1] - size[0] / size[1]) < 0.02 * max(size[0] / size[1], 1)
        or min(found.shape) == 1
    )


def zipped(folder: Path, files: dict[str, bytes]) -> None:
    with zipfile.ZipFile(folder / PREDICTIONS, "w") as file:
        for name, content in files.items():
            file.writestr(name, content)


def png(image: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".png", image)[1])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x89PNG\r\n\x1a\n",
        png(np.zeros((4, 4, 3), np.uint8)),
        png(np.zeros((SIDE + 1, 4), np.uint8)),
        png(np.zeros((4, 4), np.uint8))[:-30],
        bytes(5 << 20),
    ],
    ids=["empty", "header", "colours", "large", "cut", "bytes"],
)
def test_a_damaged_prediction_is_an_error_in_words(content: bytes, tmp_path: Path) -> None:
    zipped(tmp_path, {"0.png": content})
    with pytest.raises(CheckpointError, match="predictions.zip is damaged"):
        Predictions(tmp_path).ids(0)


@pytest.mark.parametrize("name", ["x.png", "../0.png", "folder/", ""])
def test_another_name_is_an_error_in_words(name: str, tmp_path: Path) -> None:
    zipped(tmp_path, {name or "0x.png": b""})
    with pytest.raises(CheckpointError, match="predictions.zip is damaged"):
        Predictions(tmp_path)


def test_a_file_that_is_no_zip_is_an_error_in_words(tmp_path: Path) -> None:
    (tmp_path / PREDICTIONS).write_bytes(b"PK" + bytes(100))
    with pytest.raises(CheckpointError, match="predictions.zip is damaged"):
        Predictions(tmp_path)


def test_a_header_that_lies_about_its_size_decodes_nothing(tmp_path: Path) -> None:
    content = bytearray(png(np.zeros((4, 4), np.uint8)))
    content[16:24] = (60_000).to_bytes(4, "big") * 2
    zipped(tmp_path, {"0.png": bytes(content)})
    with pytest.raises(CheckpointError, match="at most 512 pixels"):
        Predictions(tmp_path).ids(0)
    assert io.BytesIO(content).getbuffer().nbytes < 200


def test_a_record_is_replaced_whole(tmp_path: Path) -> None:
    record().write(tmp_path)
    replace(record(), step=9).write(tmp_path)
    assert Record.read(tmp_path).step == 9
    assert [path.name for path in tmp_path.iterdir()] == [IMAGES]
