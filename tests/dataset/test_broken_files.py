"""Broken files of a data set: each is named in an error of a few lines or, with dataset.on_bad=skip, counted
and listed.
"""

import gzip
import io
import json
import os
import re
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from deeplabx.dataset.contract import IGNORE_INDEX
from deeplabx.dataset.fake_folder import CLASSES as FOLDER_CLASSES
from deeplabx.dataset.fake_scenes import scenes
from deeplabx.dataset.image_file import read_image
from deeplabx.dataset.label_file import read_label
from deeplabx.dataset.labels import voc_palette
from deeplabx.dataset.loader import Batch, training_batches
from deeplabx.dataset.writing import write_ids, write_image
from deeplabx.errors import DataError, report
from deeplabx.run.build import open_dataset
from tests.conftest import TINY, Deeplabx

pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning:PIL"
)  # as deeplabx.dataset.image_file has it in a command

HEIGHT, WIDTH = 48, 64
PALETTE = voc_palette(len(FOLDER_CLASSES))
FOLDERS = {"image": "images", "mask": "masks"}
Content = (
    bytes | Callable[[np.ndarray], bytes]
)  # of the pixels that the file should hold: RGB, or a mask's ids


def encoded(pixels: np.ndarray, form: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **options)
    return file.getvalue()


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def cut_at_half(form: str) -> Content:
    return lambda pixels: half(encoded(pixels, form))


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A grey PNG with a correct header and these chunks."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in ((b"IHDR", header), *chunks, (b"IEND", b""))
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def in_zip(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.png", encoded(pixels))
    return file.getvalue()


def as_array(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, pixels)
    return file.getvalue()


def animation(pixels: np.ndarray) -> bytes:
    return encoded(pixels, "GIF", save_all=True, append_images=[Image.fromarray(255 - pixels)])


def bmp_of_2_31_rows(pixels: np.ndarray) -> bytes:
    content = encoded(pixels, "BMP")
    return content[:22] + b"\0\0\0\x80" + content[26:]


DATA = zlib.compress(b"\0" * 100)
CONTENTS: dict[str, Content] = {  # in the place of an image and of a mask
    # cut
    "empty": b"",
    "one byte": b"\x89",
    "only a signature": lambda pixels: encoded(pixels)[:8],
    "cut in the header": lambda pixels: encoded(pixels)[:20],
    "cut at half": cut_at_half("PNG"),
    "cut near the end": lambda pixels: encoded(pixels)[:-40],
    "first half lost": lambda pixels: encoded(pixels)[len(encoded(pixels)) // 2 :],
    **{f"{form} cut at half": cut_at_half(form) for form in ("JPEG", "TIFF", "BMP", "WEBP", "PPM")},
    "JPEG cut in the header": lambda pixels: encoded(pixels, "JPEG")[:100],
    # changed on the way
    "one bit of the signature": lambda pixels: flipped(encoded(pixels), 3),
    "one bit of the header": lambda pixels: flipped(encoded(pixels), 8 * 19 + 4),
    "zeros": lambda pixels: bytes(len(encoded(pixels))),
    "second half zeros": lambda pixels: half(encoded(pixels)).ljust(len(encoded(pixels)), b"\0"),
    "noise": np.random.default_rng(0).bytes(2000),
    "line ends converted": lambda pixels: encoded(pixels).replace(b"\n", b"\r\n"),
    "decoded as text": lambda pixels: encoded(pixels).decode("utf-8", "replace").encode(),
    # something else
    "text": b"no image\n" * 20,
    "HTML": b"<!DOCTYPE html><html><body>404 Not Found</body></html>\n" * 20,
    "SVG": b'<svg xmlns="http://www.w3.org/2000/svg" width="64" height="48"></svg>\n',
    "Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    "ZIP": in_zip,
    "gzip": lambda pixels: gzip.compress(encoded(pixels)),
    "animated GIF": animation,
    "MP4": b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41" * 20,
    "HEIC": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" * 20,
    "PDF": b"%PDF-1.7\n1 0 obj\n" * 20,
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 48\n" * 20,
    "NumPy array": as_array,
    # headers that lie
    "10^10 pixels": png(100_000, 100_000, (b"IDAT", DATA)),
    "no width": png(0, HEIGHT, (b"IDAT", DATA)),
    "no rows": png(WIDTH, HEIGHT),
    "rows that do not inflate": png(WIDTH, HEIGHT, (b"IDAT", b"not deflated" * 9)),
    "TIFF without a table": b"II*\0\xf0\xff\xff\x0f" + bytes(100),
    "BMP of 2^31 rows": bmp_of_2_31_rows,
    # intact files that do not fit
    "16 bits per channel": bytes(cv2.imencode(".png", np.full((HEIGHT, WIDTH, 3), 999, np.uint16))[1]),
    "floating point": encoded(np.full((HEIGHT, WIDTH), 0.5, np.float32), "TIFF"),
    "another size": lambda pixels: encoded(pixels[:-1]),
    "turned": lambda pixels: encoded(np.ascontiguousarray(pixels.swapaxes(0, 1))),
}
IMAGES: dict[str, Content] = {"16 bits of grey": encoded(np.full((HEIGHT, WIDTH), 999, np.uint16))}
MASKS: dict[str, Content] = {
    "id out of range": lambda ids: encoded(np.where(ids == ids[0, 0], 77, ids).astype(np.uint8)),
    "16-bit id out of range": lambda ids: encoded(ids.astype(np.uint16) + 4000),
    "colours for ids": lambda ids: encoded(np.stack([ids * 60] * 3, axis=2)),
    "transparency": lambda ids: encoded(np.stack([ids * 60] * 4, axis=2)),
}
BY_ROLE = {"image": CONTENTS | IMAGES, "mask": CONTENTS | MASKS}
CASES = [(role, name) for role, contents in BY_ROLE.items() for name in contents]


def write_set(root: Path, **stems: list[str]) -> Path:
    """A folder data set of intact images, their stems by split."""
    for seed, (split, names) in enumerate(stems.items()):
        found = scenes(len(names), PALETTE, height=HEIGHT, width=WIDTH, seed=seed)
        for stem, scene in zip(names, found, strict=True):
            write_image(root / "images" / split / f"{stem}.png", scene.image)
            write_ids(root / "masks" / split / f"{stem}.png", scene.ids, PALETTE)
    ids = dict(enumerate(FOLDER_CLASSES))  # stated, so that no mask is read to find out
    table = {"classes": FOLDER_CLASSES, "label_map": ids, "ignore": [IGNORE_INDEX]}
    (root / "classes.yaml").write_text(yaml.safe_dump(table))
    return root


def break_file(root: Path, split: str, stem: str, *, role: str, name: str) -> Path:
    """Put the broken file `name` in the place of an image or a mask; its path."""
    path = root / FOLDERS[role] / split / f"{stem}.png"
    content = BY_ROLE[role][name]
    path.write_bytes(
        content(read_image(path) if role == "image" else read_label(path)) if callable(content) else content
    )
    return path


def first_batch(root: Path) -> Batch:
    samples = open_dataset("folder", split="train", root=str(root))
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
    return next(batch for batch in batches if batch is not None)


# --- the error ----------------------------------------------------------------------------------------------


def assert_names(printed: str, path: Path) -> None:
    assert str(path) in printed
    assert len(printed.splitlines()) <= 3


@pytest.mark.parametrize(("role", "name"), CASES, ids=[f"{role}-{name}" for role, name in CASES])
def test_a_broken_file_is_named(
    role: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = break_file(write_set(tmp_path, train=["a", "b", "c"]), "train", "b", role=role, name=name)
    with pytest.raises(DataError) as raised:
        first_batch(tmp_path)
    assert report(raised.value) == 3
    assert_names(capsys.readouterr().err, path)


NO_FILES: dict[str, Callable[[Path], object]] = {
    "dangling link": lambda path: path.symlink_to("nowhere.png"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "named pipe": os.mkfifo,
    "folder": Path.mkdir,
}
NO_FILE_CASES = [  # a folder among images is a folder of images
    (role, name) for role in FOLDERS for name in NO_FILES if (role, name) != ("image", "folder")
]


@pytest.mark.parametrize(("role", "name"), NO_FILE_CASES)
def test_what_is_no_file_is_named(
    role: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_set(tmp_path, train=["a", "b", "c"]) / FOLDERS[role] / "train/b.png"
    path.unlink()
    NO_FILES[name](path)
    with pytest.raises(DataError) as raised:
        first_batch(tmp_path)
    assert report(raised.value) == 3
    assert_names(capsys.readouterr().err, path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("role", FOLDERS)
def test_a_file_that_may_not_be_read_is_named(role: str, tmp_path: Path) -> None:
    path = write_set(tmp_path, train=["a", "b", "c"]) / FOLDERS[role] / "train/b.png"
    path.chmod(0)
    with pytest.raises(DataError, match=re.escape(str(path))):
        first_batch(tmp_path)


@pytest.mark.parametrize(("form", "role"), [("PNG", "image"), ("PNG", "mask"), ("JPEG", "image")])
def test_a_flipped_bit_is_an_error_of_the_file_or_changes_no_pixel(
    form: str, role: str, tmp_path: Path
) -> None:
    (scene,) = scenes(1, PALETTE, height=HEIGHT, width=WIDTH, seed=0)
    read, pixels = (read_image, scene.image) if role == "image" else (read_label, scene.ids)
    content, path = encoded(pixels, form), tmp_path / "flipped.png"
    path.write_bytes(content)
    intact = read(path)
    outcomes: Counter[str] = Counter()
    for bit in np.random.default_rng(0).integers(0, 8 * len(content), 130):
        path.write_bytes(flipped(content, int(bit)))
        try:
            outcomes["same" if np.array_equal(read(path), intact) else "another"] += 1
        except DataError as error:
            outcomes["error" if path.name in str(error) else "unnamed"] += 1
    assert outcomes["error"] > 0
    assert outcomes["unnamed"] == 0
    # PNG has checksums; JPEG has none, so a flipped bit may give another image that is as valid.
    assert form == "JPEG" or outcomes["another"] == 0


def test_masks_are_understood_though_the_first_is_broken(tmp_path: Path) -> None:
    root = write_set(tmp_path, train=["a", "b", "c"])
    # Of a table of colours, only the masks show whether they hold ids or colours.
    colours = dict(zip(FOLDER_CLASSES, map(list, PALETTE), strict=True))
    table = {"classes": colours, "ignore": [IGNORE_INDEX]}
    (root / "classes.yaml").write_text(yaml.safe_dump(table, sort_keys=False))
    break_file(root, "train", "a", role="mask", name="empty")
    ids = read_label(root / "masks/train/b.png")
    assert np.array_equal(open_dataset("folder", split="train", root=str(root)).label(1), ids)


# --- in commands --------------------------------------------------------------------------------------------

QUICK = [
    *(one for one in TINY if not one.startswith("dataset.")),
    "model=deeplabv3",
    "augment.crop_size=17",
    "trainer.samples=0",
    "dataset=folder",
    "dataset.root=data",
]


@pytest.mark.parametrize(("split", "workers"), [("train", 0), ("train", 1), ("val", 0)])
def test_a_training_names_the_broken_file(
    split: str, workers: int, deeplabx: Deeplabx, tmp_path: Path
) -> None:
    root = write_set(tmp_path / "data", train=["a", "b", "c", "d"], val=["a", "b"])
    path = break_file(root, split, "b", role="image", name="TIFF without a table")
    ended = deeplabx("train", *QUICK, f"trainer.workers={workers}", "hydra.run.dir=run")
    assert ended.code == 3
    assert_names(ended.err, path.relative_to(tmp_path))


@pytest.mark.slow
def test_broken_files_are_passed_over_counted_and_listed(deeplabx: Deeplabx, tmp_path: Path) -> None:
    broken = {f"{number:03}_broken": case for number, case in enumerate(CASES)}
    in_val = dict([*broken.items()][::8])
    intact = [f"{number:03}_intact" for number in range(0, len(CASES), 2)]  # between them
    root = write_set(tmp_path / "data", train=[*broken, *intact], val=[*in_val, *intact[:2]])
    paths = [
        break_file(root, split, stem, role=role, name=name)
        for split, chosen in (("train", broken), ("val", in_val))
        for stem, (role, name) in chosen.items()
    ]
    quick = [one for one in QUICK if not one.startswith("schedule.max_iters")]
    ended = deeplabx("train", *quick, "trainer.epochs=1", "dataset.on_bad=skip", "hydra.run.dir=run")
    assert (ended.code, ended.err) == (0, "")
    listed = (tmp_path / "run/unreadable.txt").read_text().splitlines()
    assert len(listed) == len(paths)
    for path in paths:
        assert sum(str(path.relative_to(tmp_path)) in line for line in listed) == 1, path
    counted = re.findall(r"skipped (\d+) unreadable files", ended.out)
    assert sum(map(int, counted)) == len(listed)

    assert deeplabx("eval", "ckpt=run", "trainer.devices=cpu", "hydra.run.dir=eval").code == 0
    result = json.loads((tmp_path / "eval/result.json").read_text())
    assert result["images"] == 2
    assert len(result["unreadable"]) == len(in_val)
    for path in paths[len(broken) :]:
        assert any(str(path.relative_to(tmp_path)) in line for line in result["unreadable"]), path
