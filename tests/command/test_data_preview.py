"""deeplabx data preview: what it shows is what training sees."""

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from deeplabx.command.data_preview import augment_for, previews
from deeplabx.run.build import batches_of, dataset_of, model_of, normalization_of
from deeplabx.weights.known import imagenet
from tests.conftest import Compose, Deeplabx
from tests.report.page.parsed import Parsed

SMALL = ["dataset.train_images=10", "dataset.val_images=1", "augment.crop_size=33"]


@pytest.mark.parametrize("epoch", [0, 3])
def test_the_samples_are_those_of_training(compose: Compose, epoch: int) -> None:
    """Ten images in batches of five: epoch 3 is steps 6 and 7."""
    given = [*SMALL, "seed=7", "backbone=resnet18"]
    train = compose(*given, "trainer.batch_size=5", "trainer.workers=0", "schedule.max_iters=8")
    training = dataset_of(train.dataset, split="train")
    model = model_of(train, num_classes=7, in_channels=3)
    normalization = normalization_of(model, training, None)
    assert normalization.pad_pixel == (124, 116, 104)  # not MobileNet's 128: the padding must agree
    batches = batches_of(
        train,
        training,
        normalization,
        device=torch.device("cpu"),
        first_step=2 * epoch,
        workers=0,
    )
    seen: list[tuple[np.ndarray, np.ndarray]] = []
    with contextlib.closing(batches):
        for batch in batches:
            if batch is not None:
                seen += zip(batch.images.numpy(), batch.labels.numpy(), strict=True)
            if len(seen) == 10:
                break
    shown = list(previews(compose(*given, f"epoch={epoch}", command="data preview"), training))
    assert len(shown) == 10
    for one, (image, label) in zip(shown, seen, strict=True):
        np.testing.assert_array_equal(one.crop, image)
        np.testing.assert_array_equal(one.crop_label, label)
        index = int(one.name.removeprefix("image "))
        np.testing.assert_array_equal(one.image, training[index].image)
    assert sorted(int(one.name.removeprefix("image ")) for one in shown) == list(range(10))


def test_an_augmentation_that_reports_what_it_draws(
    compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = compose(*SMALL, "images=3", command="data preview")
    training = dataset_of(config.dataset, split="train")
    plain = list(previews(config, training))
    assert [one.drawn for one in plain] == [[]] * 3
    augment: Any = augment_for(config, training)

    def described(image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> Any:
        crop = augment.draw(*label.shape, rng)
        return *augment.apply(image, label, crop), [
            f"scale {crop.height / label.shape[0]:.2f}",
            f"{crop.flip}",
        ]

    monkeypatch.setattr(type(augment), "described", staticmethod(described), raising=False)
    for one, before in zip(previews(config, training), plain, strict=True):
        np.testing.assert_array_equal(one.crop, before.crop)
        assert one.drawn[0].startswith("scale ")
        assert one.drawn[1] in ("True", "False")


@pytest.mark.parametrize("backbone", ["mobilenetv2", "resnet50"])
def test_the_padding_is_that_of_the_weights(compose: Compose, backbone: str) -> None:
    given = [*SMALL, f"backbone={backbone}", "backbone.weights=imagenet"]
    config = compose(*given, command="data preview")
    training = dataset_of(config.dataset, split="train")
    augment: Any = augment_for(config, training)
    assert augment.pad_pixel == imagenet(backbone).normalization.pad_pixel


def test_it_writes_a_page_and_a_contact_sheet(deeplabx: Deeplabx, tmp_path: Path) -> None:
    ended = deeplabx("data", "preview", *SMALL, "images=5", "epoch=2", "out=x")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == f"5 samples of epoch 2\nwritten to {tmp_path}/x/preview.html and preview.png\n"
    page = Parsed((tmp_path / "x" / "preview.html").read_text(encoding="utf-8"))
    assert page.problems == []
    assert len(page.all("img")) == 10
    assert "void" in page.text
    assert "augment=standard does not report what it draws" in page.text
    with Image.open(tmp_path / "x" / "preview.png") as sheet:
        assert sheet.width > 1200
        assert sheet.height > 1000


def test_more_images_than_there_are(deeplabx: Deeplabx) -> None:
    ended = deeplabx("data", "preview", *SMALL, "images=99", "out=x")
    assert ended.out.startswith("10 samples ")


def test_a_skipped_image_is_named_and_the_next_is_shown(deeplabx: Deeplabx, tmp_path: Path) -> None:
    from tests.command.test_data_stats import own_set

    own_set(tmp_path / "own")
    (tmp_path / "own/masks/train/1.png").write_bytes(b"hello")
    words = ("data", "preview", "dataset=folder", "dataset.root=own", "augment.crop_size=33", "out=x")
    ended = deeplabx(*words)
    assert ended.code == 3
    assert "1.png" in ended.err
    ended = deeplabx(*words, "dataset.on_bad=skip")
    assert ended.code == 0
    assert ended.err.startswith("skipped: own/masks/train/1.png")
    assert len(ended.err.splitlines()) == 1


def test_contradicting_scales_are_refused(deeplabx: Deeplabx) -> None:
    ended = deeplabx("data", "preview", "augment.scale_min=3", "out=x")
    assert ended.code == 2
    assert "augment.scale_min=3.0 is above augment.scale_max" in ended.err
