"""What is handed over with an exported file: its classes, its model card, and a script that runs it."""

import shlex
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from deeplabx.dataset.writing import write_classes
from deeplabx.engine.checkpoint import fingerprint
from deeplabx.engine.checkpoint_folder import read_json
from deeplabx.engine.metrics import Metrics
from deeplabx.export.metadata import Metadata
from deeplabx.export.model_card import ExportedFile, ModelCard
from deeplabx.run.description import StoredModel
from deeplabx.run.environment import NAME as ENVIRONMENT
from deeplabx.run.folder import overrides_of
from deeplabx.run.origins import origins_of

CARD, CLASSES, SCRIPT = "model_card.md", "classes.json", "predict.py"


def write_hand_over(
    folder: Path,
    found: StoredModel,
    metadata: Metadata,
    *,
    metrics: Mapping[str, Metrics],
    versions: Mapping[str, str],
    overrides: Sequence[str],
) -> None:
    """Write classes.json and model_card.md beside the exported files in `folder`, and predict.py beside an
    ONNX file.

    metrics: of each exported file, by name. versions: of the programs that exported it. overrides: of the
    export command, without the checkpoint.
    """
    files = [
        ExportedFile(path.name, path.stat().st_size, fingerprint(path)["sha256"])
        for path in sorted(folder.iterdir())
    ]
    card = ModelCard(
        title=f"{found.config.model.name} on {found.config.backbone.name}, {len(metadata.classes)} classes",
        description="A network that gives each pixel of an image a class, trained and exported with "
        "deeplabx.",
        classes=metadata.classes,
        preprocessing=metadata.to_plain()["preprocessing"],
        output=metadata.to_plain()["output"],
        files=files,
        origins=origins_of(found.checkpoint),
        metrics=dict(metrics),
        measured_on=f"{found.config.dataset.split} of {found.config.dataset.name}",
        environment=environment_of(found.checkpoint.path, versions),
        commands=commands_of(found, overrides),
    )
    (folder / CARD).write_text(str(card), encoding="utf-8")
    write_classes(folder / CLASSES, metadata.classes, metadata.palette, ignore_index=metadata.ignore_index)
    if any(one.name.endswith(".onnx") for one in files):
        script = resources.files("deeplabx.export") / "standalone.py"
        (folder / SCRIPT).write_bytes(script.read_bytes())


def environment_of(checkpoint: Path, versions: Mapping[str, str]) -> dict[str, Any]:
    """Of the training, as its run noted it, and of the export."""
    noted = run_of(checkpoint) / ENVIRONMENT
    training = read_json(noted) if noted.is_file() else {}
    return {
        **{f"training: {name}": value for name, value in training.items()},
        **{f"export: {name}": value for name, value in versions.items()},
    }


def run_of(checkpoint: Path) -> Path:
    """The folder of the run that a checkpoint is in, or the checkpoint itself."""
    return checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else checkpoint


def commands_of(found: StoredModel, overrides: Sequence[str]) -> list[str]:
    """Of the training and the export, with the run's name in place of its path."""
    run = run_of(found.checkpoint.path)
    exported = shlex.join(["deeplabx", "export", run.name, *map(without_path, overrides)])
    if found.description.data is None:
        return [f"deeplabx weights import source=FILE out={shlex.quote(run.name)}", exported]
    return [shlex.join(["deeplabx", "train", *map(without_path, overrides_of(run))]), exported]


def without_path(override: str) -> str:
    """An override; of a path, which is stored in quotes, its key alone: where files lie on this machine is
    not handed over.
    """
    key, _, value = override.partition("=")
    return f"{key}=PATH" if "/" in value or value[:1] in ("'", '"') else override
