"""Faults planted into short trainings: whether the run doctor names each and healthy runs are silent.
`python -m benchmarks.run_doctor`: eight faults and ten healthy runs, about 15 minutes on two quiet cores.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import deeplabx
from deeplabx.dataset.shapes import CLASSES, Shapes
from deeplabx.engine.doctor import alarms_of

STEPS = 240
COMMON = (
    "backbone=mobilenetv3_small",
    "dataset=folder",
    "augment.crop_size=65",
    f"schedule.max_iters={STEPS}",
    "trainer.batch_size=8",
    "trainer.precision=fp32",
    "optimizer.lr=0.05",
    "dataset.recommended.lr=0.05",
)
Relabel = Callable[[np.ndarray, str], np.ndarray]


def as_it_is(label: np.ndarray, split: str) -> np.ndarray:
    return label


def training_without_discs(label: np.ndarray, split: str) -> np.ndarray:
    """Discs are void in the training split: no weight ever hears of them."""
    return np.where((label == 1) & (split == "train"), 255, label).astype(np.uint8)


def hardly_any_object(label: np.ndarray, split: str) -> np.ndarray:
    """Nine of ten objects are labelled as background in the training split."""
    if split != "train":
        return label
    kept = np.zeros(label.shape, bool)
    kept[:8, :8] = True
    return np.where((label > 0) & (label < 255) & ~kept, 0, label).astype(np.uint8)


def shifted_ids(label: np.ndarray, split: str) -> np.ndarray:
    """The ids of the validation split are those of another list of classes."""
    moved = np.where(label < 255, (label.astype(int) + 3) % len(CLASSES), 255)
    return label if split == "train" else moved.astype(np.uint8)


def noise(label: np.ndarray, split: str) -> np.ndarray:
    """Labels that have nothing to do with the image, and no class that is more frequent than the others."""
    drawn = np.random.default_rng(int(label.sum())).integers(0, len(CLASSES), label.shape)
    return drawn.astype(np.uint8) if split == "train" else label


SLOW_SHAPES = """
import time
from dataclasses import dataclass
import deeplabx
from deeplabx.config.schema import ShapesSettings
from deeplabx.dataset.shapes import Shapes

class Slow(Shapes):
    def __getitem__(self, index):
        time.sleep(0.25)
        return super().__getitem__(index)

@dataclass
class SlowSettings(ShapesSettings):
    train_images: int = 64
    val_images: int = 8

deeplabx.register("dataset", "slow_shapes", build=Slow, settings=SlowSettings, words="a slow disk")
"""
GROWING = """
import deeplabx
from deeplabx.config.schema import LossSettings
from deeplabx.loss.cross_entropy import CrossEntropy

class Growing(CrossEntropy):
    def __init__(self):
        super().__init__()
        self.factor = 1.0

    def forward(self, logits, labels, *, ignore_index):
        self.factor *= 1.04
        return self.factor * super().forward(logits, labels, ignore_index=ignore_index)

deeplabx.register("loss", "growing", build=Growing, settings=LossSettings, words="its scale grows")
"""
PLUGINS = {"dataset=slow_shapes": SLOW_SHAPES, "loss=growing": GROWING}
# The fault, the labels it has, its settings, and the alarm that must come.
FAULTS: dict[str, tuple[Relabel, list[str], str]] = {
    "hardly any object is labelled": (hardly_any_object, [], "one_class"),
    "a class is void in training": (training_without_discs, [], "class_missed"),
    "labels are noise": (noise, [], "loss"),
    "a loss whose scale grows": (as_it_is, ["loss=growing", "optimizer.lr=0.01"], "gradient"),
    "learning rate 100 times too large": (
        as_it_is,
        ["optimizer.lr=5", "trainer.clip_norm=1"],
        "learning_rate",
    ),
    "batches of two": (as_it_is, ["trainer.batch_size=2", "schedule.max_iters=20"], "norm_batch"),
    "a slow disk": (
        as_it_is,
        ["dataset=slow_shapes", "trainer.workers=0", "trainer.batch_size=8", "schedule.max_iters=30"],
        "data_wait",
    ),
    "ids of another list in val": (shifted_ids, [], "label_shares"),
}
HEALTHY: dict[str, list[str]] = {
    "as it is": [],
    "seed 1": ["seed=1"],
    "seed 2": ["seed=2"],
    "smaller learning rate": ["optimizer.lr=0.02"],
    "AdamW": ["optimizer=adamw", "optimizer.lr=0.002"],
    "resnet18": ["backbone=resnet18"],
    "mobilenetv2": ["backbone=mobilenetv2"],
    "deeplabv3": ["model=deeplabv3"],
    "EMA": ["trainer.ema_decay=0.95"],
    "CutMix": ["augment.mix=cutmix"],
}


def write_set(folder: Path, relabel: Relabel) -> None:
    for split, count in (("train", 200), ("val", 24)):
        shapes = Shapes(split=split, train_images=200, val_images=24)
        for kind in ("images", "masks"):
            (folder / kind / split).mkdir(parents=True)
        for index in range(count):
            image, label = shapes[index]
            Image.fromarray(image).save(folder / "images" / split / f"{index:03d}.png")
            Image.fromarray(relabel(label, split)).save(folder / "masks" / split / f"{index:03d}.png")
    names = "\n".join(f"  - {name}" for name in CLASSES)
    (folder / "classes.yaml").write_text(f"classes:\n{names}\nignore: [255]\n", encoding="utf-8")


def alarms(place: Path, relabel: Relabel, settings: list[str]) -> tuple[list[str], float]:
    """The kinds of alarms of a training with these labels and settings, and its mIoU."""
    place.mkdir()
    data, run = place / "data", place / "run"
    write_set(data, relabel)
    own = [one for one in COMMON if one.split("=")[0] not in {two.split("=")[0] for two in settings}]
    if "dataset=slow_shapes" not in settings:
        own.append(f"dataset.root={data}")
    for setting in settings:
        if setting in PLUGINS:
            (place / "parts.py").write_text(PLUGINS[setting], encoding="utf-8")
            own.append(f"plugins={place / 'parts.py'}")
    result = deeplabx.train([*own, *settings], run)
    found = [alarm.kind for alarm in alarms_of(run)]
    shutil.rmtree(place)
    return found, result.miou


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="part of the name of a case")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    given = parser.parse_args()
    cases = {
        **{name: (relabel, settings, kind) for name, (relabel, settings, kind) in FAULTS.items()},
        **{f"healthy: {name}": (as_it_is, settings, "") for name, settings in HEALTHY.items()},
    }
    rows: list[dict[str, Any]] = []
    for name, (relabel, settings, expected) in cases.items():
        if given.only and given.only not in name:
            continue
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            found, miou = alarms(Path(folder) / "case", relabel, settings)
        right = expected in found if expected else not found
        rows.append({"case": name, "alarms": found, "miou": round(miou, 4), "right": right})
        seconds = time.perf_counter() - started
        print(
            f"{'ok ' if right else 'BAD'} {name:<36} mIoU {miou:.3f}  {seconds:4.0f} s  {found}", flush=True
        )
    if given.out:
        given.out.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    print(f"{sum(row['right'] for row in rows)} of {len(rows)} as expected")


if __name__ == "__main__":
    main()
