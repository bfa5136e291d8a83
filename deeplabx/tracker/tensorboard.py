"""TensorBoard: event files in the run's folder. Every run has them."""

import json
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from deeplabx.tracker.contract import Run, Tracker
from deeplabx.tracker.names import Names
from deeplabx.tracker.png import png

FOLDER = "tensorboard"
BEST = "best/miou"  # the scalar that the table of settings shows
Named = Callable[[Path], AbstractContextManager[Path]]


class TensorBoard(Tracker):
    """named: gives a folder a name in UTF-8, which TensorBoard needs, for as long as the block lasts."""

    name = "tensorboard"
    writer: Any  # a SummaryWriter; torch says of its file_writer that it is None

    def __init__(self, named: Named) -> None:
        self.named, self.open, self.names = named, ExitStack(), Names(r"\w.\-")

    def begin(self, run: Run) -> None:
        """Of a resumed run, TensorBoard no longer shows what was recorded after the step that it continues
        from.
        """
        from torch.utils.tensorboard import SummaryWriter

        folder = run.folder / FOLDER
        folder.mkdir(exist_ok=True)
        self.thread_hook = threading.excepthook
        threading.excepthook = self.quiet
        self.open.callback(self.restore_hook)
        self.writer = SummaryWriter(
            self.open.enter_context(self.named(folder)),
            purge_step=run.first_step + 1 if run.first_step else None,
        )
        self.settings = {key: simple(run.config[key]) for key in run.matters}
        if not run.first_step:
            experiment, start, _ = summaries_of(self.settings)
            self.writer.file_writer.add_summary(experiment)
            self.writer.file_writer.add_summary(start)
        self.first_step = run.first_step

    def quiet(self, failed: threading.ExceptHookArgs) -> None:
        """Suppress the traceback that TensorBoard's thread prints when the disk is full: its next write
        raises the same error.
        """
        if not (
            isinstance(failed.exc_value, OSError) and type(failed.thread).__module__.startswith("tensorboard")
        ):
            self.thread_hook(failed)

    def restore_hook(self) -> None:
        threading.excepthook = self.thread_hook

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(self.names.of(name), value, step)

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        height, width = image.shape[:2]
        # As add_image does, which compresses ten times as long.
        content = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=png(image))
        self.writer.file_writer.add_summary(Summary(value=[Summary.Value(tag=name, image=content)]), step)

    def text(self, name: str, words: str) -> None:
        block = "\n".join(f"    {line}" for line in words.splitlines())  # Markdown shows that as it is
        self.writer.add_text(name, block, self.first_step)

    def summary(self, values: Mapping[str, float]) -> None:
        self.writer.add_scalar(BEST, values["best_miou"], int(values["best_step"]))
        *_, end = summaries_of(self.settings)
        self.writer.file_writer.add_summary(end)

    def end(self, status: str) -> None:
        try:
            self.writer.close()
        finally:
            self.open.close()


def summaries_of(settings: Mapping[str, bool | int | float | str]) -> tuple[Any, Any, Any]:
    """What TensorBoard's table of settings (HPARAMS) is made of: its columns, the settings, the end."""
    from torch.utils.tensorboard.summary import hparams

    return hparams(dict(settings), {BEST: 0.0})


def simple(value: Any) -> bool | int | float | str:
    """A setting as a value of the table: lists as text."""
    return value if isinstance(value, bool | int | float | str) else json.dumps(value)
