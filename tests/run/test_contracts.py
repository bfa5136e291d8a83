"""What a part from outside the project does wrong is said in words before the first step, or in it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import deeplabx
from deeplabx.augment.standard import StandardAugment
from deeplabx.backbone.contract import Backbone, Features
from deeplabx.backbone.normalization import IMAGENET
from deeplabx.config import schema
from deeplabx.dataset.contract import Sample, SegmentationSet
from deeplabx.errors import ConfigError
from deeplabx.loss.contract import Loss
from deeplabx.model.deeplabv3 import DeepLabV3
from deeplabx.tracker.contract import Tracker
from tests.conftest import TINY

pytestmark = pytest.mark.usefixtures("own_options")
WITHOUT_SHAPES = [one for one in TINY if not one.startswith("dataset.")]
STEP = ["schedule.max_iters=1", "trainer.samples=0"]


class Narrow(Backbone):
    """Five strided convolutions of 8 channels."""

    channels = low_level_channels = middle_channels = auxiliary_channels = 8
    output_stride = 32
    normalization, separable, atrous_branches = IMAGENET, False, False

    def __init__(self, *, output_stride: int, in_channels: int = 3) -> None:
        super().__init__()
        sides = [in_channels, 8, 8, 8, 8, 8]
        self.stages = nn.ModuleList(nn.Conv2d(sides[i], 8, 3, 2, 1) for i in range(5))

    def forward(self, images: Tensor) -> Features:
        outputs = []
        for stage in self.stages:
            images = stage(images)
            outputs.append(images)
        return Features(outputs[1], outputs[2], outputs[3], outputs[4])

    def layers(self) -> Any:
        return [(stage, 2) for stage in self.stages]


def build_narrow(**changes: Any) -> None:
    """A model on Narrow with other attributes."""
    kind = type("Changed", (Narrow,), changes)
    deeplabx.register("backbone", "narrow", build=kind, settings=schema.BackboneSettings, words="")
    deeplabx.build_model("deeplabv3", backbone="narrow", num_classes=2, output_stride=32)


def test_a_backbone_as_it_states_is_taken() -> None:
    build_narrow()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"channels": 9}, "its high features have 8 channels, but channels is 9"),
        ({"middle_channels": 9}, "its middle features have 8 channels, but middle_channels is 9"),
        ({"output_stride": 16}, "its high features are 3 x 4, but must be 5 x 7 .* at stride 16"),
    ],
)
def test_a_backbone_that_states_other_features_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=f"backbone=narrow: {words}"):
        build_narrow(**changes)


def test_a_backbone_that_states_too_little_is_refused() -> None:
    class Silent(Backbone):
        def __init__(self, *, output_stride: int, in_channels: int) -> None:
            super().__init__()

    deeplabx.register("backbone", "silent", build=Silent, settings=schema.BackboneSettings, words="")
    with pytest.raises(ConfigError, match="backbone=silent does not state channels"):
        deeplabx.build_model("deeplabv3", backbone="silent", num_classes=2)


def test_a_model_whose_logits_are_not_of_the_images_size_is_refused() -> None:
    class Coarse(DeepLabV3):
        def forward(self, images: Tensor) -> Any:
            logits: Any = super().forward(images)
            return logits[..., ::2, ::2]

    deeplabx.register("model", "coarse", build=Coarse, settings=schema.ModelSettings, words="")
    with pytest.raises(ConfigError, match=r"model=coarse gives \(1, 2, 33, 49\)"):
        deeplabx.build_model("coarse", backbone="resnet18", num_classes=2)


# --- augmentations, data sets, losses -----------------------------------------------------------------------


def train(folder: Path, *overrides: str) -> None:
    shapes = not any(one.startswith("dataset=") for one in overrides)
    deeplabx.train([*(TINY if shapes else WITHOUT_SHAPES), *STEP, *overrides], folder)


@pytest.mark.parametrize(
    ("augment", "words"),
    [
        (lambda image, label: (image / 255, label), r"gives the image as float64 \(65, 97, 3\)"),
        (
            lambda image, label: (image, label),
            r"gives the image as uint8 \(65, 97, 3\), but must give uint8 \(33, 33",
        ),
        (lambda image, label: image, r"gives a ndarray, but must give \(image, label\)"),
        (
            lambda image, label: (image[:33, :33], label[:33, :33].astype(np.int64)),
            r"gives the label as int64 \(33, 33\)",
        ),
    ],
)
def test_an_augmentation_that_gives_something_else_is_refused(
    tmp_path: Path, augment: Callable[..., Any], words: str
) -> None:
    def build(*, crop_size: int, pad_pixel: Any, ignore_index: int) -> Callable[..., Any]:
        return lambda image, label, random: augment(image, label)

    deeplabx.register("augment", "own", build=build, settings=schema.AugmentSettings, words="")
    with pytest.raises(ConfigError, match=f"augment=own {words}"):
        train(tmp_path, "augment=own", "trainer.workers=0")


class Around(StandardAugment):
    def __call__(self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> Any:
        return super().__call__(image, label, rng)

    def described(self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> Any:
        return super().described(image, label, rng)


class Silent(Around):
    def described(self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> Any:
        return self(image, label, rng)


class Small(Silent):
    def around(self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator, wanted: int) -> Any:
        return image[:9], label[:9]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Around, "augment=own overrides __call__, but inherits around"),
        (Silent, "augment=own overrides __call__, but inherits around"),
        (Small, r"augment=own: around gives the image as uint8 \(9, 97, 3\)"),
        (
            type("Wordless", (Silent,), {"around": StandardAugment.around}),
            r"augment=own: described must give \(image, label, list of words\)",
        ),
    ],
)
def test_optional_methods_of_an_augmentation_are_checked(tmp_path: Path, kind: Any, words: str) -> None:
    def build(*, crop_size: int, pad_pixel: Any, ignore_index: int) -> Callable[..., Any]:
        return kind(
            crop_size=crop_size,
            scale_min=1,
            scale_max=1,
            flip=0,
            pad_pixel=pad_pixel,
            ignore_index=ignore_index,
        )

    deeplabx.register("augment", "own", build=build, settings=schema.AugmentSettings, words="")
    with pytest.raises(ConfigError, match=words):
        train(tmp_path, "augment=own", "trainer.workers=0")


class Own(SegmentationSet):
    """Two classes; `sample` makes a sample of an image and a label."""

    classes = ["ground", "thing"]
    palette = [(0, 0, 0), (255, 0, 0)]
    sample: Callable[[np.ndarray, np.ndarray], Any] = staticmethod(Sample)

    def __init__(self, *, split: str, root: str | None) -> None:
        pass

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Sample:
        label = np.arange(40 * 50, dtype=np.uint8).reshape(40, 50) % 2
        return type(self).sample(np.zeros((40, 50, 3), np.uint8), label)


def test_a_data_set_without_a_palette_is_refused(tmp_path: Path) -> None:
    class Bare(SegmentationSet):
        classes = ["ground", "thing"]
        __init__, __len__, __getitem__ = Own.__init__, Own.__len__, Own.__getitem__

    deeplabx.register("dataset", "bare", build=Bare, settings=schema.DatasetSettings, words="")
    with pytest.raises(
        ConfigError, match="dataset=bare: Bare has no attribute palette, an RGB colour for each"
    ):
        train(tmp_path, "dataset=bare")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"palette": [(0, 0, 0)]}, "2 classes, but 1 colours in its palette"),
        ({"classes": ["a", "a"]}, "duplicate class name"),
        ({"ignore_index": 1}, "ignore_index=1 must be a value up to 65535 that is no class"),
        (
            {"sample": lambda image, label: Sample(image / 255, label)},
            "its image is float64",
        ),
        (
            {"sample": lambda image, label: Sample(image, label + 1)},
            "its label contains 2",
        ),
        (
            {"sample": lambda image, label: Sample(image[1:], label)},
            "image must be H x W x 3",
        ),
        ({"sample": lambda image, label: (image, torch.zeros(40, 50))}, "its label is Tensor"),
    ],
)
@pytest.mark.parametrize("workers", [0, 1])
def test_a_data_set_that_breaks_its_contract_is_refused(
    tmp_path: Path, changes: dict[str, Any], words: str, workers: int
) -> None:
    changes = {name: staticmethod(one) if callable(one) else one for name, one in changes.items()}
    kind = type("Changed", (Own,), changes)
    deeplabx.register("dataset", "own", build=kind, settings=schema.DatasetSettings, words="")
    with pytest.raises(ConfigError, match=words):
        train(tmp_path, "dataset=own", f"trainer.workers={workers}")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (lambda logits: logits.sum(dim=1), r"returned a tensor of \(4, 33, 33\)"),
        (lambda logits: logits.sum().detach(), "returned a scalar without"),
        (lambda logits: 0.5, "returned a float"),
    ],
)
def test_a_loss_that_is_no_sum_is_refused(tmp_path: Path, value: Callable[..., Any], words: str) -> None:
    class Other(Loss):
        def forward(self, logits: Tensor, labels: Tensor, *, ignore_index: int) -> Tensor:
            return value(logits)

    deeplabx.register("loss", "other", build=Other, settings=schema.LossSettings, words="")
    with pytest.raises(ConfigError, match=f"the loss Other {words}"):
        train(tmp_path, "loss=other")


# --- every group --------------------------------------------------------------------------------------------


@dataclass
class CosineSettings(schema.ScheduleSettings):
    pass


def cosine(step: int, *, max_iters: int) -> float:
    return 0.5 * (1 + float(np.cos(np.pi * step / max_iters)))


def test_a_part_of_every_group_trains_and_is_evaluated(tmp_path: Path) -> None:
    class Own3(DeepLabV3):
        def __init__(
            self, backbone: Backbone, *, num_classes: int, align_corners: bool, auxiliary_weight: Any
        ) -> None:
            super().__init__(backbone, num_classes=num_classes, align_corners=align_corners)

    def nadam(groups: Any) -> torch.optim.Optimizer:
        return torch.optim.NAdam(groups)

    def crop(*, crop_size: int, pad_pixel: Any, ignore_index: int) -> Callable[..., Any]:
        return lambda image, label, random: (image[:crop_size, :crop_size], label[:crop_size, :crop_size])

    class Sum(Loss):
        def forward(self, logits: Tensor, labels: Tensor, *, ignore_index: int) -> Tensor:
            return nn.functional.cross_entropy(logits, labels, ignore_index=ignore_index, reduction="sum")

    parts: dict[str, tuple[Any, type]] = {
        "model": (Own3, schema.ModelSettings),
        "backbone": (Narrow, schema.BackboneSettings),
        "dataset": (Own, schema.DatasetSettings),
        "augment": (crop, schema.AugmentSettings),
        "loss": (Sum, schema.LossSettings),
        "optimizer": (nadam, schema.OptimizerSettings),
        "schedule": (cosine, CosineSettings),
        "tracker": (Tracker, schema.TrackerSettings),
    }
    for group, (build, settings) in parts.items():
        deeplabx.register(group, "mine", build=build, settings=settings, words="")
    chosen = [f"{group}=mine" for group in parts]
    result = deeplabx.train([*WITHOUT_SHAPES, *STEP, *chosen, "backbone.output_stride=32"], tmp_path)
    assert deeplabx.evaluate(tmp_path, ["trainer.devices=cpu"]).miou == result.miou
