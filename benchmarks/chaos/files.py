"""Broken files in a data set: each is named in an error of a few lines, or, with dataset.on_bad=skip, passed
over, counted and listed.
"""

import contextlib
import gzip
import io
import json
import os
import re
import shutil
import struct
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import yaml
from PIL import Image

from benchmarks.chaos.commands import TINY, Ended, command
from benchmarks.chaos.row import Measured, Row
from deeplabx import apps
from deeplabx.dataset import build_dataset
from deeplabx.dataset.contract import IGNORE_INDEX
from deeplabx.dataset.fake import FOLDER_CLASSES, scenes
from deeplabx.dataset.io import read_image, read_label, write_ids, write_image
from deeplabx.dataset.labels import voc_palette
from deeplabx.dataset.loader import training_batches
from deeplabx.errors import DataError

HEIGHT, WIDTH = 48, 64
ROLES = {"image": "images", "mask": "masks"}
FEWEST = 24  # kinds, for each role
SHORT = (
    "empty",
    "cut at half",
    "JPEG cut at half",
    "text",
    "second half zeros",
    "TIFF without a table",
    "another size",
    "id out of range",
    "no rows",
)
FLIPS, FEW_FLIPS = 400, 60


class Kind(NamedTuple):
    """`put` writes the broken file where the pixels should be: RGB of an image, ids of a mask."""

    name: str
    put: Callable[[Path, np.ndarray], None]
    roles: tuple[str, ...] = tuple(ROLES)
    missing: bool = (
        False  # no file at all, which is an error of the data set as a whole, and cannot be skipped
    )


# --- the kinds ----------------------------------------------------------------------------------------------

KINDS: list[Kind] = []


def kind(name: str, content: Callable[[np.ndarray], bytes], *roles: str) -> None:
    def put(path: Path, pixels: np.ndarray) -> None:
        path.write_bytes(content(pixels))

    KINDS.append(Kind(name, put, roles or tuple(ROLES)))


def unreadable(path: Path, pixels: np.ndarray) -> None:
    path.write_bytes(encoded(pixels))
    path.chmod(0)


def encoded(pixels: np.ndarray, form: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **options)
    return file.getvalue()


def by_cv2(pixels: np.ndarray, suffix: str) -> bytes:
    return bytes(cv2.imencode(suffix, pixels)[1])


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    """A grey PNG with a sound header, of the chunks that are given."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks)


def zipped(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.png", encoded(pixels))
    return file.getvalue()


def numpy_file(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, pixels)
    return file.getvalue()


def moving(pixels: np.ndarray) -> bytes:
    frames = [Image.fromarray(pixels), Image.fromarray(255 - pixels)]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    return file.getvalue()


def repeated(text: bytes) -> Callable[[np.ndarray], bytes]:
    return lambda pixels: text * 20


# cut
kind("empty", lambda pixels: b"")
kind("one byte", lambda pixels: b"\x89")
kind("only a signature", lambda pixels: encoded(pixels)[:8])
kind("cut in the header", lambda pixels: encoded(pixels)[:20])
kind("cut at half", lambda pixels: encoded(pixels)[: len(encoded(pixels)) // 2])
kind("cut near the end", lambda pixels: encoded(pixels)[:-40])
kind("first half lost", lambda pixels: encoded(pixels)[len(encoded(pixels)) // 2 :])
for form in ("JPEG", "TIFF", "BMP", "WEBP", "PPM"):
    kind(
        f"{form} cut at half",
        lambda pixels, form=form: encoded(pixels, form)[: len(encoded(pixels, form)) // 2],  # type: ignore[misc]
    )
kind("JPEG cut in the header", lambda pixels: encoded(pixels, "JPEG")[:100])
# changed on the way
kind("one bit of the signature", lambda pixels: flipped(encoded(pixels), 3))
kind("one bit of the header", lambda pixels: flipped(encoded(pixels), 8 * 19 + 4))
kind("zeros", lambda pixels: bytes(len(encoded(pixels))))
kind(
    "second half zeros",
    lambda pixels: encoded(pixels)[: len(encoded(pixels)) // 2].ljust(len(encoded(pixels)), b"\0"),
)
kind("noise", lambda pixels: np.random.default_rng(0).bytes(2000))
kind("line ends converted", lambda pixels: encoded(pixels).replace(b"\n", b"\r\n"))
kind("decoded as text", lambda pixels: encoded(pixels).decode("utf-8", "replace").encode())
# something else
kind("text", repeated(b"no image\n"))
kind("HTML", repeated(b"<!DOCTYPE html><html><body>404 Not Found</body></html>\n"))
kind("SVG", repeated(b'<svg xmlns="http://www.w3.org/2000/svg" width="64" height="48"></svg>\n'))
kind(
    "Git LFS pointer", repeated(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
)
kind("ZIP", zipped)
kind("gzip", lambda pixels: gzip.compress(encoded(pixels)))
kind("animated GIF", moving)
kind("MP4", repeated(b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41"))
kind("HEIC", repeated(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"))
kind("PDF", repeated(b"%PDF-1.7\n1 0 obj\n"))
kind("PostScript", repeated(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 48\n"))
kind("NumPy array", numpy_file)
# headers that lie
kind(
    "10^10 pixels",
    lambda pixels: png(100_000, 100_000, chunk(b"IDAT", zlib.compress(b"\0" * 100)), chunk(b"IEND", b"")),
)
kind(
    "no width", lambda pixels: png(0, HEIGHT, chunk(b"IDAT", zlib.compress(b"\0" * 100)), chunk(b"IEND", b""))
)
kind("no rows", lambda pixels: png(WIDTH, HEIGHT, chunk(b"IEND", b"")))
kind(
    "rows that do not inflate",
    lambda pixels: png(WIDTH, HEIGHT, chunk(b"IDAT", b"not deflated" * 9), chunk(b"IEND", b"")),
)
kind("TIFF without a table", lambda pixels: b"II*\0\xf0\xff\xff\x0f" + bytes(100))
kind(
    "BMP of 2^31 rows",
    lambda pixels: encoded(pixels, "BMP")[:22] + b"\0\0\0\x80" + encoded(pixels, "BMP")[26:],
)
# sound files that do not fit
kind("16 bits per channel", lambda pixels: by_cv2(np.full((HEIGHT, WIDTH, 3), 999, np.uint16), ".png"))
kind("floating point", lambda pixels: encoded(np.full((HEIGHT, WIDTH), 0.5, np.float32), "TIFF"))
kind("another size", lambda pixels: encoded(pixels[:-1]))
kind("turned", lambda pixels: encoded(np.ascontiguousarray(pixels.swapaxes(0, 1))))
kind("16 bits of grey", lambda pixels: encoded(np.full((HEIGHT, WIDTH), 999, np.uint16)), "image")
kind(
    "id out of range",
    lambda pixels: encoded(np.where(pixels == pixels[0, 0], 77, pixels).astype(np.uint8)),
    "mask",
)
kind("16-bit id out of range", lambda pixels: encoded(pixels.astype(np.uint16) + 4000), "mask")
kind("colours for ids", lambda pixels: encoded(np.stack([pixels * 60] * 3, axis=2)), "mask")
kind("transparency", lambda pixels: encoded(np.stack([pixels * 60] * 4, axis=2)), "mask")
# no file
KINDS.append(Kind("dangling link", lambda path, pixels: path.symlink_to("nowhere.png"), missing=True))
KINDS.append(Kind("link to itself", lambda path, pixels: path.symlink_to(path.name), missing=True))
KINDS.append(Kind("named pipe", lambda path, pixels: os.mkfifo(path), missing=True))
KINDS.append(
    Kind("a folder", lambda path, pixels: path.mkdir(), ("mask",), missing=True)
)  # among images it is a folder of images
if os.geteuid():  # root may read everything
    KINDS.append(Kind("no right to read", unreadable))


# --- the data set -------------------------------------------------------------------------------------------


class Broken(NamedTuple):
    kind: Kind
    role: str

    @property
    def stem(self) -> str:
        return f"{self.kind.name.replace(' ', '_').replace('^', '')}_{self.role}"


def write_set(root: Path, names: dict[str, list[str]]) -> None:
    """Sound images of the names of each split, and what their masks mean. It is said, so that no mask is read
    to find out.
    """
    palette = voc_palette(len(FOLDER_CLASSES))
    for seed, (split, stems) in enumerate(names.items()):
        for stem, scene in zip(
            stems, scenes(len(stems), palette, height=HEIGHT, width=WIDTH, seed=seed), strict=True
        ):
            write_image(root / "images" / split / f"{stem}.png", scene.image)
            write_ids(root / "masks" / split / f"{stem}.png", scene.ids, palette)
    table = {
        "classes": FOLDER_CLASSES,
        "label_map": dict(enumerate(FOLDER_CLASSES)),
        "ignore": [IGNORE_INDEX],
    }
    (root / "classes.yaml").write_text(yaml.safe_dump(table))


def place_of(root: Path, split: str, stem: str, role: str) -> Path:
    return root / ROLES[role] / split / f"{stem}.png"


def damage(path: Path, broken: Broken) -> None:
    """Put a broken file in the place of a sound one."""
    pixels = read_image(path) if broken.role == "image" else read_label(path)
    path.unlink()
    broken.kind.put(path, pixels)


# --- the error ----------------------------------------------------------------------------------------------


def met(root: Path) -> Ended:
    """What a training says of the data set, as far as its first batch."""
    told, code = io.StringIO(), 0
    with contextlib.redirect_stderr(told), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's; `commands` counts their lines
        try:
            samples = build_dataset("folder", split="train", root=str(root))
            batches = training_batches(
                samples,
                lambda image, label, rng: (image, label),
                batch_size=len(samples),
                seed=0,
                first_step=0,
                last_step=1,
                workers=0,
                pin_memory=False,
            )
            next(batches)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told of as the command would
            code = apps.report(apps.in_words(error, root))
    return Ended(code, "", told.getvalue())


def wrong(ended: Ended, path: Path) -> str:
    """What is wrong with the answer to a broken file; empty where nothing is."""
    if ended.code != 3:
        return f"exit {ended.code}: {ended.told[:160]}"
    if not ended.brief:
        return f"{len(ended.told.splitlines())} lines: {ended.told[:160]}"
    return "" if str(path) in ended.told else f"does not name the file: {ended.told[:160]}"


def each_is_named(work: Path, chosen: list[Broken]) -> Measured:
    root, defects = work / "each", []
    write_set(root, {"train": ["a", "b", "c"]})
    for broken in chosen:
        path = place_of(root, "train", "b", broken.role)
        sound = path.read_bytes()
        damage(path, broken)
        found = wrong(met(root), path)
        defects += [f"{broken.kind.name} as {broken.role}: {found}"] if found else []
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        path.write_bytes(sound)
    counts = Counter(broken.role for broken in chosen)
    words = (
        f"{counts['image']} kinds as image, {counts['mask']} as mask: {len(chosen) - len(defects)} "
        "named in <= 3 lines, exit 3"
    )
    return Measured(words + "".join(f"; {defect}" for defect in defects[:3]), not defects)


def flips(work: Path, count: int) -> Measured:
    """Single bits flipped anywhere. PNG has checksums; JPEG has none, so that a flip may only be another
    image.
    """
    rng = np.random.default_rng(0)
    scene = next(scenes(1, voc_palette(len(FOLDER_CLASSES)), height=HEIGHT, width=WIDTH, seed=0))
    outcomes: Counter[str] = Counter()
    path = work / "flipped.png"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for form, pixels, read in (
            ("PNG", scene.image, read_image),
            ("PNG", scene.ids, read_label),
            ("JPEG", scene.image, read_image),
        ):
            content = encoded(pixels, form)
            for bit in rng.integers(0, 8 * len(content), count // 3):
                path.write_bytes(flipped(content, int(bit)))
                try:
                    found = read(path)
                except DataError as error:
                    outcomes["error" if path.name in str(error) else "defect"] += 1
                except Exception:  # noqa: BLE001 - any other is a defect, and counted
                    outcomes["defect"] += 1
                else:
                    same = found.shape == pixels.shape and (found == pixels).all()
                    outcomes["same" if same else f"{form} silently another"] += 1
    path.unlink()
    return Measured(
        f"{outcomes.total()} bits flipped: "
        f"{', '.join(f'{number} {name}' for name, number in sorted(outcomes.items()))}",
        not outcomes["defect"] and not outcomes["PNG silently another"],
    )


def commands(work: Path) -> Measured:
    """Real trainings: the error arises in the main process, in a loader's worker, and in the evaluation."""
    named = {broken.stem: broken for broken in every()}
    cases = (
        ("TIFF_without_a_table_image", "train", 0),
        ("cut_at_half_mask", "train", 1),
        ("JPEG_cut_at_half_image", "val", 0),
    )
    ends, defects = [], []
    for stem, split, workers in cases:
        root = work / f"command_{stem}"
        write_set(root, {"train": ["a", "b", "c", "d"], "val": ["a", "b"]})
        path = place_of(root, split, "b", named[stem].role)
        damage(path, named[stem])
        settings = [
            *TINY,
            "schedule.max_iters=4",
            f"trainer.workers={workers}",
            "dataset=folder",
            f"dataset.root={root}",
        ]
        ends.append(command("train", *settings, f"hydra.run.dir={root}_run", work=work))
        found = wrong(ends[-1], path)
        defects += [f"{stem} in {split}: {found}"] if found else []
    return Measured(
        "; ".join([f"{len(cases)} commands: exits {[end.code for end in ends]}", *defects]), not defects
    )


# --- dataset.on_bad=skip ------------------------------------------------------------------------------------


def skipped(work: Path) -> Measured:
    """One training, and one evaluation, of a set that holds every kind at once. In an epoch each image's turn
    comes.
    """
    root, run = work / "skip", work / "skip_run"
    readable = [broken for broken in every() if not broken.kind.missing]
    in_val = readable[::8]
    sound = [f"sound_{number}" for number in range(len(readable) // 2)]
    write_set(
        root,
        {
            "train": [*sorted(broken.stem for broken in readable), *sound],
            "val": [*(broken.stem for broken in in_val), "sound_0", "sound_1"],
        },
    )
    paths = []
    for split, chosen in (("train", readable), ("val", in_val)):
        for broken in chosen:
            paths.append(place_of(root, split, broken.stem, broken.role))
            damage(paths[-1], broken)
    settings = [
        *TINY,
        "trainer.epochs=1",
        "trainer.batch_size=4",
        "trainer.samples=2",
        "dataset=folder",
        f"dataset.root={root}",
    ]
    ended = command("train", *settings, "dataset.on_bad=skip", f"hydra.run.dir={run}", work=work)
    listing = run / "unreadable.txt"
    listed = listing.read_text().splitlines() if listing.is_file() else []
    unlisted = [path.name for path in paths if sum(str(path) in line for line in listed) != 1]
    counted = sum(
        int(number) for number in re.findall(r"(\d+) unreadable files were passed over", ended.said)
    )
    evaluated = (
        command("eval", f"ckpt={run}", f"hydra.run.dir={work / 'eval'}", work=work)
        if ended.code == 0
        else ended
    )
    result = work / "eval/result.json"
    in_result = json.loads(result.read_text())["unreadable"] if result.is_file() else []
    words = (
        f"on_bad=skip: {ended.words}, {len(paths)} broken files, {counted} counted in the log, "
        f"{len(listed)} listed, {len(unlisted)} of them not "
        f"or twice; eval {evaluated.words}, {len(in_result)} of {len(in_val)} listed"
    )
    passed = (
        ended.code == 0
        and not ended.told
        and counted == len(listed) == len(paths)
        and not unlisted
        and evaluated.code == 0
        and len(in_result) == len(in_val)
        and all(any(str(path) in line for line in in_result) for path in paths[len(readable) :])
    )
    return Measured("; ".join([words, *([ended.told[-300:]] if ended.told else []), *unlisted[:3]]), passed)


def guessed(work: Path) -> Measured:
    """A table of colours leaves it to the masks whether ids or colours are meant; one that is broken must not
    keep the others from saying so.
    """
    root = work / "guess"
    write_set(root, {"train": ["a", "b", "c"]})
    colours = {
        name: list(colour)
        for name, colour in zip(FOLDER_CLASSES, voc_palette(len(FOLDER_CLASSES)), strict=True)
    }
    (root / "classes.yaml").write_text(
        yaml.safe_dump({"classes": colours, "ignore": [IGNORE_INDEX]}, sort_keys=False)
    )
    place_of(root, "train", "a", "mask").write_bytes(b"")
    try:
        build_dataset("folder", split="train", root=str(root))[1]
    except DataError as error:
        return Measured(f"one broken mask and none is understood: {error.message}", False)
    return Measured("masks are understood though the first is broken", True)


# --- the row ------------------------------------------------------------------------------------------------


def every() -> list[Broken]:
    return [Broken(kind, role) for kind in KINDS for role in kind.roles]


def broken_files(work: Path, short: bool) -> Measured:
    chosen = [broken for broken in every() if not short or broken.kind.name in SHORT]
    parts = [each_is_named(work, chosen), flips(work, FEW_FLIPS if short else FLIPS), guessed(work)]
    if not short:
        parts += [commands(work), skipped(work)]
        counts = Counter(broken.role for broken in chosen)
        parts[0] = Measured(
            parts[0].words, bool(parts[0].passed) and min(counts[role] for role in ROLES) >= FEWEST
        )
    shutil.rmtree(work / "each")
    return Measured("; ".join(part.words for part in parts), all(part.passed for part in parts))


ROWS = [
    Row(
        11,
        ">= 20 kinds of broken file, as image and as mask",
        "error names the file, exit 3, <= 3 lines; with dataset.on_bad=skip: counted and listed",
        broken_files,
    )
]
