"""Faults planted into folders made of real images and labels: whether `data check` names their cause, and
whether the repaired copy has the true labels. `python -m benchmarks.planted_faults --data DIR --variants 10`
"""

import argparse
import functools
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

import deeplabx
from deeplabx.config import schema
from deeplabx.dataset import camvid, cityscapes, voc
from deeplabx.dataset.check.finding import Level
from deeplabx.dataset.check.repair import repair
from deeplabx.errors import DataError
from deeplabx.run.build import dataset_of
from deeplabx.run.checked_data import CheckedData, check_data
from tests.dataset.check.planted import ALSO, FAULTS, NOT_REPAIRED, VOID, Planted, Sample

TRAINING, EVALUATED = 8, 5
SPLITS = ("train", "val")
NEEDS = {
    "turned_mask": ("voc", "camvid"),  # the tiles of the others are square
    "label_ids_as_train_ids": ("cityscapes",),
    "class_order": ("camvid", "cityscapes"),
}


# --- real data ----------------------------------------------------------------------------------------------


def real(source: str, data: Path, rng: np.random.Generator) -> tuple[list[Sample], list[str]]:
    """Images with train ids of a real data set, and its classes."""
    pairs = list(PAIRS[source](data))
    training = [pair for pair in pairs if pair[0] == "train"]
    evaluated = [pair for pair in pairs if pair[0] == "val"]
    if len(training) < TRAINING or len(evaluated) < EVALUATED:  # small samples: cut into tiles
        return tiles(pairs, source, rng)
    chosen = [training[index] for index in rng.permutation(len(training))[:TRAINING]]
    chosen += [evaluated[index] for index in rng.permutation(len(evaluated))[:EVALUATED]]
    return [sample(pair, source) for pair in chosen], CLASSES[source]


def sample(pair: tuple[str, Path, Path], source: str) -> Sample:
    split, image, label = pair
    with Image.open(image) as opened, Image.open(label) as mask:
        return Sample(
            split, image.stem, np.array(opened.convert("RGB")), TO_TRAIN_IDS[source][np.array(mask)]
        )


def tiles(
    pairs: Sequence[tuple[str, Path, Path]], source: str, rng: np.random.Generator
) -> tuple[list[Sample], list[str]]:
    found = []
    for number in range(TRAINING + EVALUATED):
        whole = sample(pairs[number % len(pairs)], source)
        height, width = whole.ids.shape
        side = min(height, width) * 2 // 3
        top, left = rng.integers(0, height - side), rng.integers(0, width - side)
        part = (slice(top, top + side), slice(left, left + side))
        size = (320, 320)
        image = cv2.resize(whole.image[part], size, interpolation=cv2.INTER_AREA)
        ids = cv2.resize(whole.ids[part], size, interpolation=cv2.INTER_NEAREST)
        split = "train" if number < TRAINING else "val"
        found.append(Sample(split, f"{whole.name}_tile{number}x", image, ids))
    return found, CLASSES[source]


def voc_pairs(data: Path) -> Iterator[tuple[str, Path, Path]]:
    base = data / "voc/VOCdevkit/VOC2012"
    for split in SPLITS:
        names = (base / f"ImageSets/Segmentation/{split}.txt").read_text(encoding="utf-8").split()
        yield from ((split, base / f"JPEGImages/{n}.jpg", base / f"SegmentationClass/{n}.png") for n in names)


def camvid_pairs(data: Path) -> Iterator[tuple[str, Path, Path]]:
    for split in SPLITS:
        for image in sorted((data / "camvid" / split).glob("*.jpg")):
            yield split, image, data / "camvid" / f"{split}annot" / f"{image.stem}.png"


def cityscapes_pairs(data: Path) -> Iterator[tuple[str, Path, Path]]:
    for image in sorted((data / "cityscapes/leftImg8bit").rglob("*.png")):
        label = Path(
            str(image).replace("/leftImg8bit/", "/gtFine/").replace("_leftImg8bit.", "_gtFine_labelIds.")
        )
        yield image.parts[-3], image, label


def coco_pairs(data: Path) -> Iterator[tuple[str, Path, Path]]:
    base = data / "other/coco_stuff_SPADE"
    for split in SPLITS:
        for image in sorted((base / f"{split}_img").glob("*.jpg")):
            yield split, image, base / f"{split}_label" / f"{image.stem}.png"


def ade_pairs(data: Path) -> Iterator[tuple[str, Path, Path]]:
    base = data / "other/ade20k_sceneparsing"
    for image in sorted((base / "images").glob("*.jpg")):
        yield "train", image, base / "annotations" / f"{image.stem}.png"


def table(mapping: dict[int, int]) -> np.ndarray:
    found = np.full(256, VOID, np.uint8)
    for raw, train_id in mapping.items():
        found[raw] = train_id
    return found


PAIRS = {
    "voc": voc_pairs,
    "camvid": camvid_pairs,
    "cityscapes": cityscapes_pairs,
    "coco": coco_pairs,
    "ade": ade_pairs,
}
# Of COCO-Stuff and ADE20K, ids modulo a few classes: their samples here hold few of their many classes.
FEW = [f"group_{index}" for index in range(12)]
CLASSES = {
    "voc": voc.CLASSES,
    "camvid": camvid.CLASSES,
    "cityscapes": [label.name for label in cityscapes.CLASS_TABLE],
    "coco": FEW,
    "ade": FEW,
}
TO_TRAIN_IDS = {
    "voc": table({index: index for index in range(21)}),
    "camvid": table({index: index for index in range(11)}),
    "cityscapes": table(cityscapes.FROM_LABEL_IDS),
    "coco": table({index: index % 12 for index in range(182)}),
    "ade": table({index: index % 12 for index in range(1, 151)}),
}


# --- one fault ----------------------------------------------------------------------------------------------


@functools.cache
def folder_settings() -> schema.DatasetSettings:
    return deeplabx.compose(["dataset=folder", "augment.crop_size=65"]).dataset


def settings(root: Path) -> schema.DatasetSettings:
    return replace(folder_settings(), root=str(root))


def planted(kind: str, source: str, data: Path, root: Path, seed: int) -> Planted:
    rng = np.random.default_rng([seed, *kind.encode()])
    samples, classes = real(source, data, rng)
    found = Planted(root, samples, list(classes), rng)
    found.write()
    FAULTS[kind](found)
    return found


def kinds_found(checked: CheckedData) -> set[str]:
    return {finding.kind for finding in checked.findings}


def is_named(kind: str, checked: CheckedData) -> bool:
    return bool(kinds_found(checked) & {kind, *ALSO.get(kind, set())})


def labels_are_true(data: Planted, out: Path) -> str:
    """Empty, or how the labels of the repaired copy differ from the truth."""
    seen = {}
    for split in SPLITS:
        found = dataset_of(settings(out), split=split)
        for index, (image, _) in enumerate(found.samples.pairs):  # type: ignore[attr-defined]
            label = found.label(index)
            if image.stat().st_size and found[index].image.shape[:2] != label.shape:
                return f"{image.name}: another size than its label"
            seen[f"{split}/{image.stem}"] = label
        classes = found.classes
    if seen.keys() != data.truth.keys():
        return f"other samples: {sorted(seen.keys() ^ data.truth.keys())[:4]}"
    pairs, void, pixels, other = set(), 0, 0, 0
    for key, truth in data.truth.items():
        label = seen[key]
        if label.shape != truth.shape:
            return f"{key}: {label.shape}, not {truth.shape}"
        truth = np.where(data.unsure.get(key, False), label, truth).astype(np.uint8)
        both = (label != VOID) & (truth != VOID) if not data.renamed else label != VOID
        pairs |= {
            divmod(int(code), 256) for code in np.unique(label[both].astype(np.int32) * 256 + truth[both])
        }
        void += int(((label == VOID) & (truth != VOID)).sum())
        pixels += int((truth != VOID).sum())
        if not data.renamed and (label[truth == VOID] != VOID).any():
            return f"{key}: void pixels have a class"
    if void > data.most_void * pixels:
        return f"{void / pixels:.1%} of the pixels became void"
    if data.renamed:
        one_to_one = len({one for one, _ in pairs}) == len(pairs) == len({other for _, other in pairs})
        return "" if one_to_one else "classes are mixed"
    wrong = {(one, two) for one, two in pairs if classes[one] != data.classes[two]}
    for key, truth in data.truth.items():
        own = ~data.unsure[key] if key in data.unsure else np.True_
        other += sum(int(((seen[key] == one) & (truth == two) & own).sum()) for one, two in wrong)
    if other <= data.most_wrong * pixels:
        return ""
    return f"{other / pixels:.3%} of the pixels have a wrong class"


def trains(out: Path, folder: Path) -> str:
    """Empty, or why two steps of training on the copy fail."""
    overrides = [
        "dataset=folder", f"dataset.root='{out}'", "augment.crop_size=33", "schedule.max_iters=2", "seed=1",
        "trainer.batch_size=2", "trainer.workers=0", "trainer.samples=0", "trainer.devices=cpu",
    ]  # fmt: skip
    try:
        with redirect_stdout(StringIO()):
            deeplabx.train(overrides, folder=folder)
    except deeplabx.DeeplabxError as error:
        return str(error)
    return ""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--variants", type=int, default=10)
    parser.add_argument("--only", default="")
    parser.add_argument("--train", action="store_true", help="train two steps on the first copy of each kind")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows = []
    for kind in arguments.only.split(",") if arguments.only else FAULTS:
        named = right = images = 0
        seconds = 0.0
        words: list[str] = []
        trained = ""
        for variant in range(arguments.variants):
            sources = NEEDS.get(kind, tuple(PAIRS))
            source = sources[variant % len(sources)]
            with tempfile.TemporaryDirectory() as folder:
                root, out = Path(folder) / "own", Path(folder) / "copy"
                data = planted(kind, source, arguments.data, root, variant)
                began = time.perf_counter()
                checked = check_data(settings(root), splits=SPLITS, workers=0)
                seconds += time.perf_counter() - began
                images += len(checked.facts)
                if is_named(kind, checked):
                    named += 1
                else:
                    words.append(f"{source}: {sorted(kinds_found(checked))}")
                if kind in NOT_REPAIRED:
                    continue
                try:
                    assert checked.stated is not None
                    repair(checked.findings, checked.facts, checked.files, checked.stated, out)
                    again = check_data(settings(out), splits=SPLITS, workers=0)
                    problem = "; ".join(one.words for one in again.of_level(Level.ERROR)[:2])
                    problem = problem or labels_are_true(data, out)
                    if arguments.train and not problem and not trained:
                        trained = trains(out, Path(folder) / "run") or "yes"
                except DataError as error:
                    problem = str(error)
                right += not problem
                if problem:
                    words.append(f"{source}: {problem[:150]}")
        rows.append(
            {
                "kind": kind,
                "variants": arguments.variants,
                "named": named,
                "true_labels": None if kind in NOT_REPAIRED else right,
                "trains": trained,
                "images_per_second": round(images / seconds, 1),
                "words": words,
            }
        )
        print(
            f"{kind:30} named {named}/{arguments.variants}  "
            + ("no repair" if kind in NOT_REPAIRED else f"true labels {right}/{arguments.variants}")
            + (f"  trains: {trained}" if trained else "")
            + "".join(f"\n      {line}" for line in words[:3]),
            flush=True,
        )
    if arguments.out:
        arguments.out.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
