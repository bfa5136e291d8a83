"""What an evaluation's record costs: images.npz, and the details that reports show.
`python -m benchmarks.evaluation_record --data DIR` takes the images of VOC, CamVid and Cityscapes below DIR;
without --data, made-up ones of Cityscapes' size.
"""

import argparse
import time
from pathlib import Path
from statistics import median

import numpy as np

from deeplabx.command.compose import training_config
from deeplabx.dataset.cityscapes import Cityscapes
from deeplabx.dataset.contract import Sample, SegmentationSet
from deeplabx.dataset.readable import ReadableSet
from deeplabx.engine.evaluator import evaluate
from deeplabx.engine.predictor import Predictor
from deeplabx.engine.record.recorder import Recorder
from deeplabx.process.distributed import resolve_device
from deeplabx.run.build import build_model, dataset_of

SETS = ("voc", "camvid", "cityscapes")
ROUNDS = 3


class First(ReadableSet):
    """The first images of a split."""

    def __init__(self, samples: ReadableSet, count: int) -> None:
        super().__init__(samples.samples, split=samples.split)
        self.count = min(count, len(samples))

    def __len__(self) -> int:
        return self.count


class MadeUp(SegmentationSet):
    """Images of noise with blocks as labels, 1024 x 2048."""

    classes = Cityscapes.classes
    palette = Cityscapes.palette

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        draw = np.random.default_rng(index)
        blocks = draw.integers(0, len(self.classes), (16, 32), dtype=np.uint8)
        image = draw.integers(0, 256, (1024, 2048, 3), dtype=np.uint8)
        return Sample(image, np.kron(blocks, np.ones((64, 64), np.uint8)))


def split_of(name: str, data: Path | None, images: int) -> ReadableSet:
    if data is None:
        return ReadableSet(MadeUp(images), split="val")
    config = training_config([f"dataset={name}", f"dataset.root={data / name}"])
    return First(dataset_of(config.dataset, split="val"), images)


def seconds(predictor: Predictor, samples: ReadableSet, details: bool | None) -> float:
    """Of one evaluation, in the time of all cores. details: None for no record at all."""
    recorder = None
    if details is not None:
        recorder = Recorder(samples, names=None, groups=None, dataset="", step=0, details=details)
    started, wall = time.process_time(), time.perf_counter()
    evaluate(predictor, samples, recorder=recorder)
    return (time.process_time() - started) if predictor.device.type == "cpu" else time.perf_counter() - wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--backbone", default="mobilenetv2")
    given = parser.parse_args()
    device = resolve_device("auto")
    for name in SETS if given.data else ("made-up images",):
        samples = split_of(name, given.data, given.images)
        model = build_model("deeplabv3plus", backbone=given.backbone, num_classes=len(samples.classes))
        model.to(device).eval()
        predictor = Predictor(model, model.backbone.normalization, device, num_classes=len(samples.classes))
        found: dict[bool | None, list[float]] = {None: [], False: [], True: []}
        for _ in range(ROUNDS):
            for details in found:
                found[details].append(seconds(predictor, samples, details))
        without, record, whole = (median(times) for times in found.values())
        print(
            f"{name}: {len(samples)} images, {without / len(samples) * 1000:.0f} ms each on {device.type}; "
            f"with the record {record / without:.2f}, with details {whole / without:.2f} times"
        )


if __name__ == "__main__":
    main()
