"""Small `dataset=folder` data sets with one to three oddities, as people's files have them, and the labels
that a reader must find in them. All of it is a function of a seed.

`python -m tests.dataset.mutated_folders SEED FOLDER` writes one and says what it is.
"""

import io
import os
import struct
import sys
import unicodedata
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

VOID = 255  # in the truth, whatever the data set's ignore index is
HEIGHT, WIDTH = 40, 50


class Verdict(IntEnum):
    """What a reader may do with a folder."""

    RIGHT = 0  # read it
    EITHER = 1  # read it right, or refuse it
    REFUSED = 2  # refuse it


RIGHT, EITHER, REFUSED = Verdict


@dataclass
class Pair:
    """An image with its mask. label: train ids and VOID. optional: what a data set that leaves the image out
    must say of it; None if it must not be left out.
    """

    split: str
    stem: str
    pixels: np.ndarray
    label: np.ndarray
    mask_stem: str | None = None  # None: that of the image
    image_suffix: str = ".png"
    mask_suffix: str = ".png"
    encode_image: Callable[[np.ndarray], bytes] | None = None
    encode_mask: Callable[[np.ndarray], bytes] | None = None
    hidden: bool = False
    optional: str | None = None

    @property
    def image_name(self) -> str:
        return self.stem + self.image_suffix

    @property
    def mask_name(self) -> str:
        return (self.stem if self.mask_stem is None else self.mask_stem) + self.mask_suffix

    def names(self) -> list[str]:
        """Either of which an error must contain."""
        return [self.image_name, self.mask_name]


class Coding(NamedTuple):
    """How train ids are written in masks: as ids, or as colours; and what classes.yaml says of it."""

    table: str
    raw: dict[int, Any]  # by train id and VOID

    @property
    def colours(self) -> bool:
        return isinstance(self.raw[0], tuple)

    @property
    def wide(self) -> bool:
        return not self.colours and max(self.raw.values()) > 255


@dataclass
class Plan:
    """A folder before it is written. `after` is called with its root when it is."""

    rng: np.random.Generator
    pairs: list[Pair]
    coding: Coding
    untouched: list[Pair]
    table: bytes | None = None  # classes.yaml, if it is not as the coding writes it
    layout: str = "folders"  # or lists, or seeded
    list_of: Callable[[str, list[Pair]], bytes] = lambda split, pairs: lines(pair.stem for pair in pairs)
    after: list[Callable[[Path], None]] = field(default_factory=list)
    verdict: Verdict = RIGHT
    clues: list[str] = field(default_factory=list)  # an error must contain one, where there are any
    done: list[str] = field(default_factory=list)

    def victim(self) -> Pair:
        """A training pair that no other mutation has."""
        return self.untouched.pop()

    def judge(self, verdict: Verdict, *clues: str) -> None:
        self.verdict = max(self.verdict, verdict)
        if verdict is not RIGHT:
            self.clues += clues


class Mutation(NamedTuple):
    """A folder on the disk, and the truth about it."""

    seed: int
    root: Path
    done: list[str]  # in words
    settings: dict[str, Any]  # of the data set, besides its root
    verdict: Verdict
    clues: list[str]
    pairs: list[Pair]
    seeded: bool  # whether the reader chooses the split


def lines(names: Any, end: str = "\n") -> bytes:
    return os.fsencode("".join(f"{name}{end}" for name in names))


# --- encoders -----------------------------------------------------------------------------------------------


def saved(array: np.ndarray, form: str = "PNG", mode: str | None = None, **options: Any) -> bytes:
    image, file = Image.fromarray(array), io.BytesIO()
    (image if mode is None else image.convert(mode)).save(file, form, **options)
    return file.getvalue()


def packed(samples: np.ndarray, bits: int, *, order: str = ">") -> list[bytes]:
    """The bytes of each row."""
    if bits >= 8:
        return [row.astype(f"{order}u{bits // 8}").tobytes() for row in samples]
    one_bit = samples[..., None] >> np.arange(bits - 1, -1, -1) & 1
    return [np.packbits(row.reshape(-1).astype(np.uint8)).tobytes() for row in one_bit]


def png(samples: np.ndarray, bits: int, *, interlaced: bool = False) -> bytes:
    """A grey PNG of 1, 2, 4, 8 or 16 bits."""
    parts = [samples]
    if interlaced:  # Adam7
        starts = (
            (0, 0, 8, 8),
            (0, 4, 8, 8),
            (4, 0, 8, 4),
            (0, 2, 4, 4),
            (2, 0, 4, 2),
            (0, 1, 2, 2),
            (1, 0, 2, 1),
        )
        parts = [samples[top::down, left::along] for top, left, down, along in starts]
    rows = [b"\0" + row for part in parts if part.size for row in packed(part, bits)]
    header = struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], bits, 0, 0, 0, interlaced)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"".join(rows))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def tiff(samples: np.ndarray, bits: int, *, white_is_zero: bool = False, order: str = "<") -> bytes:
    """A grey TIFF, not compressed."""
    data = b"".join(packed(samples, bits, order=order))
    height, width = samples.shape
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: int(not white_is_zero)}
    tags |= {273: 8 + 2 + 12 * 9 + 4, 277: 1, 278: height, 279: len(data)}
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags.items())
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(tags))
    return start + entries + bytes(4) + data


def pages(array: np.ndarray, form: str, **options: Any) -> bytes:
    others = [Image.fromarray(np.roll(array, step, axis=0)) for step in (7, 13)]
    return saved(array, form, save_all=True, append_images=others, **options)


def with_alpha(array: np.ndarray, *, opaque: bool) -> bytes:
    """Grey or RGB with a channel of opacity, of which a corner is transparent unless `opaque`."""
    alpha = np.full(array.shape[:2], 255, np.uint8)
    if not opaque:
        alpha[: array.shape[0] // 2 + 1, : array.shape[1] // 2 + 1] = 0
    image, file = Image.fromarray(array), io.BytesIO()
    image.putalpha(Image.fromarray(alpha))
    image.save(file, "PNG")
    return file.getvalue()


def palette(ids: np.ndarray, **options: Any) -> bytes:
    """A palette PNG; the colours have nothing to do with the ids."""
    image, file = Image.fromarray(ids), io.BytesIO()
    image.putpalette([value * 7 % 256 for value in range(768)])
    image.save(file, "PNG", **options)
    return file.getvalue()


# --- masks --------------------------------------------------------------------------------------------------


class Form(NamedTuple):
    encode: Callable[[np.ndarray], bytes]
    verdict: Verdict = RIGHT
    suffix: str = ".png"
    most: int = 255  # the largest id that it can hold


OF_IDS = {
    "palette PNG": Form(palette),
    "palette PNG of 4 bits": Form(lambda ids: palette(ids, bits=4), most=15),
    "palette PNG of 1 bit": Form(lambda ids: palette(ids, bits=1), most=1),
    "palette with opaque tRNS": Form(lambda ids: palette(ids, transparency=bytes([255] * 256)), EITHER),
    "palette with transparent background": Form(lambda ids: palette(ids, transparency=0), REFUSED),
    "grey and opaque alpha": Form(lambda ids: with_alpha(ids, opaque=True)),
    "grey and alpha": Form(lambda ids: with_alpha(ids, opaque=False), REFUSED),
    "grey PNG of 2 bits": Form(lambda ids: png(ids, 2), most=3),
    "grey PNG of 4 bits": Form(lambda ids: png(ids, 4), most=15),
    "grey PNG of 16 bits": Form(lambda ids: saved(ids.astype(np.uint16))),
    "interlaced PNG": Form(lambda ids: png(ids, 8, interlaced=True)),
    "interlaced PNG of 2 bits": Form(lambda ids: png(ids, 2, interlaced=True), most=3),
    "grey TIFF": Form(lambda ids: tiff(ids, 8), suffix=".tif"),
    "TIFF in which 0 is white": Form(lambda ids: tiff(ids, 8, white_is_zero=True), suffix=".tif"),
    "TIFF of 4 bits": Form(lambda ids: tiff(ids, 4), suffix=".tif", most=15),
    "TIFF of 2 bits in which 0 is white": Form(
        lambda ids: tiff(ids, 2, white_is_zero=True), suffix=".tiff", most=3
    ),
    "TIFF of 16 bits, big-endian": Form(lambda ids: tiff(ids, 16, order=">"), suffix=".tif"),
    "deflated TIFF": Form(lambda ids: saved(ids, "TIFF", compression="tiff_adobe_deflate"), suffix=".TIF"),
    "LZW TIFF called .png": Form(lambda ids: saved(ids, "TIFF", compression="tiff_lzw")),
    "TIFF with JPEG inside": Form(
        lambda ids: saved(ids, "TIFF", compression="jpeg", quality=90), REFUSED, suffix=".tif"
    ),
    "JPEG called .png": Form(lambda ids: saved(ids, "JPEG", quality=95), REFUSED),
    "JPEG": Form(lambda ids: saved(ids, "JPEG"), REFUSED, suffix=".jpg"),
    "PNG called .jpg": Form(saved, EITHER, suffix=".jpg"),
    "lossy WebP called .png": Form(lambda ids: saved(ids, "WEBP", "RGB", quality=80), REFUSED),
    "BMP": Form(lambda ids: saved(ids, "BMP"), suffix=".bmp"),
    "PGM called .png": Form(lambda ids: saved(ids, "PPM")),
    "GIF called .png": Form(lambda ids: saved(ids, "GIF", optimize=False)),
    "GIF": Form(lambda ids: saved(ids, "GIF", optimize=False), suffix=".gif"),
    # Its indices are no longer the ids: Pillow drops the greys that no pixel has.
    "GIF with a short palette": Form(lambda ids: saved(ids, "GIF"), EITHER, suffix=".gif"),
    "animated GIF": Form(lambda ids: pages(ids, "GIF"), REFUSED),
    "TIFF of 3 pages": Form(lambda ids: pages(ids, "TIFF"), REFUSED, suffix=".tif"),
    "animated PNG": Form(lambda ids: pages(ids, "PNG"), REFUSED),
    "RGB where ids are said": Form(lambda ids: saved(ids, mode="RGB"), REFUSED),
    "CMYK": Form(lambda ids: saved(ids, "TIFF", "CMYK"), REFUSED, suffix=".tif"),
}
OF_COLOURS = {
    "opaque RGBA": Form(lambda colours: with_alpha(colours, opaque=True)),
    "RGBA, partly transparent": Form(lambda colours: with_alpha(colours, opaque=False), REFUSED),
    "lossless WebP": Form(lambda colours: saved(colours, "WEBP", lossless=True), EITHER, suffix=".webp"),
    "lossless WebP called .png": Form(lambda colours: saved(colours, "WEBP", lossless=True), EITHER),
    "lossy WebP called .png": Form(lambda colours: saved(colours, "WEBP", quality=90), REFUSED),
    "JPEG called .png": Form(lambda colours: saved(colours, "JPEG", quality=95), REFUSED),
    "RGB TIFF": Form(lambda colours: saved(colours, "TIFF"), suffix=".tif"),
    "deflated RGB TIFF": Form(
        lambda colours: saved(colours, "TIFF", compression="tiff_adobe_deflate"), suffix=".tiff"
    ),
    "RGB TIFF with JPEG inside": Form(
        lambda colours: saved(colours, "TIFF", compression="jpeg"), REFUSED, suffix=".tif"
    ),
    "RGB BMP": Form(lambda colours: saved(colours, "BMP"), suffix=".bmp"),
    "PPM": Form(lambda colours: saved(colours, "PPM"), suffix=".ppm"),
    "RGB TIFF of 3 pages": Form(lambda colours: pages(colours, "TIFF"), REFUSED, suffix=".tif"),
    "CMYK": Form(lambda colours: saved(colours, "TIFF", "CMYK"), REFUSED, suffix=".tif"),
}
WIDE = {
    "TIFF of 16 bits": Form(lambda ids: tiff(ids, 16), suffix=".tif", most=65535),
    "TIFF of 16 bits, big-endian": Form(lambda ids: tiff(ids, 16, order=">"), suffix=".tif", most=65535),
    "interlaced PNG of 16 bits": Form(lambda ids: png(ids, 16, interlaced=True), most=65535),
    "TIFF of 16 bits, 3 pages": Form(lambda ids: pages(ids, "TIFF"), REFUSED, suffix=".tif", most=65535),
}


def mutate_mask(plan: Plan) -> str:
    pair, coding = plan.victim(), plan.coding
    forms = WIDE if coding.wide else OF_COLOURS if coding.colours else OF_IDS
    if not coding.colours and not coding.wide and plan.rng.random() < 0.15:
        return one_bit(plan, pair)
    fitting = [
        name
        for name, form in forms.items()
        if coding.colours or sum(raw <= form.most for raw in coding.raw.values()) > 1
    ]
    name = fitting[plan.rng.integers(len(fitting))]
    form = forms[name]
    pair.encode_mask, pair.mask_suffix = form.encode, form.suffix
    if not coding.colours:
        keep_only(pair, [index for index, raw in coding.raw.items() if raw <= form.most])
        pair.label[-1, -1] = 0  # the corner that is not transparent
    plan.judge(form.verdict, *pair.names())
    return f"the mask {pair.mask_name!a} is {name}"


def one_bit(plan: Plan, pair: Pair) -> str:
    """Of one bit, grey: white is 1 or 255, whichever has a meaning."""
    by_raw = {raw: index for index, raw in plan.coding.raw.items()}
    meant = [by_raw[raw] for raw in (1, 255) if raw in by_raw]
    pair.label = np.where(pair.label == 0, 0, meant[0]).astype(np.uint8)
    white, as_tiff = pair.label != 0, bool(plan.rng.integers(2))
    content = (tiff if as_tiff else png)(white.astype(np.uint8), 1)
    pair.encode_mask = lambda raw: content
    pair.mask_suffix = ".tif" if as_tiff else ".png"
    plan.judge(REFUSED if len(meant) > 1 else RIGHT, *pair.names())
    return f"the mask {pair.mask_name!a} is of one bit"


def keep_only(pair: Pair, indices: list[int]) -> None:
    """The pixels of other train ids become the last of these."""
    pair.label = np.where(np.isin(pair.label, indices), pair.label, indices[-1]).astype(np.uint8)


# --- images -------------------------------------------------------------------------------------------------

IMAGES = {
    "grey": Form(lambda rgb: saved(rgb, mode="L")),
    "of one bit": Form(lambda rgb: saved(rgb, mode="1")),
    "of a palette": Form(lambda rgb: saved(rgb, mode="P")),
    "of a palette with tRNS": Form(lambda rgb: saved(rgb, mode="P", transparency=3), EITHER),
    "grey and opaque alpha": Form(lambda rgb: with_alpha(rgb[..., 0].copy(), opaque=True), EITHER),
    "grey and alpha": Form(lambda rgb: with_alpha(rgb[..., 0].copy(), opaque=False), EITHER),
    "opaque RGBA": Form(lambda rgb: with_alpha(rgb, opaque=True), EITHER),
    "RGBA": Form(lambda rgb: with_alpha(rgb, opaque=False), EITHER),
    "CMYK JPEG": Form(lambda rgb: saved(rgb, "JPEG", "CMYK"), suffix=".jpg"),
    "CMYK TIFF": Form(lambda rgb: saved(rgb, "TIFF", "CMYK"), suffix=".tif"),
    "LAB TIFF": Form(lambda rgb: saved(rgb, "TIFF", "LAB"), EITHER, suffix=".tif"),
    "of 16 bits": Form(lambda rgb: saved(rgb[..., 0].astype(np.uint16) * 257), EITHER),
    "grey PNG of 2 bits": Form(lambda rgb: png(rgb[..., 0] >> 6, 2)),
    "JPEG": Form(lambda rgb: saved(rgb, "JPEG"), suffix=".jpeg"),
    "JPEG, upper case": Form(lambda rgb: saved(rgb, "JPEG"), suffix=".JPG"),
    "JPEG called .png": Form(lambda rgb: saved(rgb, "JPEG")),
    "PNG called .jpg": Form(saved, suffix=".jpg"),
    "TIFF called .bmp": Form(lambda rgb: saved(rgb, "TIFF"), suffix=".bmp"),
    "progressive JPEG": Form(lambda rgb: saved(rgb, "JPEG", progressive=True), suffix=".jpg"),
    "interlaced PNG": Form(lambda rgb: png(rgb[..., 0], 8, interlaced=True)),
    "lossy WebP": Form(lambda rgb: saved(rgb, "WEBP"), suffix=".webp"),
    "lossless WebP": Form(lambda rgb: saved(rgb, "WEBP", lossless=True), suffix=".webp"),
    "LZW TIFF": Form(lambda rgb: saved(rgb, "TIFF", compression="tiff_lzw"), suffix=".TIFF"),
    "TIFF in which 0 is white": Form(lambda rgb: tiff(rgb[..., 0], 8, white_is_zero=True), suffix=".tif"),
    "PPM": Form(lambda rgb: saved(rgb, "PPM"), suffix=".ppm"),
    "GIF called .png": Form(lambda rgb: saved(rgb[..., 0].copy(), "GIF"), EITHER),
    "TIFF of 3 pages": Form(lambda rgb: pages(rgb, "TIFF"), REFUSED, suffix=".tif"),
    "animated PNG": Form(lambda rgb: pages(rgb, "PNG"), REFUSED),
    "animated WebP": Form(lambda rgb: pages(rgb, "WEBP"), REFUSED, suffix=".webp"),
}


def mutate_image(plan: Plan) -> str:
    pair = plan.victim()
    name = list(IMAGES)[plan.rng.integers(len(IMAGES))]
    pair.encode_image, pair.image_suffix = IMAGES[name].encode, IMAGES[name].suffix
    plan.judge(IMAGES[name].verdict, *pair.names())
    return f"the image {pair.image_name!a} is {name}"


# --- names --------------------------------------------------------------------------------------------------

STEMS = (
    *(
        "scan 1 (copy)",
        " leading",
        "a.b.c",
        "x.png",
        "UPPER",
        "a" * 200,
        "100%",
        "#7",
        "it's",
        "-rf",
        "$HOME",
    ),
    *("[0-9]*", "back\\slash", "日本語", "имя", "عربي", "😀", "null", "~", "a=b", "{x}", "1e5"),
)


def mutate_name(plan: Plan) -> str:
    pair = plan.victim()
    kind = plan.rng.integers(9)
    if kind <= 2:
        pair.stem = STEMS[plan.rng.integers(len(STEMS))]
        if plan.layout == "lists" and pair.stem != pair.stem.strip():
            plan.judge(EITHER, "train.txt")
    elif kind == 3:
        pair.stem, pair.mask_stem = (unicodedata.normalize(form, "näher é") for form in ("NFC", "NFD"))
        if plan.rng.integers(2):
            pair.stem, pair.mask_stem = pair.mask_stem, pair.stem
    elif kind == 4:
        pair.stem = os.fsdecode(b"caf\xe9 \xff")
        plan.judge(EITHER if plan.layout == "lists" else RIGHT, "train.txt")
    elif kind == 5:
        pair.stem, pair.hidden = "._" + pair.stem, True
        if plan.layout == "lists":
            plan.judge(REFUSED, "train.txt")
    elif kind == 6:
        pair.stem = "new\nline"
        plan.judge(EITHER, "new", "train.txt")
    elif kind == 7:
        suffix = (".jfif", "", ".jpe", ".image", ".txt")[plan.rng.integers(5)]
        pair.image_suffix, pair.optional = suffix, suffix or "without a suffix"
        pair.encode_image = lambda rgb: saved(rgb, "JPEG")
        if plan.layout == "lists":
            plan.judge(EITHER, "train.txt")
    else:
        pair.mask_stem = pair.stem.upper()
        plan.judge(REFUSED, *pair.names(), pair.stem)
    return f"a pair is called {pair.image_name!a}, {pair.mask_name!a}"


# --- sizes --------------------------------------------------------------------------------------------------


def mutate_size(plan: Plan) -> str:
    pair = plan.victim()
    kinds = (one_pixel_short, transposed, turned, turned_as_stored, upside_down, turned_square, one_row, huge)
    kind = kinds[plan.rng.integers(len(kinds))]
    kind(plan, pair)
    return f"{pair.image_name!a}: {kind.__name__.replace('_', ' ')}"


def one_pixel_short(plan: Plan, pair: Pair) -> None:
    pair.label = pair.label[:-1]
    plan.judge(REFUSED, *pair.names())


def transposed(plan: Plan, pair: Pair) -> None:
    pair.label = np.ascontiguousarray(pair.label.T)
    plan.judge(REFUSED, *pair.names())


def as_photo(pair: Pair, orientation: int, turns: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    pair.encode_image = lambda rgb: saved(np.ascontiguousarray(np.rot90(rgb, turns)), "JPEG", exif=exif)
    pair.image_suffix = ".jpg"


def turned(plan: Plan, pair: Pair) -> None:
    """A photo on its side, whose mask is as viewers show it."""
    as_photo(pair, 6, turns=1)


def turned_as_stored(plan: Plan, pair: Pair) -> None:
    as_photo(pair, 6, turns=0)


def upside_down(plan: Plan, pair: Pair) -> None:
    as_photo(pair, 3, turns=2)
    plan.judge(REFUSED, *pair.names())


def turned_square(plan: Plan, pair: Pair) -> None:
    pair.pixels, pair.label = pair.pixels[:, :HEIGHT], pair.label[:, :HEIGHT]
    as_photo(pair, 8, turns=1)
    plan.judge(REFUSED, *pair.names())


def one_row(plan: Plan, pair: Pair) -> None:
    pair.pixels, pair.label = pair.pixels[:1], pair.label[:1]


def huge(plan: Plan, pair: Pair) -> None:
    content = png(np.zeros((1, 1), np.uint8), 8)
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    larger = content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]
    pair.encode_image = lambda rgb: larger
    plan.judge(REFUSED, *pair.names())


# --- links and lists ----------------------------------------------------------------------------------------


def mutate_layout(plan: Plan) -> str:
    kinds = (
        *(masks_in_one_folder, linked_folder, loop, folder_twice, dangling, linked_files, splits_as_links),
        *(plain_list, plain_list, odd_list, odd_list, wrong_list, wrong_list, list_beside_folder, seeded),
    )
    kind = kinds[plan.rng.integers(len(kinds))]
    return kind(plan) or kind.__name__.replace("_", " ")


def masks_in_one_folder(plan: Plan) -> str | None:
    """masks/train and masks/val are links to one folder of all masks."""

    def after(root: Path) -> None:
        (root / "all").mkdir()
        for split in ("train", "val"):
            for path in (root / "masks" / split).iterdir():
                path.rename(root / "all" / path.name)
            (root / "masks" / split).rmdir()
            (root / "masks" / split).symlink_to(root / "all")

    plan.after.append(after)
    return None


def linked_folder(plan: Plan) -> str | None:
    def after(root: Path) -> None:
        (root / "images/train").rename(root / "elsewhere")
        (root / "images/train").symlink_to("../elsewhere")

    plan.after.append(after)
    return None


def loop(plan: Plan) -> str | None:
    def after(root: Path) -> None:
        for kind in ("images", "masks"):
            (root / kind / "train" / "again").symlink_to(root / kind / "train")

    plan.after.append(after)
    return None


def folder_twice(plan: Plan) -> str | None:
    """A folder of images that is linked under two names counts once."""

    def after(root: Path) -> None:
        for kind in ("images", "masks"):
            place = root / f"more {kind}"
            (root / kind / "train").rename(place)
            (root / kind / "train").mkdir()
            for name in ("north", "south"):
                (root / kind / "train" / name).symlink_to(place)

    plan.after.append(after)
    return None


def dangling(plan: Plan) -> str | None:
    plan.after.append(lambda root: (root / "images/train/gone.png").symlink_to(root / "nowhere.png"))
    plan.judge(REFUSED, "gone")
    return None


def linked_files(plan: Plan) -> str | None:
    def after(root: Path) -> None:
        (root / "store").mkdir()
        for path in list((root / "masks/train").iterdir()):
            target = root / "store" / path.name
            path.rename(target)
            path.symlink_to(target)

    plan.after.append(after)
    return None


def splits_as_links(plan: Plan) -> str | None:
    def after(root: Path) -> None:
        for kind in ("images", "masks"):
            for split in ("train", "val"):
                (root / f"{kind} of {split}").mkdir()
                for path in list((root / kind / split).iterdir()):
                    path.rename(root / f"{kind} of {split}" / path.name)
                (root / kind / split).rmdir()
                (root / kind / split).symlink_to(f"../{kind} of {split}")

    plan.after.append(after)
    return None


def plain_list(plan: Plan) -> str | None:
    plan.layout = "lists"
    return None


def odd_list(plan: Plan) -> str:
    """Lists as other systems write them."""
    plan.layout = "lists"
    kinds: dict[str, Callable[[str, list[Pair]], bytes]] = {
        "CRLF": lambda split, pairs: lines((pair.stem for pair in pairs), "\r\n"),
        "a byte order mark": lambda split, pairs: b"\xef\xbb\xbf" + lines(pair.stem for pair in pairs),
        "blank lines": lambda split, pairs: b"\n\n" + lines((pair.stem for pair in pairs), "\n  \n"),
        "suffixes": lambda split, pairs: lines(pair.image_name for pair in pairs),
        "no last line end": lambda split, pairs: lines(pair.stem for pair in pairs)[:-1],
        "NFC": lambda split, pairs: lines(unicodedata.normalize("NFC", pair.stem) for pair in pairs),
        "NFD": lambda split, pairs: lines(unicodedata.normalize("NFD", pair.stem) for pair in pairs),
    }
    name = list(kinds)[plan.rng.integers(len(kinds))]
    plan.list_of = kinds[name]
    return f"lists with {name}"


def wrong_list(plan: Plan) -> str:
    plan.layout = "lists"
    wrong: dict[str, tuple[Verdict, bytes]] = {
        "a name that is missing": (REFUSED, b"missing\n"),
        "a path that leads out": (REFUSED, b"../secret\n"),
        "an absolute path": (REFUSED, b"/etc/passwd\n"),
        "a comment": (REFUSED, b"# names\n"),
        "a column more": (REFUSED, b"train0 1\n"),
        "a name twice": (REFUSED, b"train0\ntrain0.png\n"),
        "UTF-16": (REFUSED, "train0\n".encode("utf-16")),
    }
    name = list(wrong)[plan.rng.integers(len(wrong))]
    verdict, added = wrong[name]
    plan.list_of = lambda split, pairs: lines(pair.stem for pair in pairs) + added * (split == "train")
    plan.judge(verdict, "train.txt", "train0")
    return f"a list with {name}"


def list_beside_folder(plan: Plan) -> str | None:
    def after(root: Path) -> None:
        (root / "train.txt").write_text("train0\n")

    plan.after.append(after)
    plan.judge(REFUSED, "train.txt")
    return None


def seeded(plan: Plan) -> str | None:
    plan.layout = "seeded"
    return None


# --- classes.yaml -------------------------------------------------------------------------------------------

LISTED = Coding("classes: [background, road, tree]\nignore: [255]\n", {0: 0, 1: 1, 2: 2, VOID: 255})
THREE_GREYS = {0: 0, 1: 127, 2: 255, VOID: 7}
RGB = {0: (0, 0, 0), 1: (128, 64, 128), 2: (0, 0, 142), VOID: (255, 255, 255)}
CODINGS = {
    "a list over lines": LISTED._replace(
        table="# made by hand\nclasses:  # three\n  - background\n  - road\n  - tree\nignore: 255  # void\n"
    ),
    "CRLF": LISTED._replace(table=LISTED.table.replace("\n", "\r\n")),
    "a byte order mark": LISTED._replace(table="\ufeff" + LISTED.table),
    "names in three scripts": LISTED._replace(table="classes: [фон, 'дорога №1', 木 🌳]\nignore: [255]\n"),
    "names that YAML would change": LISTED._replace(table="classes: [no, 010, 2024-01-01]\nignore: [255]\n"),
    "a label_map of greys": Coding(
        "classes: [background, road, tree]\nlabel_map: {0: background, 127: road, 255: tree}\nignore: [7]\n",
        THREE_GREYS,
    ),
    "a label_map that ignores": Coding(
        "classes: [background, road, tree]\n"
        "label_map:\n  0: background\n  127: road\n  255: tree\n  7: ignore\n",
        THREE_GREYS,
    ),
    "classes by id": Coding("classes: {0: background, 127: road, 255: tree}\nignore: 7\n", THREE_GREYS),
    "another order": Coding(
        "ignore: [255]\nlabel_map: {2: background, 0: road, 1: tree}\nclasses: [background, road, tree]\n",
        {0: 2, 1: 0, 2: 1, VOID: 255},
    ),
    "only 255 is known of 1 and 255": Coding(
        "classes: [background, road, tree]\nlabel_map: {0: background, 255: road, 9: tree}\nignore: 200\n",
        {0: 0, 1: 255, 2: 9, VOID: 200},
    ),
    "only 1 is known of 1 and 255": Coding(
        "classes: [background, road, tree]\nignore: [200]\n", {0: 0, 1: 1, 2: 2, VOID: 200}
    ),
    "sparse ids": Coding(
        "classes: [background, road, tree]\nlabel_map: {0: background, 1000: road, 65535: tree}\n"
        "ignore: 300\n",
        {0: 0, 1: 1000, 2: 65535, VOID: 300},
    ),
    "a table of colours": Coding(
        "classes:\n  background: [0, 0, 0]\n  road: [128, 64, 128]\n  tree: '#00008e'\n"
        "ignore: [[255, 255, 255]]\n",
        RGB,
    ),
    "a label_map of colours": Coding(
        "classes: [background, road, tree]\n"
        "label_map: {'#000000': background, '128,64,128': road, '#00008E': tree, '255, 255, 255': ignore}\n",
        RGB,
    ),
}
WRONG = {
    "no key classes": b"names: [a, b, c]\n",
    "an unknown key": b"classes: [background, road, tree]\nignore: [255]\npalette: voc\n",
    "a duplicate key": b"classes: [background, road, tree]\nignore: [255]\nignore: [254]\n",
    "a duplicate class": b"classes: [background, road, road]\nignore: [255]\n",
    "one class": b"classes: [background]\nignore: [255]\n",
    "too few classes": b"classes: [background, road]\nignore: [255]\n",
    "a number": b"classes: 3\n",
    "nested lists": b"classes: [[background], [road], [tree]]\n",
    "no YAML": b"classes: [background, road, tree\n",
    "a tab": b"classes:\n\t- background\n\t- road\n\t- tree\n",
    "UTF-16": "classes: [background, road, tree]\nignore: [255]\n".encode("utf-16"),
    "latin-1": "classes: [background, stra\xdfe, tree]\nignore: [255]\n".encode("latin-1"),
    "nothing": b"",
    "an id that is no number": b"classes: [background, road, tree]\nignore: [0xff]\n",
    "an id that is too large": b"classes: [background, road, tree]\nignore: [70000]\n",
    "a negative id": b"classes: [background, road, tree]\nignore: [-1]\n",
    "a class ignored": b"classes: [background, road, tree]\nignore: [2, 255]\n",
    "a class without a value": b"classes: [background, road, tree]\nlabel_map: {0: background, 1: road}\n",
    "an unknown class": b"classes: [background, road, tree]\nlabel_map: {0: background, 1: road, 2: car}\n",
    "void that is not said": b"classes: [background, road, tree]\n",
    "Python in it": b"classes: !!python/object/apply:os.getcwd []\n",
}


def mutate_table(plan: Plan) -> str:
    """It comes first: the masks are written as it says."""
    if plan.rng.random() < 0.3:
        name = list(WRONG)[plan.rng.integers(len(WRONG))]
        plan.table = WRONG[name]
        # A value that the table does not know is found in a mask, whose name is then said.
        plan.judge(REFUSED, "classes.yaml", *(name for pair in plan.pairs for name in pair.names()))
    else:
        name = list(CODINGS)[plan.rng.integers(len(CODINGS))]
        plan.coding = CODINGS[name]
    return f"classes.yaml: {name}"


# --- damage, and files that are too few or too many ---------------------------------------------------------


def mutate_damage(plan: Plan) -> str:
    pair = plan.victim()
    kinds: dict[str, Callable[[bytes], bytes]] = {
        "cut": lambda content: content[: len(content) // 2],
        "empty": lambda content: b"",
        "zeros": lambda content: bytes(len(content)),
        "half zeros": lambda content: content[: len(content) // 2].ljust(len(content), b"\0"),
        "a web page": lambda content: b"<!DOCTYPE html><title>404 Not Found</title>",
        "a Git LFS pointer": lambda content: b"version https://git-lfs.github.com/spec/v1\nsize 1234\n",
    }
    name = list(kinds)[plan.rng.integers(len(kinds))]
    damage = kinds[name]
    if plan.rng.integers(2):
        pair.encode_image = lambda rgb: damage(saved(rgb))
        plan.judge(REFUSED, pair.image_name)
    else:
        pair.encode_mask = lambda raw: damage(saved(raw))
        plan.judge(REFUSED, pair.mask_name)
    return f"of {pair.stem!a} one file is {name}"


def mutate_files(plan: Plan) -> str:
    pair, tail = plan.victim(), "train" if plan.layout == "folders" else ""
    extra = saved(np.zeros((HEIGHT, WIDTH), np.uint8))

    def add(*names: str) -> Callable[[Path], None]:
        def after(root: Path) -> None:
            for name in names:
                path = root / name.replace("/train/", f"/{tail}/" if tail else "/")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(extra)

        return after

    kinds: dict[str, tuple[Verdict, Callable[[Path], None]]] = {
        "a mask is missing": (
            REFUSED,
            lambda root: (root / "masks" / tail / pair.mask_name).unlink(),
        ),
        "a mask more": (RIGHT, add("masks/train/more.png")),
        "hidden files": (
            RIGHT,
            add("images/train/.DS_Store", "images/train/._x.png", "images/train/.ipynb_checkpoints/y.png"),
        ),
        "hidden masks": (RIGHT, add("masks/train/._train0.png", "masks/.thumbs/train0.png")),
        "other files": (RIGHT, add("images/train/Thumbs.db", "images/README.md", "masks/train/notes.txt")),
        "two masks of an image": (REFUSED, add(f"masks/train/{pair.stem}.bmp")),
        "two images of a name": (REFUSED, add(f"images/train/{pair.stem}.bmp")),
        "an empty folder": (RIGHT, lambda root: (root / "images" / tail / "empty.png").mkdir()),
    }
    name = list(kinds)[plan.rng.integers(len(kinds))]
    verdict, after = kinds[name]
    plan.after.insert(0, after)  # before folders are moved and linked
    plan.judge(verdict, pair.stem)
    return f"{name}, {pair.stem!a}"


# --- all of them --------------------------------------------------------------------------------------------

# In the order in which they are applied: masks are written as the table says, lists hold the names.
MUTATIONS = (
    *(mutate_table, mutate_layout, mutate_name, mutate_mask, mutate_image, mutate_size, mutate_damage),
    mutate_files,
)
OFTEN = (2, 3, 2, 4, 2, 2, 1, 1)  # how often, relative to each other


def plan_of(seed: int) -> Plan:
    rng = np.random.default_rng(seed)
    pairs = []
    for split, count in (("train", int(rng.integers(3, 7))), ("val", 2)):
        for number in range(count):
            chosen = rng.choice(
                np.array([0, 1, 2, VOID], np.uint8), (HEIGHT // 5, WIDTH // 5), p=(0.4, 0.25, 0.25, 0.1)
            )
            chosen[0, :4] = 0, 1, 2, VOID
            label = np.kron(chosen, np.ones((5, 5), np.uint8))
            pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
            pairs.append(Pair(split, f"{split}{number}", pixels, label))
    training = [pair for pair in pairs if pair.split == "train"]
    plan = Plan(rng, pairs, LISTED, [training[place] for place in rng.permutation(len(training))])
    count = int(rng.choice([1, 2, 3], p=(0.5, 0.35, 0.15)))
    odds = np.array(OFTEN) / sum(OFTEN)
    for place in sorted(rng.choice(len(MUTATIONS), count, replace=False, p=odds)):
        plan.done.append(MUTATIONS[place](plan))
    return plan


def raw_of(pair: Pair, coding: Coding) -> np.ndarray:
    """The mask's values: ids H x W, or colours H x W x 3."""
    dtype = np.uint16 if coding.wide else np.uint8
    table = np.zeros((256, 3) if coding.colours else 256, dtype)
    for index, raw in coding.raw.items():
        table[index] = raw
    return table[pair.label]


def mutated(seed: int, place: Path) -> Mutation:
    """Write the folder of a seed to `place`, which must not exist."""
    plan = plan_of(seed)
    for pair in plan.pairs:
        sub_folder = pair.split if plan.layout == "folders" else ""
        raw = raw_of(pair, plan.coding)
        for kind, name, content in (
            ("images", pair.image_name, (pair.encode_image or saved)(pair.pixels)),
            ("masks", pair.mask_name, (pair.encode_mask or saved)(raw)),
        ):
            (place / kind / sub_folder).mkdir(parents=True, exist_ok=True)
            (place / kind / sub_folder / name).write_bytes(content)
    (place / "classes.yaml").write_bytes(plan.coding.table.encode() if plan.table is None else plan.table)
    if plan.layout == "lists":
        for split in ("train", "val"):
            own = [pair for pair in plan.pairs if pair.split == split]
            (place / f"{split}.txt").write_bytes(plan.list_of(split, own))
    for after in plan.after:
        after(place)
    settings = {"val_fraction": 0.3} if plan.layout == "seeded" else {}
    return Mutation(
        *(seed, place, plan.done, settings, plan.verdict, plan.clues, plan.pairs, plan.layout == "seeded")
    )


if __name__ == "__main__":
    written = mutated(int(sys.argv[1]), Path(sys.argv[2]))
    print(written.verdict.name, *written.done, *written.settings.items(), sep="\n")
