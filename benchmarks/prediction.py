"""Prediction of images of any size: peak memory, what windows change, and going on after a kill.

python -m benchmarks.prediction footprint                  estimated and real memory of several networks
python -m benchmarks.prediction curve                      peak memory over sizes, whole and in windows
python -m benchmarks.prediction windows RUN FOLDER         windows against whole images: share of equal ids
python -m benchmarks.prediction large [--side 12000]       a GeoTIFF of noise; --network RUN: with its weights
python -m benchmarks.prediction sparse [--side 100000]     a sparse GeoTIFF with a stub of one convolution
python -m benchmarks.prediction killed                     killed with SIGKILL and continued: the same bytes

Each measurement of memory is a process of its own, as a command is; its peak is the kernel's (VmHWM). RUN is
a run or an imported checkpoint, FOLDER holds images of one size.
"""

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace as with_changes
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from deeplabx.backbone.normalization import IMAGENET
from deeplabx.dataset.image_file import read_image
from deeplabx.engine import windows
from deeplabx.engine.footprint import bytes_per_pixel
from deeplabx.engine.journal import Journal
from deeplabx.engine.predictor import Predictor
from deeplabx.engine.raster_prediction import predict_raster
from deeplabx.process.memory import keep_freed_memory
from deeplabx.run.build import build_model
from deeplabx.run.description import stored_model

CPU = torch.device("cpu")
CLASSES = 21
MEBIBYTE = 2**20
NETWORKS = (
    ("deeplabv3plus", "mobilenetv2", 16, 1025),
    ("lraspp", "mobilenetv3_large", 16, 1025),
    ("deeplabv3plus", "resnet50", 16, 769),
    ("deeplabv3", "resnet50", 8, 769),
    ("deeplabv3plus", "xception65", 16, 769),
    ("deeplabv2", "resnet101", 8, 513),
    ("deeplabv1", "vgg16", 8, 513),
)
SIZES = (513, 1025, 2049, 3073)
WAYS: dict[str, tuple[float, bool]] = {  # overlap, and whether weights fall to the edges
    "no overlap": (0.0, False),
    "a third, plain mean": (1 / 3, False),
    "a quarter, smooth": (1 / 4, True),
    "a third, smooth": (1 / 3, True),
    "a half, smooth": (1 / 2, True),
}


def network(model: str = "deeplabv3plus", backbone: str = "mobilenetv2", stride: int = 16) -> nn.Module:
    torch.manual_seed(0)
    found = build_model(model, backbone=backbone, num_classes=CLASSES, output_stride=stride)
    return found.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]


def stub() -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv2d(3, CLASSES, 3, padding=1).eval()


BUILT: dict[str, Callable[[], nn.Module]] = {
    "v3plus": network,
    "lraspp": lambda: network("lraspp", "mobilenetv3_large"),
    "stub": stub,
}


def predictor(model: nn.Module, **settings: Any) -> Predictor:
    return Predictor(model, IMAGENET, CPU, num_classes=CLASSES, training_crop=513, **settings)


# --- memory -------------------------------------------------------------------------------------------------


def status(name: str) -> int:
    """Bytes that the kernel states of this process."""
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith(name))


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def in_own_process(*words: object) -> str:
    command = [sys.executable, "-m", "benchmarks.prediction", *map(str, words)]
    return subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout.strip()


def footprint_of(model: str, backbone: str, stride: int, side: int) -> None:
    built = network(model, backbone, stride)
    estimate = bytes_per_pixel(built, channels=3)
    found = predictor(built)
    found.ids(np.zeros((64, 64, 3), np.uint8))
    before, image = status("VmRSS"), np.zeros((side, side, 3), np.uint8)
    forget_peak()
    found.ids(image)
    real = (status("VmHWM") - before) / side**2
    numbers = f"{stride:>3} {side:>6} {estimate:>8.0f} {real:>8.0f} {real / estimate:>6.2f}"
    print(f"{model:<14} {backbone:<18} {numbers}")


def footprint() -> None:
    print("model          backbone        stride   side  counted     real  ratio    (bytes per pixel)")
    for one in NETWORKS:
        print(in_own_process("footprint-of", *one), flush=True)


def curve_of(side: int, way: str) -> None:
    found = predictor(network(), window=None if way == "whole" else 513)
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    began = time.perf_counter()
    found.ids(image)
    seconds = time.perf_counter() - began
    print(f"{side:>6} {way:<8} {status('VmHWM') / MEBIBYTE:>8.0f} MiB {seconds:>7.1f} s")


def curve() -> None:
    print("  side  way           peak      time    (v3+ on MobileNetV2, the whole process)")
    for side in SIZES:
        for way in ("whole", "windows"):
            print(in_own_process("curve-of", side, way), flush=True)


# --- what windows change ------------------------------------------------------------------------------------


def compared(run: str, folder: Path, count: int) -> None:
    found = stored_model(run).predictor()
    every = sorted(path for path in folder.rglob("*") if path.suffix in (".png", ".jpg"))
    paths = random.Random(0).sample(every, min(count, len(every)))
    whole, cut = Predictor(**{**vars(found), "window": None}), Predictor(**{**vars(found), "window": 513})
    images = [read_image(path) for path in paths]
    expected = [whole.ids(image) for image in images]
    height, width = images[0].shape[:2]
    print(f"{len(images)} images, the first of {width} x {height}; windows of 513 x 513")
    print("overlap                equal to whole   pixels of two windows that differ   seconds an image")
    for name, (overlap, smooth) in WAYS.items():
        with_overlap(overlap, smooth=smooth)
        equal, total, twice, differing = 0, 0, 0, 0
        began = time.perf_counter()
        for image, ids in zip(images, expected, strict=True):
            one = cut.predict([image])[0]
            assert one.tiling is not None
            equal, total = equal + int((one.ids == ids).sum()), total + ids.numel()
            twice, differing = twice + one.tiling.overlapped, differing + one.tiling.differing
        seconds = (time.perf_counter() - began) / len(images)
        share = f"{100 * differing / twice:.2f} %" if twice else "-"
        print(f"{name:<22} {100 * equal / total:>13.3f} % {share:>35} {seconds:>17.1f}", flush=True)


def with_overlap(overlap: float, *, smooth: bool) -> None:
    """Change how windows overlap, in this process."""
    changed: Any = windows
    changed.OVERLAP, changed.edge_weights = overlap, SMOOTH if smooth else np.ones


SMOOTH: Callable[[int], np.ndarray] = windows.edge_weights

# --- GeoTIFF ------------------------------------------------------------------------------------------------


def raster(path: Path, side: int, *, sparse: bool) -> Path:
    """A raster of smooth noise; a sparse one has data in three places only."""
    import rasterio

    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(0.1, 0, 5e5, 0, -0.1, 5e6)}
    tiles = {
        "tiled": True,
        "blockxsize": 512,
        "blockysize": 512,
        "compress": "deflate",
        "bigtiff": "IF_SAFER",
    }
    generator = np.random.default_rng(0)
    size = {"height": side, "width": side, "count": 3, "dtype": "uint8", "sparse_ok": True}
    nodata = {"nodata": 0} if sparse else {}
    with rasterio.open(path, "w", driver="GTiff", **size, **tiles, **place, **nodata) as file:
        tops = [side // 30, side // 2, side - 1024] if sparse else range(0, side, 1024)
        for top in tops:
            lefts = [top] if sparse else range(0, side, 1024)
            for left in lefts:
                high, wide = min(1024, side - top), min(1024, side - left)
                coarse = generator.integers(1, 256, (3, -(-high // 16), -(-wide // 16)), dtype=np.uint8)
                pixels = np.kron(coarse, np.ones((1, 16, 16), np.uint8))[:, :high, :wide]
                file.write(pixels, window=((top, top + high), (left, left + wide)))
    return path


def raster_of(source: Path, out: Path, which: str, die_at: int) -> None:
    """Predict a raster. die_at: how many bands are on the disk when SIGKILL comes; 0: it does not."""
    if die_at:
        changed: Any = Journal
        write = changed.write

        def dying(self: Journal, number: int, *rest: Any) -> None:
            write(self, number, *rest)
            if number + 1 == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

        changed.write = dying
    if which in BUILT:
        found = predictor(BUILT[which](), window=513)
    else:
        found = with_changes(stored_model(which).predictor(), window=513)
    began = time.perf_counter()
    done = predict_raster(
        found,
        source,
        ids_path=out,
        classes=[f"class {index}" for index in range(CLASSES)],
        palette=[(index, index, index) for index in range(CLASSES)],
        checkpoint=which,
        progress=sys.stderr.isatty(),
    )
    seconds = time.perf_counter() - began
    print(f"{done.words}; {seconds:.0f} s, peak {status('VmHWM') / MEBIBYTE:.0f} MiB")


def large(side: int, which: str, *, sparse: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = raster(Path(folder) / "in.tif", side, sparse=sparse)
        print(in_own_process("raster-of", source, Path(folder) / "ids.tif", which, 0))


def killed(side: int, which: str) -> None:
    """A prediction that is killed twice, against one that is not."""
    with tempfile.TemporaryDirectory() as folder:
        source, out = raster(Path(folder) / "in.tif", side, sparse=False), Path(folder) / "ids.tif"
        print("unbroken: ", in_own_process("raster-of", source, out, which, 0))
        unbroken = hashlib.sha256(out.read_bytes()).hexdigest()
        out.unlink()
        for die_at in (1, 3):
            words = map(str, ("raster-of", source, out, which, die_at))
            ended = subprocess.run([sys.executable, "-m", "benchmarks.prediction", *words], check=False)
            print(f"killed after {die_at} bands: exit {ended.returncode}, no file: {not out.exists()}")
        print("continued:", in_own_process("raster-of", source, out, which, 0))
        print("the same bytes:", hashlib.sha256(out.read_bytes()).hexdigest() == unbroken)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    parts.add_parser("footprint")
    parts.add_parser("curve")
    compare = parts.add_parser("windows")
    compare.add_argument("run")
    compare.add_argument("folder", type=Path)
    compare.add_argument("--images", type=int, default=8)
    for name, side, which in (
        ("large", 12_000, "v3plus"),
        ("sparse", 100_000, "stub"),
        ("killed", 1600, "lraspp"),
    ):
        one = parts.add_parser(name)
        one.add_argument("--side", type=int, default=side)
        one.add_argument("--network", default=which, help=f"{', '.join(BUILT)}, or a run")
    one = parts.add_parser("footprint-of")
    for name, kind in (("model", str), ("backbone", str), ("stride", int), ("side", int)):
        one.add_argument(name, type=kind)
    one = parts.add_parser("curve-of")
    one.add_argument("side", type=int)
    one.add_argument("way")
    one = parts.add_parser("raster-of")
    for name, as_type in (("source", Path), ("out", Path), ("which", str), ("die_at", int)):
        one.add_argument(name, type=as_type)
    given = parser.parse_args(words)
    keep_freed_memory()  # as commands do
    match given.part:
        case "footprint":
            footprint()
        case "footprint-of":
            footprint_of(given.model, given.backbone, given.stride, given.side)
        case "curve":
            curve()
        case "curve-of":
            curve_of(given.side, given.way)
        case "windows":
            compared(given.run, given.folder, given.images)
        case "large" | "sparse":
            large(given.side, given.network, sparse=given.part == "sparse")
        case "killed":
            killed(given.side, given.network)
        case "raster-of":
            raster_of(given.source, given.out, given.which, given.die_at)


if __name__ == "__main__":
    main()
