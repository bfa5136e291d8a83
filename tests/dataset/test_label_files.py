"""Masks are read by what they are: samples as they are stored, and nothing of a file left out in silence."""

import io
import struct
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from deeplabx.dataset.files import LabelledFiles
from deeplabx.dataset.folder import Folder
from deeplabx.dataset.image_file import header_of, read_image
from deeplabx.dataset.label_file import read_colours, read_label, read_pair, read_raw
from deeplabx.dataset.labels import LabelMap
from deeplabx.dataset.writing import write_image
from deeplabx.errors import DataError
from tests.dataset.by_hand import bmp, chunk, exif, netpbm, packed, png, tiff

IDS = np.random.default_rng(0).integers(0, 256, (37, 53), dtype=np.uint8)  # odd: rows end within a byte
GREY = {258: [8], 262: [1]}


def below(bits: int) -> np.ndarray:
    """IDS of so many bits, each of which occurs."""
    return IDS & (2**bits - 1)


def read(path: Path, content: bytes, **options: Any) -> np.ndarray:
    path.write_bytes(content)
    return read_label(path, **options)


def encoded(image: Image.Image | np.ndarray, form: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(file, form, **options)
    return file.getvalue()


# --- samples ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_grey_of_few_bits_keeps_its_samples(tmp_path: Path, bits: int) -> None:
    ids = below(bits)
    assert (read(tmp_path / "a.png", png(ids, bits=bits)) == ids).all()
    for order in "<>":
        for big in (False, True) if order == "<" else (False,):
            for tags in (
                {},
                {259: [8]},
                {259: [32946]},
                {322: [16], 323: [16]},
                {322: [16], 323: [16], 259: [8]},
            ):
                for photometric in (0, 1):  # of 0, 0 is white
                    page = (ids, {258: [bits], 262: [photometric], **tags})
                    found = read(tmp_path / "a.tif", tiff(page, order=order, big=big))
                    assert (found == ids).all(), (order, big, tags, photometric)


@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("tags", [{}, {259: [8]}, {322: [16], 323: [16], 259: [8]}])
@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize("signed", [1, 2])
def test_ids_of_16_and_32_bits(
    tmp_path: Path, bits: int, order: str, tags: dict[int, list[int]], photometric: int, signed: int
) -> None:
    ids = IDS.astype(np.int64) * (128 if signed == 2 else 257)
    page = (ids, {258: [bits], 262: [photometric], 339: [signed], **tags})
    assert (read(tmp_path / "a.tif", tiff(page, order=order)) == ids).all()


def test_ids_beyond_16_bits_and_below_0_are_refused(tmp_path: Path) -> None:
    ids = np.array([[0, 1, 70_000]])
    path = tmp_path / "a.tif"
    with pytest.raises(DataError, match="a.tif: 1 ids are not from 0 to 65535, the first: 70000"):
        read(path, tiff((ids, {258: [32], 262: [1]})))
    for bits in (8, 16, 32):
        with pytest.raises(DataError, match="1 ids are not from 0 to 65535, the first: -1"):
            read(path, tiff((np.array([[0, -1 % 2**bits]]), {258: [bits], 262: [1], 339: [2]})))
    for bits in (32, 64):
        values = struct.unpack(
            *(("<2I", struct.pack("<2f", 0, 1)) if bits == 32 else ("<2Q", struct.pack("<2d", 0, 1)))
        )
        with pytest.raises(DataError, match=r"floating point"):
            read(path, tiff((np.array([values], np.uint64), {258: [bits], 262: [1], 339: [3]})))
    with pytest.raises(DataError, match="whole numbers, not floating point"):
        read(tmp_path / "a.pfm", b"Pf\n1 1\n-1.0\n" + struct.pack("<f", 1))


@pytest.mark.parametrize("maximum", [1, 3, 11, 20, 200, 255, 300, 4095, 65_535])
@pytest.mark.parametrize("kind", ["P2", "P5"])
def test_pgm_keeps_samples_whatever_its_maximum(tmp_path: Path, maximum: int, kind: str) -> None:
    ids = np.random.default_rng(1).integers(0, maximum + 1, (7, 9))
    content = netpbm(ids, kind, maximum, comment="# by hand\n")
    assert (read(tmp_path / "a.pgm", content) == ids).all()
    assert (read(tmp_path / "named.png", content) == ids).all()


@pytest.mark.parametrize("kind", ["P1", "P4"])
def test_a_pbm_is_read_as_it_is_shown(tmp_path: Path, kind: str) -> None:
    content = netpbm(1 - below(1), kind)  # of a PBM, 1 is black
    assert (read(tmp_path / "a.pbm", content) == below(1)).all()
    assert (read(tmp_path / "a.pbm", content, white=255) == below(1) * 255).all()
    shown = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert shown is not None
    assert (shown == below(1) * 255).all()


def test_bitmaps(tmp_path: Path) -> None:
    path = tmp_path / "a.bmp"
    assert (read(path, bmp(IDS, bits=8, greys=range(256))) == IDS).all()
    assert (read(path, bmp(IDS, bits=8, greys=[*range(255, -1, -1)])) == IDS).all()  # a palette
    assert (read(path, bmp(below(4), bits=4, greys=[17 * grey for grey in range(16)])) == below(4)).all()
    assert (read(path, bmp(below(1), bits=1, greys=[0, 255])) == below(1)).all()
    assert (read(path, bmp(below(1), bits=1, greys=[0, 255]), white=255) == below(1) * 255).all()
    for bits, greys in ((4, range(16)), (8, [0, 255])):  # Pillow unpacks these as if they had other bits
        for reading in (read_label, read_image):
            path.write_bytes(bmp(below(1), bits=bits, greys=[*greys]))
            with pytest.raises(
                DataError, match=f"a BMP of {bits} bits with a palette of greys cannot be read"
            ):
                reading(path)


def test_palettes_of_few_bits_and_gifs_hold_indices(tmp_path: Path) -> None:
    for bits in (1, 2, 4, 8):
        palette = (b"PLTE", bytes(range(256))[: 2**bits] * 3)
        assert (
            read(tmp_path / "a.png", png(below(bits), bits=bits, colour=3, before=[palette])) == below(bits)
        ).all()
        tags = {258: [bits], 262: [3], 320: [7 * one % 65_536 for one in range(3 * 2**bits)]}
        assert (read(tmp_path / "a.tif", tiff((below(bits), tags))) == below(bits)).all()
    for colours in (3, 17, 200):
        image = Image.fromarray((IDS % colours).astype(np.uint8))
        image.putpalette([(37 * one) % 256 for one in range(768)])
        assert (read(tmp_path / "a.gif", encoded(image, "GIF", optimize=False)) == IDS % colours).all()
        write_image(tmp_path / "grey.gif", (IDS % colours).astype(np.uint8))
        assert (read_label(tmp_path / "grey.gif") == IDS % colours).all()


@pytest.mark.parametrize(
    "before",
    [
        (b"gAMA", struct.pack(">I", 30_000)),
        (b"sRGB", b"\0"),
        (b"iCCP", b"profile\0\0" + zlib.compress(b"no profile")),
        (b"sBIT", b"\3"),
        (b"bKGD", b"\0\7"),
    ],
)
def test_what_a_png_says_of_its_colours_changes_no_id(tmp_path: Path, before: tuple[bytes, bytes]) -> None:
    assert (read(tmp_path / "a.png", png(IDS, before=[before])) == IDS).all()


def test_interlaced_files_and_usual_compressions(tmp_path: Path) -> None:
    for bits in (1, 2, 4, 8):  # Adam7: seven passes over the pixels
        ids = below(bits)
        passes = [
            (0, 0, 8, 8),
            (0, 4, 8, 8),
            (4, 0, 8, 4),
            (0, 2, 4, 4),
            (2, 0, 4, 2),
            (0, 1, 2, 2),
            (1, 0, 2, 1),
        ]
        rows = b"".join(
            b"\0" + row
            for top, left, down, right in passes
            for row in packed(ids[top::down, left::right], bits)
        )
        head = struct.pack(">IIBBBBB", 53, 37, bits, 0, 0, 0, 1)
        chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
        content = b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in chunks)
        assert (read(tmp_path / "a.png", content) == ids).all()
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "lzma", "zstd", "tiff_deflate"):
        assert (read(tmp_path / "a.tif", encoded(IDS, "TIFF", compression=compression)) == IDS).all()
        wide = IDS.astype(np.uint16) * 257
        assert (read(tmp_path / "a.tif", encoded(wide, "TIFF", compression=compression)) == wide).all()
    differences = {317: 2}  # the horizontal predictor, as GDAL writes it
    content = encoded(IDS, "TIFF", compression="tiff_lzw", tiffinfo=differences)
    assert (read(tmp_path / "a.tif", content) == IDS).all()
    colours = np.stack([IDS, IDS + 1, IDS + 2], axis=2).astype(np.uint8)
    path = tmp_path / "webp.png"  # lossless, whatever its suffix
    path.write_bytes(encoded(colours, "WEBP", lossless=True))
    assert (read_colours(path) == colours).all()


def test_a_fax_is_read_by_its_samples_or_as_it_is_shown(tmp_path: Path) -> None:
    """In a bilevel TIFF 0 is often white: its samples are ids 0 and 1, what is shown is 0 and 255."""
    path = tmp_path / "a.tif"
    content = tiff((below(1), {258: [1], 262: [0]}))
    assert (read(path, content) == below(1)).all()
    assert (read(path, content, white=255) == (1 - below(1)) * 255).all()
    group4 = encoded(Image.fromarray(below(1) == 1), "TIFF", compression="group4")
    assert (read(path, group4) == below(1)).all()
    assert (read(path, group4, white=255) == below(1) * 255).all()


# --- one bit ------------------------------------------------------------------------------------------------


class Masks(LabelledFiles):
    """Labels of one folder, by number."""

    def __init__(self, label_map: dict[Any, int], *paths: Path) -> None:
        super().__init__([(path, path) for path in paths], label_map=LabelMap(label_map))


def one_bit_files(folder: Path) -> dict[str, Path]:
    """0 and 255 in one bit, as optimisers, scanners and netpbm's tools leave them."""
    contents = {
        "a.png": png(below(1), bits=1),
        "pillow.png": encoded(Image.fromarray(below(1) * 255).convert("1")),
        "a.tif": tiff((below(1), {258: [1], 262: [1], 259: [8]})),
        "fax.tif": tiff((1 - below(1), {258: [1], 262: [0]})),
        "a.pbm": netpbm(1 - below(1), "P4"),
        "a.pgm": netpbm(below(1), "P5", 1),
        "a.bmp": bmp(below(1), bits=1, greys=[0, 255]),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in contents}


def test_white_of_a_one_bit_mask_is_the_id_that_is_known(tmp_path: Path) -> None:
    for name, path in one_bit_files(tmp_path).items():
        assert (Masks({0: 0, 255: 1}, path).label(0) == below(1)).all(), name
        with pytest.raises(
            DataError, match=r"white may be id 1 or 255, and both are known\nsave it with 8 bits"
        ):
            Masks({0: 0, 1: 1, 255: 255}, path).label(0)
        if name != "fax.tif":
            assert (Masks({0: 1, 1: 0}, path).label(0) == 1 - below(1)).all(), name
            with pytest.raises(
                DataError, match=r"id 1 at .*; the file has 1 bit per pixel, so its ids are 0 to 1"
            ):
                Masks({0: 0, 7: 1}, path).label(0)
    (tmp_path / "black.png").write_bytes(png(np.zeros((4, 4), np.uint8), bits=1))
    assert (Masks({0: 0, 1: 1, 255: 255}, tmp_path / "black.png").label(0) == 0).all()


@pytest.mark.parametrize("bits", [2, 4])
def test_an_unknown_id_of_few_bits_says_how_many(tmp_path: Path, bits: int) -> None:
    (tmp_path / "a.png").write_bytes(png(below(bits), bits=bits))
    with pytest.raises(
        DataError, match=f"the file has {bits} bits per pixel, so its ids are 0 to {2**bits - 1}"
    ):
        Masks({0: 0, 255: 1}, tmp_path / "a.png").label(0)


# --- lossy content ------------------------------------------------------------------------------------------

RGB = np.stack([IDS] * 3, axis=2)
LOSSY: dict[str, tuple[Callable[[], bytes], str]] = {
    "JPEG": (lambda: encoded(IDS, "JPEG", quality=100), "JPEG"),
    "MPO": (lambda: encoded(RGB, "MPO", save_all=True, append_images=[Image.fromarray(RGB)]), "JPEG"),
    "WebP": (lambda: encoded(RGB, "WEBP"), "lossy WebP"),
    "WebP with metadata": (lambda: encoded(RGB, "WEBP", exif=b"Exif\0\0" + exif(1)), "lossy WebP"),
    "WebP with alpha": (lambda: encoded(np.dstack([RGB, IDS]), "WEBP"), "lossy WebP"),
    "animated WebP": (
        lambda: encoded(RGB, "WEBP", save_all=True, append_images=[Image.fromarray(RGB ^ 85)]),
        "lossy WebP",
    ),
    "TIFF of JPEG": (lambda: encoded(IDS, "TIFF", compression="jpeg"), "JPEG-compressed TIFF"),
    "TIFF of old JPEG": (lambda: tiff((IDS, {**GREY, 259: [6]})), "JPEG-compressed TIFF"),
    "TIFF of WebP": (lambda: tiff((IDS, {**GREY, 259: [50001]})), "WebP-compressed TIFF"),
    **{
        f"TIFF {code}": (partial(tiff, (IDS, {**GREY, 259: [code]})), words)
        for code, words in {
            34712: "JPEG 2000-compressed TIFF",
            33003: "JPEG 2000-compressed TIFF",
            34892: "lossy DNG-compressed TIFF",
            34887: "LERC-compressed TIFF",
            12345: "TIFF of compression 12345",
        }.items()
    },
}


@pytest.mark.parametrize("name", LOSSY)
@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
def test_lossy_content_is_no_mask_whatever_its_name(tmp_path: Path, name: str, suffix: str) -> None:
    content, words = LOSSY[name]
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content())
    for reading in (read_label, read_colours, partial(header_of, mask=True)):
        with pytest.raises(
            DataError, match=f"a{suffix}: a mask must not be a {words} file: compression changes ids"
        ):
            reading(path)


def test_jpeg_2000_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a.png: not a readable image: it is JPEG 2000"):
        read(tmp_path / "a.png", encoded(IDS, "JPEG2000"))


@pytest.mark.parametrize("name", ["a.jpg", "a.jpeg", "a.webp", "a.txt", "a"])
def test_lossless_content_is_a_mask_whatever_its_name(tmp_path: Path, name: str) -> None:
    for form in ("PNG", "TIFF", "BMP", "GIF", "PPM"):
        assert (read(tmp_path / name, encoded(IDS, form)) == IDS).all()
    (tmp_path / name).write_bytes(encoded(RGB, "WEBP", lossless=True))
    assert (read_colours(tmp_path / name) == RGB).all()


# --- transparency -------------------------------------------------------------------------------------------

HOLE = np.full(IDS.shape, 255, np.uint8)
HOLE[5:9, 3:7] = 0
HOLE[20, 20] = 254
COLOUR = {"LA": 4, "RGBA": 6}


def transparent_masks() -> dict[str, bytes]:
    """17 pixels that are not opaque, over ids of IDS % 8 (or colours); of the last three, those of id 7."""
    ids = IDS % 8
    rgba = np.dstack([ids, ids, ids, HOLE])
    palette = Image.merge("PA", [Image.fromarray(ids), Image.fromarray(HOLE)])
    return {
        "LA.png": png(rgba[..., 2:], colour=4),
        "LA.tif": tiff((rgba[..., 2:], {262: [1], 338: [2]})),
        "La.tif": tiff((np.dstack([(ids.astype(int) * HOLE) // 255, HOLE]), {262: [1], 338: [1]})),
        "RGBA.png": png(rgba, colour=6),
        "RGBA.tif": tiff((rgba, {338: [2]})),
        "RGBA planes.tif": tiff((rgba, {338: [2], 284: [2]})),
        "RGBA unsaid.tif": tiff((rgba, {})),
        "RGBA.webp": encoded(rgba, "WEBP", lossless=True, exact=True),
        "PA.tif": encoded(palette, "TIFF"),
    }


def test_transparent_pixels_of_a_mask_are_refused_void_or_kept(tmp_path: Path) -> None:
    ids = IDS % 8
    for name, content in transparent_masks().items():
        path = tmp_path / name
        path.write_bytes(content)
        colours = "RGBA" in name
        with pytest.raises(
            DataError,
            match=rf"{name}: 17 of 1,961 pixels of the mask are transparent\n.*dataset.mask_alpha=void",
        ):
            read_raw(path, colours=colours)
        void = read_raw(path, colours=colours, alpha="void")
        kept = read_raw(path, colours=colours, alpha="keep")
        assert void.void is not None
        assert np.array_equal(void.void, HOLE < 255), name
        assert kept.void is None
        values = kept.values[..., 0] if colours else kept.values
        seen = HOLE == 255 if name == "La.tif" else HOLE >= 0  # of which alpha leaves less
        assert (values[seen] == ids[seen]).all(), name
        if colours:
            with pytest.raises(DataError, match="a label file must hold ids"):
                read_label(path, alpha="keep")


def test_one_transparent_id_or_colour(tmp_path: Path) -> None:
    def trns(*values: int) -> tuple[bytes, bytes]:
        return (b"tRNS", struct.pack(f">{len(values)}H", *values))

    cases: list[tuple[bytes, np.ndarray, bool]] = [
        (png(below(bits), bits=bits, before=[trns(2**bits - 1)]), below(bits) == 2**bits - 1, False)
        for bits in (1, 2, 4, 8)
    ]
    wide = IDS.astype(np.uint16) * 257
    cases += [
        (png(wide, bits=16, before=[trns(int(wide[0, 0]))]), wide == wide[0, 0], False),
        (png(RGB, colour=2, before=[trns(*[int(IDS[0, 0])] * 3)]), RGB[..., 0] == IDS[0, 0], True),
        (
            png(below(2), bits=2, colour=3, before=[(b"PLTE", bytes(12)), (b"tRNS", b"\xff\x80")]),
            below(2) == 1,
            False,
        ),
    ]
    for number, (content, transparent, colours) in enumerate(cases):
        path = tmp_path / "a.png"
        path.write_bytes(content)
        with pytest.raises(DataError, match=f"{int(transparent.sum()):,} of 1,961 pixels of the mask"):
            read_raw(path, colours=colours)
        raw = read_raw(path, colours=colours, alpha="void")
        assert raw.void is not None
        assert (raw.void == transparent).all(), number
    gif = Image.fromarray(IDS % 8)
    gif.putpalette([(37 * one) % 256 for one in range(768)])
    (tmp_path / "a.gif").write_bytes(encoded(gif, "GIF", transparency=3, optimize=False))
    raw = read_raw(tmp_path / "a.gif", colours=False, alpha="void")
    assert raw.void is not None
    assert (raw.void == (IDS % 8 == 3)).all()
    assert (read_label(tmp_path / "a.gif", alpha="keep") == IDS % 8).all()


def test_alpha_that_is_opaque_everywhere_is_dropped(tmp_path: Path) -> None:
    opaque = np.full(IDS.shape, 255, np.uint8)
    ids = np.dstack([IDS, opaque])
    for content in (
        png(ids, colour=4),
        tiff((ids, {262: [1], 338: [1]})),
        png(IDS & 127, before=[(b"tRNS", b"\0\xff")]),
        png(below(2), bits=2, colour=3, before=[(b"PLTE", bytes(12)), (b"tRNS", b"\xff\xff")]),
    ):
        found = read(tmp_path / "a.png", content)
        assert any((found == expected).all() for expected in (IDS, IDS & 127, below(2)))
    (tmp_path / "a.png").write_bytes(png(np.dstack([RGB, opaque]), colour=6))
    assert (read_colours(tmp_path / "a.png") == RGB).all()


def test_erased_pixels_of_a_folder_are_refused_void_or_kept(tmp_path: Path) -> None:
    """Programs leave the colour of erased pixels below alpha 0; viewers show nothing there."""
    mask = np.zeros((20, 30, 4), np.uint8)
    mask[..., 3] = 255
    mask[2:5, 2:5] = (128, 64, 128, 255)
    mask[10:, :] = (128, 64, 128, 0)
    write_image(tmp_path / "images/train/a.png", mask[..., :3])
    write_image(tmp_path / "masks/train/a.png", mask)
    (tmp_path / "classes.yaml").write_text("classes:\n  ground: [0, 0, 0]\n  road: [128, 64, 128]\n")
    folder = partial(Folder, root=str(tmp_path), split="train")
    with pytest.raises(DataError, match="300 of 600 pixels of the mask are transparent"):
        folder()[0]
    counts = {
        alpha: np.bincount(folder(mask_alpha=alpha)[0].label.ravel(), minlength=256)
        for alpha in ("void", "keep")
    }
    assert counts["void"][[0, 1, 255]].tolist() == [291, 9, 300]
    assert counts["keep"][[0, 1, 255]].tolist() == [291, 309, 0]


# --- pages and channels -------------------------------------------------------------------------------------


def test_channels_that_would_be_dropped_are_refused(tmp_path: Path) -> None:
    def channels(number: int) -> np.ndarray:
        return np.dstack([IDS] * number)

    for number, tags in (
        (2, {262: [1], 338: [0]}),
        (2, {262: [3], 338: [0], 258: [8, 8], 320: [0] * 768}),
        (4, {338: [0]}),
        (4, {338: [0], 284: [2]}),
        (5, {338: [0, 0]}),
        (5, {338: [2, 0]}),
        (6, {338: [1, 0, 0]}),
        (9, {338: [0] * 6}),
    ):
        content = tiff((channels(number), tags))
        for order in ("<", ">"):
            content = tiff((channels(number), tags), order=order)
            (tmp_path / "a.tif").write_bytes(content)
            for reading in (read_label, read_colours, partial(header_of, mask=True), read_image):
                with pytest.raises(DataError, match=rf"a.tif(:| has) .*{number} channels"):
                    reading(tmp_path / "a.tif")


# --- turned masks -------------------------------------------------------------------------------------------


def test_a_mask_that_is_turned_as_its_image_is_turned_with_it(tmp_path: Path) -> None:
    image = np.random.default_rng(2).integers(0, 256, (*IDS.shape, 3), dtype=np.uint8)
    for orientation in range(1, 9):
        for name, photo, mask in (
            (
                "png",
                png(image, colour=2, before=[(b"eXIf", exif(orientation))]),
                png(IDS, before=[(b"eXIf", exif(orientation))]),
            ),
            (
                "late",
                png(image, colour=2, after=[(b"eXIf", exif(orientation))]),
                tiff((IDS, {274: [orientation]})),
            ),
            (
                "tif",
                tiff((image, {274: [orientation]})),
                tiff((IDS, {274: [orientation], 259: [8]}), order=">"),
            ),
            (
                "wide",
                tiff((image, {274: [orientation], 259: [8]})),
                tiff((IDS, {258: [16], 274: [orientation]})),
            ),
        ):
            (tmp_path / "image").write_bytes(photo)
            (tmp_path / "mask").write_bytes(mask)
            found, label = read_pair(
                tmp_path / "image", tmp_path / "mask", read=partial(read_raw, colours=False)
            )
            assert (found == read_image(tmp_path / "image")).all()
            shown = ImageOps.exif_transpose(Image.open(io.BytesIO(photo)))
            assert (found == np.array(shown)).all(), (name, orientation)
            assert label.values.shape == found.shape[:2]
            again = png(IDS, before=[(b"eXIf", exif(orientation))])
            truth = np.array(ImageOps.exif_transpose(Image.open(io.BytesIO(again))))
            assert (label.values == truth).all(), (name, orientation)


def test_a_mask_alone_that_is_turned_is_turned_only_if_that_fits(tmp_path: Path) -> None:
    write_image(tmp_path / "wide.png", np.zeros((4, 6, 3), np.uint8))
    write_image(tmp_path / "tall.png", np.zeros((6, 4, 3), np.uint8))
    for name, content in (
        ("six", tiff((np.zeros((4, 6), np.uint8), {274: [6]}))),
        ("upside down", png(np.zeros((4, 6), np.uint8), before=[(b"eXIf", exif(3))])),
    ):
        (tmp_path / name).write_bytes(content)
    ids = partial(read_raw, colours=False)
    assert read_pair(tmp_path / "wide.png", tmp_path / "six", read=ids)[1].values.shape == (4, 6)
    assert read_pair(tmp_path / "tall.png", tmp_path / "six", read=ids)[1].values.shape == (6, 4)
    with pytest.raises(
        DataError, match=r"upside down is rotated by EXIF, and the size of .*wide.png matches"
    ):
        read_pair(tmp_path / "wide.png", tmp_path / "upside down", read=ids)
