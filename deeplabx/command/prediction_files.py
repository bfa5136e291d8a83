"""The files of one predicted image or frame: each exists whole or not at all."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deeplabx.dataset.annotations import write_geojson
from deeplabx.dataset.contract import Palette
from deeplabx.dataset.submission import save_submitted
from deeplabx.dataset.writing import place_for, save_ids, save_image
from deeplabx.engine.durable import unfinished
from deeplabx.report.overlay import colourised, overlay


@dataclass(frozen=True)
class Frame:
    """An image, or a frame of a video, before it is predicted."""

    name: str
    pixels: np.ndarray  # uint8 H x W x channels
    files: Mapping[str, Path]  # to be written, by what they are
    written: Callable[[], None] = lambda: None  # called when they all are


@dataclass(frozen=True)
class Predicted:
    """What was predicted of a frame."""

    ids: np.ndarray  # H x W, of the dtype that they are stored in
    probabilities: np.ndarray | None  # float16 C x H x W

    @property
    def nbytes(self) -> int:
        return self.ids.nbytes + (0 if self.probabilities is None else self.probabilities.nbytes)


@dataclass(frozen=True)
class Writer:
    """Writes what is asked for. submission: the test server whose layout the file `submission` has."""

    classes: list[str]
    palette: Palette
    submission: str | None = None

    def write(self, frame: Frame, predicted: Predicted) -> None:
        """All files of a frame; called in threads."""
        for kind, path in frame.files.items():
            with unfinished(place_for(path)) as temporary:
                self.write_one(kind, temporary, frame, predicted)
                temporary.rename(path)
        frame.written()

    def write_one(self, kind: str, path: Path, frame: Frame, predicted: Predicted) -> None:
        ids = predicted.ids
        if kind == "ids":
            save_ids(path, ids, self.palette)
        elif kind == "colour":
            save_image(path, colourised(ids, self.palette))
        elif kind == "overlay":
            save_image(path, overlay(frame.pixels, ids, self.palette))
        elif kind == "polygons":
            write_geojson(path, ids, classes=self.classes, name=frame.name)
        elif kind == "submission":
            assert self.submission is not None
            save_submitted(path, ids, server=self.submission)
        else:
            assert kind == "probabilities"
            assert predicted.probabilities is not None
            with path.open("wb") as file:  # np.save would add a suffix to a path
                np.save(file, predicted.probabilities)
