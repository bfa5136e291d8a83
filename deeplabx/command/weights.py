"""deeplabx weights: the known ones, and other programs' files as checkpoints."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deeplabx.backbone.pretrained import BackboneFile, is_backbone_file, read_backbone, save_backbone
from deeplabx.command.compose import training_config
from deeplabx.command.job import Job
from deeplabx.config import schema
from deeplabx.dataset.contract import Palette, ignore_index_of
from deeplabx.engine import checkpoint as checkpoints
from deeplabx.engine.checkpoint_folder import MANIFEST, chosen_in
from deeplabx.engine.durable import arriving
from deeplabx.engine.lock import exclusive
from deeplabx.errors import CheckpointError, ConfigError, nearest, printable
from deeplabx.run.build import dataset_of, meta_network, model_of, published_classes
from deeplabx.run.description import Description
from deeplabx.weights import known
from deeplabx.weights.contract import Imported, Origin
from deeplabx.weights.download import sha256_of
from deeplabx.weights.importers import import_file, located
from deeplabx.weights.known import BY_NAME
from deeplabx.weights.truth import TOLERANCE, truth_of

Compose = Callable[[list[str]], schema.TrainConfig]  # overrides to the config of a training with them


def listed(words: list[str]) -> str:
    """The table of known weights, or all that is known of those that are named."""
    return "\n\n".join(known.details(name) for name in words) if words else known.table()


def import_main(job: Job) -> None:
    print(
        import_weights(job.config.source, Path(job.config.out), compose=training_config, typed=typed_of(job))
    )


def checkpoint_of(ckpt: str) -> str:
    """The path of a checkpoint: `ckpt` itself, or, of a name of known weights, where they are imported to: in
    the cache, the first time. Raises CheckpointError for those of a classification network.
    """
    if ckpt not in BY_NAME or Path(ckpt).exists():
        return ckpt
    if BY_NAME[ckpt].model is None:
        raise CheckpointError(
            f"{ckpt} is a classification network, which segments nothing",
            hint=f"train with it: backbone={BY_NAME[ckpt].backbone} backbone.weights={ckpt}",
        )
    folder = known.cache_folder().parent / "checkpoints" / f"{ckpt}-{checkpoints.SCHEMA_VERSION}"
    with exclusive(folder):
        if not folder.exists():
            import_weights(ckpt, folder, compose=training_config, typed=[])
    return str(folder)


def verify_main(job: Job) -> None:
    print(verify_weights(job.config.source, job.config.ckpt, compose=training_config, typed=typed_of(job)))


def typed_of(job: Job) -> list[str]:
    """The overrides that a training has too."""
    return [override for override in job.overrides if override.partition("=")[0] not in job.own_keys]


def import_weights(source: str, out: Path, *, compose: Compose, typed: list[str]) -> str:
    """Write the checkpoint (of a classification network: the backbone file) that `source` becomes into `out`;
    what was done, in words.

    source: a file or folder, or the name of known weights. typed: overrides; they win over the importer's
    settings.
    """
    refuse_taken(out)
    found = import_file(found_at(source), meta_network)
    refuse_nonfinite(found)
    if "model" in found.settings:
        written = write_checkpoint(found, out, config=compose(composed_settings(found, typed)), source=source)
    else:
        written = write_backbone(found, out, source=source)
    return "\n".join(
        [
            f"{source}: {found.source}",
            *summary(found),
            *([f"note: {found.note}"] if found.note else []),
            *written,
        ]
    )


def refuse_taken(out: Path) -> None:
    if out.exists() and any(out.iterdir() if out.is_dir() else [out]):
        raise ConfigError(f"out={out} already exists", hint="give a folder that does not exist, or remove it")
    if out.resolve() == Path.cwd():
        raise ConfigError(
            f"out={out} is the current folder",
            hint="give a folder that does not exist yet: out=imported",
        )


def found_at(source: str) -> Path:
    """The path of what is to be imported. Raises CheckpointError where there is nothing, or what is ours
    already.
    """
    path = located(source)
    if not path.exists():
        raise CheckpointError(
            f"source={source} does not exist, and no known weights have that name.{nearest(source, BY_NAME)}",
            hint="deeplabx weights list shows the known ones",
        )
    refuse_ours(path, source=source)
    return path


def refuse_ours(path: Path, *, source: str) -> None:
    """Others' folders may hold a model.safetensors too, but no manifest of ours."""
    chosen = chosen_in(path)
    if chosen is not None and (chosen / MANIFEST).is_file():
        what, hint = "a checkpoint", f"eval and predict take it as ckpt={source}, train as init_from={source}"
    elif is_backbone_file(path):
        what, hint = "a backbone's weights", f"train takes them as backbone.weights={source}"
    else:
        return
    raise CheckpointError(f"source={source} is {what} of deeplabx: there is nothing to import", hint=hint)


def refuse_nonfinite(found: Imported) -> None:
    bad = [
        name
        for name, tensor in found.tensors.items()
        if tensor.is_floating_point() and not torch.isfinite(tensor).all()
    ]
    if bad:
        raise CheckpointError(
            f"{len(bad)} of its tensors are not finite, the first: {found.origins[bad[0]]}",
            hint="the file is damaged",
        )


def verify_weights(source: str, ckpt: str | None, *, compose: Compose, typed: list[str]) -> str:
    """What a file is, whether it is complete, how far our logits are from those of its own program, and
    whether `ckpt` holds the same tensors.

    Raises CheckpointError for the first of these that is not so.
    """
    path = found_at(source)
    found = import_file(path, meta_network)
    refuse_nonfinite(found)
    lines = [f"{source}: {found.source}", *summary(found), f"  {published_words(source, path)}"]
    if "model" in found.settings:
        lines += verified_model(found, config=compose(composed_settings(found, typed)))
    else:
        refuse_other_backbone(found)
        lines.append(f"  whole: every tensor of {found.settings['backbone']} is there")
    if ckpt is not None:
        lines.append(compared(found, ckpt))
    return "\n".join(lines)


def published_words(source: str, path: Path) -> str:
    """Which of the known weights a file is, by its sha256."""
    if source in BY_NAME:
        return f"the file that its publisher gives, by {len(BY_NAME[source].sha256)} digits of its sha256"
    if path.is_dir() or path.suffix == ".json":
        return (
            "a folder: not compared with the sha256 of an archive; deeplabx weights verify source=NAME "
            "does that"
        )
    digest = sha256_of(path)
    same = [entry for entry in BY_NAME.values() if digest.startswith(entry.sha256)]
    return (
        f"{same[0].name}, by {len(same[0].sha256)} digits of its sha256"
        if same
        else f"sha256 {digest}, of none of the known weights"
    )


def verified_model(found: Imported, *, config: schema.TrainConfig) -> list[str]:
    model = model_of(config, num_classes=found.num_classes, in_channels=3)
    refuse_other_network(found, model.state_dict())
    model.load_state_dict(found.tensors)
    lines = [f"  whole: every tensor of {config.model.name} on {config.backbone.name} is there"]
    truth = truth_of(found)
    if truth is None:
        return [*lines, "  no outputs of its own program are kept here to compare with"]
    difference = truth.difference(model.eval(), found.normalization)
    if difference > TOLERANCE:
        raise CheckpointError(
            f"its logits are not those of {found.source}: the largest difference is {difference:.1e} of "
            "the largest logit",
            hint=f"compared with {truth.program}; are these weights from another training?",
        )
    return [
        *lines,
        f"  logits: the largest difference is {difference:.1e} of the largest logit, from {truth.program}",
    ]


def compared(found: Imported, ckpt: str) -> str:
    """Whether a checkpoint, or a backbone's file, holds the very same tensors."""
    path = Path(ckpt)
    kept = read_backbone(path).tensors if is_backbone_file(path) else checkpoints.find(ckpt).model_tensors()
    other = [
        name for name in {**found.tensors, **kept} if not same_tensor(found.tensors.get(name), kept.get(name))
    ]
    if other:
        raise CheckpointError(
            f"ckpt={ckpt} holds other weights than the source: {len(other)} tensors differ, the first: "
            f"{printable(other[0])}"
        )
    return f"  {ckpt} holds the same {len(kept)} tensors"


def same_tensor(one: Tensor | None, other: Tensor | None) -> bool:
    return one is not None and other is not None and one.dtype == other.dtype and torch.equal(one, other)


# --- a whole model ------------------------------------------------------------------------------------------


def composed_settings(found: Imported, typed: list[str]) -> list[str]:
    """The importer's settings and a data set for the classes, as overrides; those of the command line
    win.
    """
    settings = dict(found.settings)
    number = found.num_classes
    if found.published_dataset:
        settings["dataset"] = found.published_dataset
    keys = {override.partition("=")[0] for override in typed}
    if "dataset" not in settings and "dataset" not in keys:
        raise ConfigError(
            f"{found.source} has {number} classes, which does not identify the data set",
            hint="set dataset=camvid, or dataset=folder dataset.root=PATH",
        )
    return [*(f"{key}={as_typed(value)}" for key, value in settings.items() if key not in keys), *typed]


def as_typed(value: Any) -> str:
    """A value as an override has it."""
    return value if isinstance(value, str) else json.dumps(value)


def write_checkpoint(found: Imported, out: Path, *, config: schema.TrainConfig, source: str) -> list[str]:
    """A checkpoint that eval, predict and init_from take. Raises CheckpointError unless its tensors are
    exactly those of the network.
    """
    classes, palette = classes_of(config.dataset)
    number = found.num_classes
    if len(classes) != number:
        raise ConfigError(
            f"{found.source} has {number} classes, dataset={config.dataset.name} {len(classes)}",
            hint="type another dataset=",
        )
    with torch.device("meta"):
        expected = model_of(config, num_classes=number, in_channels=3).state_dict()
    refuse_other_network(found, expected)
    description = Description(config, classes, palette, ignore_index_of(number), found.normalization)
    checkpoints.write_untrained(
        out.resolve(),
        found.tensors,
        description=description.to_plain(),
        report=report(found, source=source),
    )
    root = "" if config.dataset.root else " dataset.root=PATH"
    return [
        f"written to {out}, its report to {out / checkpoints.REPORT}; classes are those of "
        f"{config.dataset.name}",
        f"next: deeplabx predict {out} IMAGE   or   deeplabx eval {out}{root}   or   "
        f"deeplabx train init_from={out}",
    ]


def classes_of(config: schema.DatasetSettings) -> tuple[list[str], Palette]:
    """Names and colours: as published, or as the data set's own files say."""
    published = published_classes(config.name)
    if published is not None:
        return published
    samples = dataset_of(config, split=config.split)
    return samples.classes, samples.palette


def refuse_other_network(found: Imported, expected: dict[str, Tensor]) -> None:
    """Raise CheckpointError unless the tensors are those of the network by name and shape."""
    absent = [name for name in expected if name not in found.tensors]
    unknown = [name for name in found.tensors if name not in expected]
    other = [
        name
        for name in expected
        if name in found.tensors and found.tensors[name].shape != expected[name].shape
    ]
    for names, words in (
        (absent, "are missing"),
        (unknown, "have no place"),
        (other, "are of another shape"),
    ):
        if names:
            example = str(found.origins.get(names[0], names[0]))
            raise CheckpointError(
                f"this looks like {found.source}, but {len(names)} tensors {words}, the first: "
                f"{printable(example, 120)}",
                hint="it is truncated, or from another network",
            )


# --- a classification network's backbone --------------------------------------------------------------------


def write_backbone(found: Imported, out: Path, *, source: str) -> list[str]:
    """A folder that backbone.weights takes."""
    name = str(found.settings["backbone"])
    refuse_other_backbone(found)
    with arriving(out.resolve(), over=False) as folder:
        save_backbone(BackboneFile(found.tensors, name, found.normalization, found.source), folder)
        (folder / checkpoints.REPORT).write_text(report(found, source=source))
    return [
        f"written to {out}, its report to {out / checkpoints.REPORT}",
        f"next: deeplabx train backbone={name} backbone.weights={out}",
    ]


def refuse_other_backbone(found: Imported) -> None:
    """Raise CheckpointError unless the tensors, the classifier's apart, are those of the backbone by name and
    shape.
    """
    expected = meta_network(found.settings).state_dict()
    own = {name: tensor for name, tensor in found.tensors.items() if name in expected}
    refuse_other_network(found._replace(tensors=own), expected)


# --- what was done ------------------------------------------------------------------------------------------


def summary(found: Imported) -> list[str]:
    """How many tensors were taken as they are, renamed, changed, made, and left out."""
    counts = Counter(kind_words(name, origin) for name, origin in found.origins.items())
    lines = [
        f"  {len(found.tensors)} tensors: {', '.join(f'{number} {what}' for what, number in counts.items())}"
    ]
    for why in dict.fromkeys(found.left_out.values()):
        names = [name for name, reason in found.left_out.items() if reason == why]
        lines.append(f"  left out, {why}: {len(names)}: {printable(', '.join(names), 200)}")
    return lines


def kind_words(name: str, origin: Origin) -> str:
    if origin.kind == "taken":
        return "as they are" if origin.theirs == name else "renamed"
    return origin.kind


def report(found: Imported, *, source: str) -> str:
    """Every tensor: ours and what it was, then what was left out and why."""
    settings = " ".join(f"{key}={as_typed(value)}" for key, value in found.settings.items())
    width = max(map(len, found.tensors))
    lines = [
        f"{source}: {found.source}",
        f"network: {settings}",
        f"input: mean {found.normalization.mean}, std {found.normalization.std}",
        "",
    ]
    lines += [
        f"{name:<{width}}  {list(tensor.shape)}  <- {printable(str(found.origins[name]))}"
        for name, tensor in found.tensors.items()
    ]
    lines += ["", f"left out: {len(found.left_out)}"]
    lines += [f"{printable(name)}: {why}" for name, why in found.left_out.items()]
    return "\n".join(lines) + "\n"
