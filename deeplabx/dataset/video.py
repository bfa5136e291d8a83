"""Videos, read and written with OpenCV, whose wheels hold FFmpeg. Sound is neither read nor written."""

import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from deeplabx.errors import DataError, ResourceError, listed

# FFmpeg's own words for each damaged packet: what they lead to is said by `VideoFile.complaint`.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
CODEC = "mp4v"  # MPEG-4 part 2, which every build of OpenCV has
COUNTED = (".mp4", ".m4v", ".mov", ".avi")  # formats that state how many frames there are
FALLBACK_RATE = 25.0  # frames a second of a file that states none


class Properties(NamedTuple):
    """What the header of a video says."""

    frames: int  # 0: unknown
    rate: float  # frames a second
    size: tuple[int, int]  # width, height; as it is shown


class VideoFile:
    """The frames of a video in order, upright. Iterating reads the file from its start; `complaint` says
    afterwards what was missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        capture = opened(path)
        frames, rate, width, height = (
            capture.get(key)
            for key in (
                cv2.CAP_PROP_FRAME_COUNT,
                cv2.CAP_PROP_FPS,
                cv2.CAP_PROP_FRAME_WIDTH,
                cv2.CAP_PROP_FRAME_HEIGHT,
            )
        )
        readable = any(capture.read()[0] for _ in range(max(1, int(frames))))
        capture.release()
        if not readable:
            raise DataError(f"{path}: no frame of this video can be read", hint="is it damaged, or empty?")
        known_rate = rate if np.isfinite(rate) and 0 < rate <= 1000 else FALLBACK_RATE
        self.properties = Properties(max(0, int(frames)), known_rate, (int(width), int(height)))
        self.missing: list[int] = []  # numbers of the frames that the last reading could not decode

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        """The number of each frame, from 0, and its pixels, uint8 H x W x 3, RGB."""
        capture = opened(self.path)
        self.missing = []
        promised = self.properties.frames
        try:
            for number in itertools.count():
                readable, frame = capture.read()  # not readable: a damaged frame, or the end
                if readable:
                    yield number, cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
                elif number < promised:
                    self.missing.append(number)
                else:
                    return
        finally:
            capture.release()

    @property
    def complaint(self) -> str:
        """What the header promises and the last reading did not give, in words; "" for nothing."""
        promised, missing = self.properties.frames, self.missing
        ended_early = missing == list(range(promised - len(missing), promised))
        if not missing or (ended_early and len(missing) <= self.uncertain):
            return ""
        said = f"{self.path}: {len(missing)} of {promised} frames cannot be read"
        if ended_early:
            return f"{said}: it ends after frame {promised - len(missing) - 1}"
        return f"{said}: {listed(map(str, missing))}"

    @property
    def uncertain(self) -> int:
        """By how many frames the header may be wrong: most formats only state a length in seconds."""
        return 0 if self.path.suffix.lower() in COUNTED else max(2, self.properties.frames // 50)


def opened(path: Path) -> Any:
    try:
        capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    except UnicodeError:
        raise DataError(f"{path!r}: the name of a video must be UTF-8", hint="rename it") from None
    if not capture.isOpened():
        raise DataError(
            f"{path}: not a readable video",
            hint="frames as images are read too: ffmpeg -i VIDEO frames/%06d.png",
        )
    capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)  # phones store upright videos turned
    return capture


def write_video(path: Path, frames: Iterable[np.ndarray], *, rate: float, size: tuple[int, int]) -> int:
    """uint8 RGB frames, H x W x 3, as an MP4; their number. size: width, height; where it is odd, the last
    column or row is lost. Raises ResourceError where the file does not hold all of them.
    """
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*CODEC), rate, size)
    if not writer.isOpened():
        raise ResourceError(f"{path} cannot be written as a video ({CODEC}, {size[0]} x {size[1]})")
    count = 0
    try:
        for frame in frames:
            writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
            count += 1
    finally:
        writer.release()
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)  # the writer does not say that a disk is full
    held = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
    capture.release()
    if held != count:
        raise ResourceError(
            f"{path}: {held} of {count} frames were written", hint="is the disk full? Free some space"
        )
    return count
