import io
import os
import struct
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import pytest
from PIL import Image

from deeplabx.dataset import image_file
from deeplabx.dataset.image_file import as_image, header_of, read_image
from deeplabx.dataset.label_file import read_colours, read_label, read_pair, read_raw
from deeplabx.dataset.writing import write_ids, write_image
from deeplabx.errors import DataError
from tests.dataset import by_hand

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


# --- modes --------------------------------------------------------------------------------------------------

PIXELS = np.kron(
    np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8), np.ones((8, 8, 1), "u1")
)


def read_bytes(folder: Path, content: bytes, **options: Any) -> np.ndarray:
    (folder / "image").write_bytes(content)
    return read_image(folder / "image", **options)


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def test_other_colour_models_are_read_as_they_are_shown(tmp_path: Path) -> None:
    image = Image.fromarray(PIXELS)
    for content in (
        encoded(image.convert("CMYK"), "TIFF"),
        encoded(image.convert("CMYK"), "JPEG", quality=100, subsampling=0),  # Adobe's, inverted
        encoded(image.convert("YCbCr"), "JPEG", quality=100, subsampling=0),
        encoded(image.convert("YCbCr"), "TIFF"),
        encoded(image, "TIFF", compression="jpeg", quality=100),
    ):
        found = read_bytes(tmp_path, content)
        assert np.abs(found.astype(int) - PIXELS).mean() < 4
    assert (read_bytes(tmp_path, encoded(image, "WEBP", lossless=True)) == PIXELS).all()


def test_grey_images_are_scaled_as_viewers_do(tmp_path: Path) -> None:
    for bits in (1, 2, 4, 8):
        samples = PIXELS[..., 0] >> (8 - bits)
        shown = (samples.astype(int) * 255 // (2**bits - 1))[..., None].repeat(3, axis=2)
        assert (read_bytes(tmp_path, by_hand.png(samples, bits=bits)) == shown).all()
        for photometric in (0, 1):
            content = by_hand.tiff((samples, {258: [bits], 262: [photometric]}))
            expected = 255 - shown if photometric == 0 else shown
            assert (read_bytes(tmp_path, content) == expected).all()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (encoded(Image.new("LAB", (4, 3)), "TIFF"), "colour mode LAB is not supported"),
        (encoded(Image.new("F", (4, 3)), "TIFF"), "mode F has more than 8 bits"),
        (by_hand.netpbm(np.zeros((3, 4, 3), int), "P6", 4095), "its 12 bits per channel would be truncated"),
        (by_hand.netpbm(np.zeros((3, 4), int), "P5", 4095), "mode I has more than 8 bits"),
        (by_hand.png(np.zeros((3, 4, 2), int), bits=16, colour=4), "its 16 bits per channel would be trunc"),
        (
            by_hand.tiff((np.zeros((3, 4, 4), int), {262: [1], 338: [0] * 3})),
            "a TIFF of 4 channels of 8 bits, grey",
        ),
        (by_hand.tiff((np.zeros((3, 4, 3), int), {258: [32] * 3})), "a TIFF of 3 channels of 32 bits, RGB"),
        (b"", "the file is empty"),
        (b"no image at all", "not a readable image"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer; git lfs pull fetches the file"),
        (b"\n<!DOCTYPE html><html>", "an HTML page"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC or AVIF"),
        (b"MM\0+\0\x08\0\0" + bytes(40), "a BigTIFF of big-endian byte order"),
    ],
)
def test_what_is_not_read_is_refused_in_words(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_bytes(tmp_path, content)


@pytest.mark.parametrize("name", ["folder", "pipe", "nothing"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    words = {"folder": "is a folder", "pipe": "is not a regular file", "nothing": "does not exist"}
    for read in (read_image, read_label):
        with pytest.raises(DataError, match=words[name]):
            read(tmp_path / name)


# --- pages --------------------------------------------------------------------------------------------------


def pages(form: str, number: int, **options: Any) -> bytes:
    first, *others = (Image.fromarray(PIXELS ^ (40 * index)) for index in range(number))
    return encoded(first, form, save_all=True, append_images=others, **options)


SEVERAL = {
    "TIFF": (pages("TIFF", 5), 5),
    "APNG": (pages("PNG", 3), 3),
    "APNG with a default image beside it": (pages("PNG", 3, default_image=True), 3),
    "GIF": (pages("GIF", 4), 4),
    "WebP": (pages("WEBP", 2, lossless=True), 2),
    "BigTIFF": (by_hand.tiff(*[(PIXELS, {})] * 3, big=True), 3),
    "a transparency mask": (
        by_hand.tiff((PIXELS, {}), (PIXELS[..., 0] & 1, {254: [4], 262: [4], 258: [1]})),
        2,
    ),
    "two PPM": (by_hand.netpbm(PIXELS, "P6", 255) * 2, 2),
    "three PGM": (by_hand.netpbm(PIXELS[..., 0], "P5", 255, comment="# a\n") * 3, 3),
    "two PBM": (by_hand.netpbm(PIXELS[..., 0] & 1, "P4") * 2, 2),
}


@pytest.mark.parametrize("name", SEVERAL)
def test_several_pages_are_refused_with_their_number(tmp_path: Path, name: str) -> None:
    content, number = SEVERAL[name]
    (tmp_path / "image").write_bytes(content)
    for read in (
        read_image,
        read_label,
        read_colours,
        partial(header_of, mask=False),
        partial(header_of, mask=True),
    ):
        with pytest.raises(
            DataError, match=f"image has {number} pages or frames, of which only one would be used"
        ):
            read(tmp_path / "image")


def test_overviews_and_other_views_of_a_photo_are_no_pages(tmp_path: Path) -> None:
    ids = PIXELS[..., 0]
    for order in "<>":
        content = by_hand.tiff(
            (ids, {}), (ids[::2, ::2], {254: [1]}), (ids[::4, ::4], {255: [2]}), order=order
        )
        assert (read_bytes(tmp_path, content)[..., 0] == ids).all()
        assert (read_label(tmp_path / "image") == ids).all()
    assert read_bytes(tmp_path, pages("MPO", 2)).shape == PIXELS.shape
    assert (read_bytes(tmp_path, pages("GIF", 1)).shape) == PIXELS.shape
    assert (read_bytes(tmp_path, pages("PNG", 1)) == PIXELS).all()
    with pytest.raises(DataError, match=r"its first page is a reduced copy of another page \(2 pages\)"):
        read_bytes(tmp_path, by_hand.tiff((ids[::2, ::2], {254: [1]}), (ids, {})))


# --- channels -----------------------------------------------------------------------------------------------

FOUR = np.dstack([PIXELS, PIXELS[::-1, :, 0]])


def test_transparency_is_refused_unless_channels_are_chosen(tmp_path: Path) -> None:
    hole = np.full(PIXELS.shape[:2], 255, np.uint8)
    hole[:2, :5] = 200
    with_hole, opaque = np.dstack([PIXELS, hole]), np.dstack([PIXELS, np.full_like(hole, 255)])
    for form in ("PNG", "TIFF", "WEBP"):
        options = {"lossless": True, "exact": True} if form == "WEBP" else {}
        content = encoded(Image.fromarray(with_hole), form, **options)
        with pytest.raises(
            DataError, match=r"image: 10 of 4,032 pixels are transparent\n'dataset.channels=\[0,1,2\]'"
        ):
            read_bytes(tmp_path, content)
        assert (read_image(tmp_path / "image", channels=[0, 1, 2]) == PIXELS).all()
        assert (read_image(tmp_path / "image", channels=[3, 1, 1])[..., 0] == hole).all()
        assert (read_bytes(tmp_path, encoded(Image.fromarray(opaque), form, **options)) == PIXELS).all()
    grey = by_hand.png(with_hole[..., 2:], colour=4)
    with pytest.raises(DataError, match="10 of 4,032 pixels are transparent"):
        read_bytes(tmp_path, grey)
    assert (read_image(tmp_path / "image", channels=[0, 1, 2]) == PIXELS[..., 2:]).all()
    palette = Image.fromarray(PIXELS).quantize(9)
    shown = np.array(palette.convert("RGB"))
    content = encoded(palette, "PNG", transparency=3)
    with pytest.raises(DataError, match="pixels are transparent"):
        read_bytes(tmp_path, content)
    assert (read_image(tmp_path / "image", channels=[0, 1, 2]) == shown).all()


@pytest.mark.parametrize("extra", [None, 0, 1, 2])
@pytest.mark.parametrize("tags", [{}, {259: [8]}, {322: [16], 323: [16]}, {274: [6]}])
@pytest.mark.parametrize("order", "<>")
def test_any_of_four_channels_can_be_chosen(
    tmp_path: Path, extra: int | None, tags: dict[int, list[int]], order: str
) -> None:
    """A fourth channel, such as near infrared, may be said to be anything."""
    said = {} if extra is None else {338: [extra]}
    content = by_hand.tiff((FOUR, {**said, **tags}), order=order)
    with pytest.raises(
        DataError, match="4 channels per pixel, of which 3" if extra == 0 else "are transparent"
    ):
        read_bytes(tmp_path, content)
    for channels in ([0, 1, 2], [3, 2, 1], [3, 3, 0]):
        found = read_image(tmp_path / "image", upright=False, channels=channels)
        assert (found == FOUR[..., channels]).all()
    with pytest.raises(DataError, match=r"dataset.channels=\[0, 1, 4\], but .*image has 4 channels"):
        read_image(tmp_path / "image", channels=[0, 1, 4])


def test_channels_beyond_those_that_are_read(tmp_path: Path) -> None:
    six = by_hand.tiff((np.dstack([FOUR, FOUR[..., :2]]), {338: [0, 0, 0]}))
    with pytest.raises(DataError, match="6 channels per pixel, of which 3 would be used"):
        read_bytes(tmp_path, six)
    assert (read_image(tmp_path / "image", channels=[2, 1, 0]) == FOUR[..., 2::-1]).all()
    with pytest.raises(DataError, match="3 channels that can be read"):
        read_image(tmp_path / "image", channels=[0, 1, 3])
    with pytest.raises(DataError, match="3 channels that can be read"):
        read_bytes(tmp_path, encoded(Image.fromarray(PIXELS), "JPEG"), channels=[1, 2, 3])


def test_images_from_python_follow_the_same_rules(tmp_path: Path) -> None:
    image = Image.fromarray(FOUR)
    with pytest.raises(DataError, match="the PIL image: .* pixels are transparent"):
        as_image(image)
    assert (as_image(image, selected=[0, 1, 2]) == PIXELS).all()
    assert (as_image(FOUR, selected=[3, 1, 0]) == FOUR[..., [3, 1, 0]]).all()
    with pytest.raises(DataError, match="the array has 4 channels"):
        as_image(FOUR, selected=[3, 1, 7])
    for mode in ("LAB", "HSV"):
        with pytest.raises(DataError, match=f"colour mode {mode} is not supported"):
            as_image(Image.new(mode, (4, 3)))
    (tmp_path / "pages.tif").write_bytes(pages("TIFF", 3))
    with Image.open(tmp_path / "pages.tif") as stack:
        with pytest.raises(DataError, match="the PIL image has 3 pages or frames"):
            as_image(stack)
        stack.seek(1)
        assert (as_image(stack) == PIXELS ^ 40).all()
    with Image.open(io.BytesIO(by_hand.tiff((FOUR, {338: [0]})))) as dropped:
        with pytest.raises(DataError, match="4 channels per pixel, of which 3 would be used"):
            as_image(dropped)
        assert (as_image(dropped, selected=[0, 1, 2]) == PIXELS).all()


def test_a_file_is_opened_once(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(Image.fromarray(PIXELS), "PNG"))
    (tmp_path / "m.png").write_bytes(encoded(Image.fromarray(PIXELS[..., 0]), "PNG"))
    with mock.patch.object(Path, "open", autospec=True, side_effect=Path.open) as opening:
        read_pair(tmp_path / "a.png", tmp_path / "m.png", read=IDS)
    assert [call.args[0].name for call in opening.call_args_list] == ["m.png", "a.png"]


@pytest.mark.parametrize("bands", [4, 8])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_tiff_of_bands_says_how_to_save_it(tmp_path: Path, dtype: type, bands: int) -> None:
    """As satellites' products are: grey for TIFF, and not what the list of formats helps with."""
    path = tmp_path / "bands.tif"
    form = 3 if dtype is np.float32 else 1
    samples: np.ndarray = np.zeros((8, 8, bands), dtype)
    tags = {262: (1,), 258: (8 * samples.itemsize,) * bands, 338: (0,) * (bands - 1), 339: (form,) * bands}
    path.write_bytes(by_hand.tiff((samples.astype(int), tags)))
    with pytest.raises(
        DataError, match=rf"a TIFF of {bands} channels of {8 * samples.itemsize} bits"
    ) as raised:
        read_image(path)
    assert "three channels of 8 bits as RGB" in raised.value.hint


@pytest.mark.parametrize(("dtype", "form"), [(np.float32, 3), (np.float64, 3), (np.int64, 2), (np.uint64, 1)])
def test_a_mask_of_wide_samples_says_how_to_save_it(tmp_path: Path, dtype: type, form: int) -> None:
    path = tmp_path / "wide.tif"
    bits = 8 * np.dtype(dtype).itemsize
    path.write_bytes(by_hand.tiff((np.zeros((8, 8), int), {258: (bits,), 339: (form,)})))
    with pytest.raises(DataError) as raised:
        read_label(path)
    assert "whole numbers of 8 or 16 bits" in raised.value.hint


def test_a_negative_id_is_answered_with_void(tmp_path: Path) -> None:
    path = tmp_path / "nodata.tif"
    samples = np.array([[0, 65536 - 9999]])
    path.write_bytes(by_hand.tiff((samples, {258: (16,), 339: (2,)})))
    with pytest.raises(DataError, match=r"1 ids are not from 0 to 65535, the first: -9999") as raised:
        read_label(path)
    assert "ignore: [255]" in raised.value.hint
