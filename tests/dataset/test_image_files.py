import struct
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from deeplabx.dataset import image_file
from deeplabx.dataset.image_file import read_image
from deeplabx.dataset.label_file import read_colours, read_label, read_pair, read_raw
from deeplabx.dataset.writing import write_ids, write_image
from deeplabx.errors import DataError

IDS = partial(read_raw, colours=False)
PALETTE = [(0, 0, 0), (200, 10, 10), (10, 200, 10)]


def test_palette_and_grey_labels_are_read_as_ids(tmp_path: Path) -> None:
    ids = np.random.default_rng(0).integers(0, 3, (7, 9), dtype=np.uint8)
    ids[0, 0] = 255
    write_ids(tmp_path / "palette.png", ids, PALETTE)
    Image.fromarray(ids).save(tmp_path / "grey.png")
    with Image.open(tmp_path / "palette.png") as written:
        assert written.mode == "P"
    assert (read_label(tmp_path / "palette.png") == ids).all()
    assert (read_label(tmp_path / "grey.png") == ids).all()


def test_one_bit_and_sixteen_bit_labels(tmp_path: Path) -> None:
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "bit.png")
    assert read_label(tmp_path / "bit.png").tolist() == [[1, 0]]
    Image.fromarray(np.array([[3, 200]], dtype=np.uint16)).save(tmp_path / "wide.png")
    assert read_label(tmp_path / "wide.png").tolist() == [[3, 200]]
    Image.fromarray(np.array([[3, 300]], dtype=np.uint16)).save(tmp_path / "wider.png")
    assert read_label(tmp_path / "wider.png").tolist() == [[3, 300]]


def test_a_colour_label_is_an_error_that_lists_its_colours(tmp_path: Path) -> None:
    Image.fromarray(np.array([[[1, 2, 3], [128, 0, 0]]], dtype=np.uint8)).save(tmp_path / "rgb.png")
    with pytest.raises(DataError, match=r"RGB with 2 colours: \(1, 2, 3\), \(128, 0, 0\)"):
        read_label(tmp_path / "rgb.png")


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_any_image_becomes_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
    Image.new("RGB", (5, 4), (255, 255, 255)).convert(mode).save(path)
    assert read_image(path).shape == (4, 5, 3)
    assert (read_image(path) == 255).all()


@pytest.mark.parametrize("content", [b"", b"text", b"\x89PNG\r\n\x1a\n cut", b"\xff\xd8\xff\xe0 cut"])
def test_a_file_that_is_no_image_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.png").write_bytes(content)
    for read in (read_image, read_label):
        with pytest.raises(DataError, match="bad.png"):
            read(tmp_path / "bad.png")


def test_a_truncated_jpeg_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "cut.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(DataError, match="cut.jpg"):
        read_image(path)


def test_sixteen_bit_images_are_refused_not_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 4000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(DataError, match="more than 8 bits"):
        read_image(tmp_path / "deep.png")


def test_size_is_checked_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (100, 100)).save(tmp_path / "large.png")
    monkeypatch.setattr(image_file, "MAX_PIXELS", 9_999)
    with pytest.raises(DataError, match="100 x 100 pixels exceed the limit"):
        read_image(tmp_path / "large.png")


def save_rotated(path: Path, width: int, height: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees
    Image.new("RGB", (width, height)).save(path, exif=exif)


def test_exif_orientation_is_applied_where_it_makes_the_sizes_agree(tmp_path: Path) -> None:
    save_rotated(tmp_path / "photo.jpg", 8, 6)
    assert read_image(tmp_path / "photo.jpg").shape == (8, 6, 3)
    for name, size in (("stored", (8, 6)), ("shown", (6, 8))):
        Image.new("L", size).save(tmp_path / f"{name}.png")
        image, label = read_pair(tmp_path / "photo.jpg", tmp_path / f"{name}.png", read=IDS)
        assert image.shape[:2] == label.values.shape == size[::-1]
    Image.new("L", (5, 5)).save(tmp_path / "other.png")
    with pytest.raises(DataError, match=r"is 8 x 6 but .*other.png is 5 x 5"):
        read_pair(tmp_path / "photo.jpg", tmp_path / "other.png", read=IDS)


def test_a_turned_image_that_fits_both_ways_is_refused(tmp_path: Path) -> None:
    save_rotated(tmp_path / "square.jpg", 8, 8)
    Image.new("L", (8, 8)).save(tmp_path / "square.png")
    with pytest.raises(
        DataError, match=r"square.jpg is rotated by EXIF, .*square.png matches with and without it"
    ):
        read_pair(tmp_path / "square.jpg", tmp_path / "square.png", read=IDS)


@pytest.mark.parametrize("channels", [3, 4])
def test_sixteen_bits_per_channel_are_refused_not_cut(tmp_path: Path, channels: int) -> None:
    for name in ("deep.png", "deep.tif"):
        cv2.imwrite(str(tmp_path / name), np.full((4, 4, channels), 200, np.uint16))
        for read in (read_image, read_colours):
            with pytest.raises(DataError, match=f"{name}: its 16 bits per channel would be truncated to 8"):
                read(tmp_path / name)


@pytest.mark.parametrize("error", [TypeError, struct.error, AttributeError, ZeroDivisionError, KeyError])
def test_whatever_pillow_raises_is_told_of_the_file(
    tmp_path: Path, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def odd(image: Image.Image) -> Image.Image:
        raise error("odd EXIF")

    save_rotated(tmp_path / "odd.jpg", 8, 6)
    monkeypatch.setattr(Image.Image, "getexif", odd)
    with pytest.raises(DataError, match="odd.jpg: .*odd EXIF"):
        read_image(tmp_path / "odd.jpg")


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "link.png").symlink_to(tmp_path / "elsewhere.png")
    for write in (
        lambda path: write_ids(path, np.zeros((2, 2), np.uint8), PALETTE),
        lambda path: write_image(path, np.zeros((2, 2, 3), np.uint8)),
    ):
        with pytest.raises(DataError, match="link.png is a link, which is never written through"):
            write(tmp_path / "link.png")
    assert not (tmp_path / "elsewhere.png").exists()


def test_a_png_whose_checksums_are_wrong_is_damaged(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "half.png"
    Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))
    with pytest.raises(DataError, match=r"half.png"):
        read_image(path)
