"""deeplabx data preview: the augmented samples that training sees."""

import sys
from collections.abc import Iterator

import numpy as np
import torch

from deeplabx.augment.contract import described
from deeplabx.backbone.normalization import Normalization
from deeplabx.command.job import Job
from deeplabx.config import schema
from deeplabx.dataset.contract import Sample
from deeplabx.dataset.files import LabelledFiles
from deeplabx.dataset.loader import Address, Augment, AugmentedSet, BatchAddresses
from deeplabx.dataset.readable import ReadableSet
from deeplabx.errors import DataError, DeeplabxError
from deeplabx.model.contract import DeepLab
from deeplabx.process.signals import ended_by_signals
from deeplabx.report.preview_page import Colours, Preview, rendered, write_preview
from deeplabx.run.build import augment_of, dataset_of, model_of, normalization_of
from deeplabx.run.initial_weights import backbone_weights
from deeplabx.weights.importers import located
from deeplabx.weights.known import imagenet


def main(job: Job) -> None:
    """Write preview.html and preview.png into `out`."""
    config: schema.DataPreviewConfig = job.config
    with ended_by_signals("stopped, nothing was written"):
        training = dataset_of(config.dataset, split=config.dataset.train_split)
        colours = Colours(training.classes, training.palette, training.ignore_index)
        samples = [rendered(one, colours) for one in previews(config, training)]
        for words in [*training.left_out, *training.take_errors()]:
            print(words, file=sys.stderr)
        title = f"{config.dataset.name}, split {training.split}, as training sees it"
        words = (
            f"The first {len(samples)} samples of epoch {config.epoch}, with seed {config.seed} and "
            f"augment={config.augment.name}: exactly those that deeplabx train computes with these settings."
        )
        for not_shown in unshown(config.augment):
            words += f"\n\n{not_shown}."
            print(not_shown, file=sys.stderr)
        if not any(one.tile.notes for one in samples):
            words += f"\n\naugment={config.augment.name} does not report what it draws."
        write_preview(job.folder, title, samples, colours, words=words)
    print(f"{len(samples)} samples of epoch {config.epoch}")
    print(f"written to {job.folder / 'preview.html'} and preview.png")


def unshown(augment: schema.AugmentSettings) -> Iterator[str]:
    """What training does to the samples beside what is shown."""
    if augment.mix:
        yield f"augment.mix={augment.mix} is not shown: it combines images of a batch after these steps"
    if augment.class_sampling:
        yield f"augment.class_sampling={augment.class_sampling} is not shown: it adds samples between these"


def previews(config: schema.DataPreviewConfig, training: ReadableSet) -> Iterator[Preview]:
    """The first samples of an epoch, as AugmentedSet gives them to training. Raises DataError for one that
    cannot be read, unless it is skipped.
    """
    if not len(training):
        raise DataError(f"split {training.split} holds no images, so there is nothing to show")
    augment = augment_for(config, training)
    augmented = AugmentedSet(training, augment, seed=config.seed)
    for address in addresses(len(training), epoch=config.epoch, images=config.images, seed=config.seed):
        found = augmented[address]
        if isinstance(found, DeeplabxError):
            raise found
        for words in found.unreadable:
            print(f"skipped: {words}", file=sys.stderr)
        index, sample = stored(training, address.image)
        yield Preview(
            name_of(training, index),
            sample.image,
            sample.label,
            found.image,
            found.label,
            described(augment, *sample, np.random.default_rng([config.seed, *address.key]))[2],
        )


def augment_for(config: schema.DataPreviewConfig, training: ReadableSet) -> Augment:
    """The augmentation, with the mean pixel that training pads crops with."""
    with torch.device("meta"):
        model = model_of(config, num_classes=len(training.classes), in_channels=training.channels)
    pad_pixel = normalization_of(model, training, of_weights(config, model)).pad_pixel
    return augment_of(config.augment, pad_pixel=pad_pixel, ignore_index=training.ignore_index)


def of_weights(config: schema.DataPreviewConfig, model: DeepLab) -> Normalization | None:
    """How the images of the backbone's initial weights were normalised. Known weights are not downloaded."""
    spec = config.backbone.weights
    if spec is None:
        return None
    if spec == "imagenet":
        return imagenet(config.backbone.name).normalization
    return backbone_weights(located(spec), import_it=not model.backbone.keeps_foreign_names).normalization


def addresses(length: int, *, epoch: int, images: int, seed: int) -> list[Address]:
    """Of the first samples of an epoch, in the order of training."""
    first = epoch * length
    last = first + min(images, length)
    steps = BatchAddresses(length, batch_size=1, seed=seed, first_step=first, last_step=last)
    return [address for (address,) in steps]


def stored(training: ReadableSet, first: int) -> tuple[int, Sample]:
    """The sample that AugmentedSet read at this address, with its index: the next one that can be read."""
    for offset in range(len(training)):
        index = (first + offset) % len(training)
        sample = training.read(index)
        if sample is not None:
            training.take_errors()  # AugmentedSet has reported them
            return index, sample
    raise DataError(f"none of the {len(training)} images can be read")


def name_of(training: ReadableSet, index: int) -> str:
    if isinstance(training.samples, LabelledFiles):
        return training.samples.pairs[index][0].name
    return f"image {index}"
