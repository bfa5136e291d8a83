"""Saves the checkpoints of one run, in its main process."""

from pathlib import Path
from typing import Any

from deeplabx.engine import checkpoint as checkpoints
from deeplabx.engine.log import Log
from deeplabx.engine.state import TrainState
from deeplabx.errors import ResourceError, resource_error
from deeplabx.process.distributed import is_main


class Saver:
    """folder: where the run's checkpoints are. description: the content of each one's config.json."""

    def __init__(self, state: TrainState, folder: Path, *, description: dict[str, Any], log: Log) -> None:
        self.state, self.folder, self.description, self.log = state, folder, description, log
        self.best_saved = state.best

    def save(self) -> None:
        """Save. Raises ResourceError for a full disk."""
        if not is_main():
            return
        try:
            checkpoints.keep(self.state, self.folder, description=self.description)
        except Exception as error:
            full = resource_error(error)
            if full is None:
                raise
            raise full from None
        self.best_saved = self.state.best

    def try_save(self) -> None:
        """Save; on a full disk, log that this checkpoint was skipped, and continue."""
        try:
            self.save()
        except ResourceError as full:
            self.state.best = self.best_saved  # the best one must be on the disk
            newest = max(self.folder.glob("step-*"), default=None)
            kept = f"the newest checkpoint is {newest.name}" if newest else "there is no checkpoint yet"
            self.log.say(
                f"step {self.state.step} could not be saved: {full.message}; training continues, {kept}"
            )
