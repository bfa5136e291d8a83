"""What a training has before its loop begins: checked data, the model with its weights, the state, a whole
config.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from deeplabx.config import schema
from deeplabx.dataset.check.headers import check_headers
from deeplabx.dataset.check.no_valid_pixel import refuse_no_valid_pixel
from deeplabx.dataset.check.same_classes import refuse_different_classes
from deeplabx.dataset.check.single_class import refuse_single_class
from deeplabx.dataset.readable import ReadableSet
from deeplabx.engine import checkpoint as checkpoints
from deeplabx.engine.noise import seeded
from deeplabx.engine.state import TrainState
from deeplabx.process.distributed import broadcast, is_main, resolve_device, synchronize_norm
from deeplabx.process.launch import restarts
from deeplabx.process.signals import StopRequest
from deeplabx.run.build import dataset_of, freeze, model_of, normalization_of, refuse_augment, state_of
from deeplabx.run.changed_data import FoundData, found_data, recorded, refuse_other_copy
from deeplabx.run.class_weights import with_class_weights
from deeplabx.run.data_record import DataRecord
from deeplabx.run.description import Description
from deeplabx.run.effective_batch import norm_words, with_scaled_lr
from deeplabx.run.environment import changed_words, environment_of
from deeplabx.run.find_lr import with_found_lr
from deeplabx.run.folder import extensions_of, killed_words, refuse_changed
from deeplabx.run.initial_weights import InitialWeights, load_initial_weights
from deeplabx.run.loading import Loading, loading_of
from deeplabx.run.paths import with_absolute_paths
from deeplabx.run.resolve import images_per_norm, resolved
from deeplabx.run.unfolding import unfold


@dataclass(kw_only=True)
class Prepared:
    """A run just before its next step, in one process.

    config: as it is stored, with nothing left to be found, counted or scaled. data: what its images are, as
    its checkpoints have it. images: what was found now. environment: of the main process, else empty.
    norm_images: how many a batch norm sees at a time. findings, settings: lines for the log, before and
    after those of `opening_words`.
    """

    config: schema.TrainConfig
    device: torch.device
    training: ReadableSet
    validation: ReadableSet
    data: DataRecord
    images: FoundData
    loading: Loading
    state: TrainState
    norm_images: int
    environment: dict[str, Any]
    findings: list[str]
    settings: list[str]


def prepared(config: schema.TrainConfig, folder: Path, *, stop: StopRequest) -> Prepared:
    """Prepare the run in `folder`, from its newest valid checkpoint if it has one. All its processes must
    call it. Writes nothing but what trainer.find_lr leaves.

    Raises DataError, CheckpointError or ConfigError for what the run cannot use.
    """
    device = resolve_device(config.trainer.devices)
    training = dataset_of(config.dataset, split=config.dataset.train_split)
    validation = dataset_of(config.dataset, split=config.dataset.split)
    refuse_different_classes(training, validation)
    skipped = [words for one in (training, validation) for words in check_headers(one)] if is_main() else []
    config = resolved(config, images=len(training), device=device)
    config, scaled = with_scaled_lr(config)
    # The main process reads for all: the others may be on machines that do not have the run's folder. A run's
    # own newest valid checkpoint comes first, then init_from, then backbone.weights.
    found, complaints = checkpoints.newest(folder / "checkpoints") if is_main() else (None, [])
    stored = Description.of(found) if found else None
    killed = killed_words(folder, found) if is_main() and not restarts() else []
    images = found_data(training, validation, root=config.dataset.root)
    data, changes = recorded(images, found, folder, accept=config.accept_changed_images)
    refuse_other_copy(images, broadcast(data))
    refuse_single_class(training)
    refuse_no_valid_pixel(validation)

    with seeded(config.seed):
        model = model_of(config, num_classes=len(training.classes), in_channels=training.channels)
    initial = InitialWeights([])
    if is_main() and not found:
        initial = load_initial_weights(config, model, classes=training.classes)
    of_weights = broadcast(stored.normalization if stored else initial.normalization)
    model.backbone.normalization = normalization_of(model, training, of_weights)
    refuse_augment(config, training, model.backbone.normalization)
    loading = loading_of(config, training, device=device)
    config, absent = with_class_weights(config, training, stored, workers=loading.workers)
    config = with_absolute_paths(replace(config, accept_changed_images=False))  # as it is stored

    unfolded = unfold(config, model, training, device=device) if is_main() and not found else []
    synchronized = synchronize_norm(model, norm=config.model.norm, device=device)
    freeze(config.trainer, model)
    norm_images = images_per_norm(config, synchronized=synchronized)
    config, searched = with_found_lr(
        config, model, training, stored, folder, loading=loading, device=device, stop=stop
    )
    state = state_of(config, model, ignore_index=training.ignore_index, device=device)
    if found:
        refuse_changed(config, found, extensions_of(folder))
    checkpoints.restore(state, found)
    restart_patience(state, broadcast(extensions_of(folder) if is_main() else []))

    environment = environment_of(config, device, workers=loading.workers) if is_main() else {}
    moved = changed_words(folder, environment) if found else []
    noisy = norm_words(config, model, norm_images=norm_images)
    return Prepared(
        config=config,
        device=device,
        training=training,
        validation=validation,
        data=data,
        images=images,
        loading=loading,
        state=state,
        norm_images=norm_images,
        environment=environment,
        findings=[*complaints, *killed, *moved, *changes, *initial.words, *unfolded],
        settings=[*scaled, *searched, *noisy, *absent, *skipped, *loading.words],
    )


def restart_patience(state: TrainState, extensions: list[dict[str, int]]) -> None:
    """Let a run that was extended at this step have its whole patience again."""
    if extensions and extensions[-1]["at_step"] == state.step:
        state.without_better = 0
