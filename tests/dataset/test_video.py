import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from deeplabx.dataset.video import VideoFile, write_video
from deeplabx.errors import DataError

SIZE = (64, 48)


def frames(count: int = 30) -> Iterator[np.ndarray]:
    """A bar that grows by six pixels a frame."""
    for number in range(count):
        frame = np.full((SIZE[1], SIZE[0], 3), 40, np.uint8)
        frame[:16, : 2 * (number + 1)] = (230, 20, 60)
        yield frame


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    assert write_video(tmp_path / "clip.mp4", frames(), rate=12.5, size=SIZE) == 30
    return tmp_path / "clip.mp4"


def content(path: Path) -> tuple[bytearray, int, int]:
    """A video's bytes, and where its frames begin and end in them."""
    found = bytearray(path.read_bytes())
    return found, found.find(b"mdat") + 4, found.find(b"moov") - 4


def test_what_is_written_is_read_again(clip: Path) -> None:
    video = VideoFile(clip)
    assert video.properties == (30, 12.5, SIZE)
    for (number, read), (expected, written) in zip(video, enumerate(frames()), strict=True):
        assert number == expected
        assert np.abs(read.astype(int) - written).mean() < 4  # it is compressed
    assert video.complaint == ""


def test_damaged_frames_are_named(clip: Path) -> None:
    found, begin, end = content(clip)
    third, half = begin + (end - begin) // 3, begin + (end - begin) // 2
    found[third:half] = bytes(half - third)
    clip.write_bytes(found)
    video = VideoFile(clip)
    numbers = [number for number, _ in video]
    missing = sorted(set(range(30)) - set(numbers))
    assert 0 < len(missing) < 30
    assert video.complaint.startswith(f"{clip}: {len(missing)} of 30 frames cannot be read")
    assert str(missing[0] if missing[-1] != 29 else missing[0] - 1) in video.complaint


def test_a_video_that_ends_early_says_after_which_frame(clip: Path) -> None:
    found, begin, end = content(clip)
    half = begin + (end - begin) // 2
    found[half:end] = bytes(end - half)
    clip.write_bytes(found)
    video = VideoFile(clip)
    last = max(number for number, _ in video)
    assert last < 29
    assert video.complaint == f"{clip}: {29 - last} of 30 frames cannot be read: it ends after frame {last}"


def test_a_turned_video_is_read_upright(clip: Path) -> None:
    found, _, _ = content(clip)
    matrix = found.find(b"tkhd") + 44
    found[matrix : matrix + 36] = struct.pack(">9i", 0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000)
    clip.write_bytes(found)
    video = VideoFile(clip)
    assert video.properties.size == (48, 64)
    _, frame = next(iter(video))
    assert frame.shape == (64, 48, 3)
    assert frame[0, -1, 0] > 150  # the bar's corner was at the left, and is at the right
    assert frame[0, 0, 0] < 100


@pytest.mark.parametrize("held", [b"", b"no video"])
def test_what_is_no_video_is_an_error(tmp_path: Path, held: bytes) -> None:
    (tmp_path / "a.mp4").write_bytes(held)
    with pytest.raises(DataError, match="a.mp4: not a readable video"):
        VideoFile(tmp_path / "a.mp4")
