"""Check the paths that a command reads before torch is imported."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deeplabx.command.table import Command
from deeplabx.config.stages import stages_of
from deeplabx.dataset.inputs import refuse_absent as refuse_absent_input
from deeplabx.engine.checkpoint_folder import exported_file, place
from deeplabx.errors import CheckpointError, DataError, DeeplabxError
from deeplabx.weights.known import BY_NAME


def refuse_absent(command: Command, config: Any) -> None:
    """Raise an error that names every path that does not exist or is not what it should be."""
    errors = list(wrong_paths(command, config))
    if not errors:
        return
    first = errors[0]
    if len(errors) > 1:
        first.message = "; ".join(error.message for error in errors)
    raise first


def wrong_paths(command: Command, config: Any) -> Iterator[DeeplabxError]:
    """An error for each wrong path among checkpoint, weights and images."""
    if "ckpt" in command.needs:
        try:
            refuse_absent_checkpoint(str(config.ckpt), exported=command.words != "export")
        except CheckpointError as error:
            yield error
    if command.words == "train":
        own = (None, "none", "imagenet")
        first: Any = next((one.config for one in stages_of(config)), config)  # later ones start from it
        for key, path in (("init_from", first.init_from), ("backbone.weights", first.backbone.weights)):
            if path not in (*own, *BY_NAME) and not Path(path).exists():
                yield CheckpointError(
                    f"{key}={path} does not exist", hint="leave it unset to start from random weights"
                )
    for source in config.input if "input" in command.needs else ():
        try:
            refuse_absent_input(str(source))
        except DataError as error:
            yield error


def refuse_absent_checkpoint(ckpt: str, *, exported: bool = True) -> None:
    """Raise CheckpointError unless there is a checkpoint at `ckpt`, or it is a name of known weights.

    exported: whether an exported file will do too.
    """
    if ckpt in BY_NAME and not Path(ckpt).exists():
        return
    if not (exported and exported_file(ckpt) is not None):
        place(ckpt)
