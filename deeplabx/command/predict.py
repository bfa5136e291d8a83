"""deeplabx predict: class ids, overlays and other files of images and videos."""

import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from deeplabx.command import prediction_record
from deeplabx.command.job import Job
from deeplabx.command.placement import Task, besides, once_each, placed
from deeplabx.command.prediction_files import Frame, Predicted, Writer
from deeplabx.command.prediction_record import Done, Noting
from deeplabx.command.weights import checkpoint_of
from deeplabx.config import checks, stored
from deeplabx.dataset import submission as submissions
from deeplabx.dataset.annotations import write_coco
from deeplabx.dataset.contract import id_dtype
from deeplabx.dataset.image_file import read_image
from deeplabx.dataset.inputs import given_by
from deeplabx.dataset.video import VideoFile, write_video
from deeplabx.dataset.writing import place_for, write_classes
from deeplabx.engine.durable import remove, tidy, unfinished
from deeplabx.engine.lock import locked
from deeplabx.engine.predictor import Predictor
from deeplabx.errors import ConfigError, DataError, StoppedError, resource_error
from deeplabx.process.distributed import gathered, is_main, own_share, rank
from deeplabx.process.launch import launch
from deeplabx.process.pipeline import Behind, ahead
from deeplabx.process.signals import ended_by_signals
from deeplabx.report.overlay import overlay
from deeplabx.run import plugins
from deeplabx.run.description import StoredModel, stored_model

DECODERS = 2  # threads that read images
WRITERS = 2  # threads that write files
IN_FLIGHT = 8  # images that are read ahead, and those that wait to be written
BATCH_PIXELS = 4 << 20  # of an automatic batch on a GPU
LARGEST_BATCH = 16
MOST_WAITING = 256 << 20  # bytes of images that wait for others of their size


def main(job: Job) -> None:
    found = stored_model(checkpoint_of(job.config.ckpt), change=job.changed)
    checks.check_own(job.config, job.command.settings, job.own_keys)
    split = found.config.dataset.split if chosen(job, "dataset.split") else None
    predict(
        found,
        [str(one) for one in job.config.input],
        job.folder,
        save=[str(one) for one in job.config.save],
        submission=job.config.submission,
        batch_size=job.config.batch_size,
        split=split,
    )


def chosen(job: Job, key: str) -> bool:
    """Whether a setting is on the command line."""
    return any(one.lstrip("+").partition("=")[0] == key for one in job.overrides)


@dataclass(frozen=True)
class Work:
    """What each process is told, beside its tasks."""

    found: StoredModel
    folder: Path
    writer: Writer
    batch_size: int | None  # None: as suits the device
    probabilities: bool
    begun: frozenset[Path]  # videos of which some frames are done


def predict(
    found: StoredModel,
    sources: Sequence[str | Path],
    folder: Path,
    *,
    save: Sequence[str] = ("ids", "overlay"),
    submission: str | None = None,
    batch_size: int | str = "auto",
    split: str | None = None,
) -> None:
    """Write the files that `save` names for each image and video, sub-folders kept; what an earlier
    prediction with the same settings has written into `folder` stays.

    An image that cannot be read does not stop the others: unreadable.txt lists it, and DataError counts them
    at the end. split: of a data set, that a submission is compared with.
    """
    for words in found.warnings:
        print(f"warning: {words}", file=sys.stderr)
    save = list(dict.fromkeys(save))
    classes, palette = found.description.classes, found.description.palette
    if submission is not None:
        refuse_other_classes(submission, found)
    given = [given_by(source, besides=besides(folder)) for source in sources]
    tasks = placed(*once_each(given), folder, save=save, submission=submission)
    if submission is not None:
        refuse_videos(tasks)
        submissions.refuse_two_of_a_name(task.source for task in tasks)
    listings = [listing for _, listing in given]
    say_what_is_left_out(listings, len(tasks))

    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder) as warning, going_on(folder):
        if warning:
            print(f"warning: {warning}", file=sys.stderr)
        prediction_record.write_settings(folder, settings_of(found, save, submission))
        write_classes(
            folder / "classes.json", classes, palette, ignore_index=found.description.ignore_index
        )
        done = Done(folder)
        pending = [task for task in tasks if not done.has(task)]
        if len(pending) < len(tasks):
            print(f"{len(tasks) - len(pending)} of {len(tasks)} images were done already")
        remove_unfinished(pending)
        work = Work(
            found,
            folder,
            Writer(classes, palette, submission),
            None if batch_size == "auto" else int(batch_size),
            "probabilities" in save,
            frozenset(task.source for task in pending if task.is_video and done.has_begun(task)),
        )
        failures = (
            launch(
                predict_share, work, pending, devices=found.config.trainer.devices, prepare=plugins.loader()
            )
            if pending
            else []
        )
        lost = list(dict.fromkeys(words for listing in listings for words in listing.unreadable))
        failures, total = [*lost, *failures], len(tasks) + len(lost)
        if "polygons" in save:
            write_annotations(folder / "coco.json", tasks, classes)
    list_unreadable(folder / "unreadable.txt", failures)
    print(f"{total - len(failures)} of {total} images predicted, in {folder}, with {found.checkpoint.path}")
    if submission is not None:
        say_how_complete(submission, tasks, found, folder=folder, split=split)
    if failures:
        raise DataError(
            f"{len(failures)} of {total} images could not be read; the others are done",
            hint=f"{failures[0]}\nall are listed in {folder / 'unreadable.txt'}",
        )


# --- one process's share ------------------------------------------------------------------------------------


def predict_share(work: Work, tasks: list[Task]) -> list[str]:
    """One process's share of the tasks; what went wrong in all of them."""
    own = own_share(tasks)
    images = [task for task in own if not task.is_video]
    videos = [opened_video(task) for task in own if task.is_video]
    share = Share(work, work.found.predictor())
    frames = sum(one.properties.frames for one in videos if isinstance(one, VideoFile))
    with (
        on_full_disk(work.folder),
        tqdm(total=len(images) + frames, unit="image", disable=None if is_main() else True) as bar,
        Noting(work.folder, rank=rank()) as noting,
        Behind(threads=WRITERS, depth=IN_FLIGHT) as behind,
    ):
        share.begin(bar, noting, behind)
        share.predict(share.images(images))
        behind.finish()
        for task, video in zip((task for task in own if task.is_video), videos, strict=True):
            share.predict_video(task, video)
    return gathered(share.failures)


def opened_video(task: Task) -> VideoFile | DataError:
    try:
        return VideoFile(task.source)
    except DataError as error:
        return error


class Share:
    """The predictions of one process: frames come in, files go out, `failures` says what cannot be read."""

    def __init__(self, work: Work, predictor: Predictor) -> None:
        self.work, self.predictor = work, predictor
        self.channels = work.found.config.dataset.channels
        self.dtype = id_dtype(len(work.writer.classes))
        self.failures: list[str] = []

    def begin(self, bar: Any, noting: Noting, behind: Behind) -> None:
        self.bar, self.noting, self.behind = bar, noting, behind

    def predict(self, frames: Iterable[Frame]) -> None:
        """Predict frames, those of equal size together, and hand them to the threads that write."""
        for batch in batches(frames, self.batch_size):
            images = [frame.pixels for frame in batch]
            for frame, found in zip(batch, self.predicted(images), strict=True):
                self.behind(self.work.writer.write, frame, found)
                self.bar.update()

    def predicted(self, images: list[np.ndarray]) -> Iterator[Predicted]:
        found = self.predictor.predict(images, probabilities=self.work.probabilities)
        for ids, probabilities in found:
            halves = None if probabilities is None else probabilities.half().cpu().numpy()
            yield Predicted(ids.cpu().numpy().astype(self.dtype), halves)

    def batch_size(self, image: np.ndarray) -> int:
        """How many images of this one's size are predicted together. A CPU gains nothing by it."""
        if self.work.batch_size is not None:
            return self.work.batch_size
        if self.predictor.device.type == "cpu":
            return 1
        height, width = image.shape[:2]
        return min(LARGEST_BATCH, max(1, BATCH_PIXELS // (height * width)))

    def images(self, tasks: Sequence[Task]) -> Iterator[Frame]:
        """The images, read ahead; what cannot be read is noted."""

        def read(task: Task) -> Frame:
            state = prediction_record.state_of(task.source)
            pixels = read_image(task.source, channels=self.channels)
            return Frame(task.name, pixels, task.files, lambda: self.noting.done(task, state))

        for task, future in ahead(read, tasks, threads=DECODERS, depth=IN_FLIGHT, size=size_of_frame):
            try:
                yield future.result()
            except (DataError, FileNotFoundError) as error:
                words = error.message if isinstance(error, DataError) else f"{task.source} does not exist"
                self.failures.append(words)
                self.bar.update()

    # --- videos ---

    def predict_video(self, task: Task, video: VideoFile | DataError) -> None:
        if isinstance(video, DataError):
            self.failures.append(video.message)
            return
        state = prediction_record.state_of(task.source)
        if task.source not in self.work.begun:
            self.noting.begun(task)
        frames = with_ids(task)
        self.predict(self.frames(video, frames, again=task.source not in self.work.begun))
        self.behind.finish()
        if "overlay" in task.files:
            self.write_overlay(task.files["overlay"], video, frames)
        if frames is not task:
            remove(frames.files["ids"])
        if video.complaint:
            self.failures.append(video.complaint)
        else:
            self.noting.done(task, state)

    def frames(self, video: VideoFile, task: Task, *, again: bool) -> Iterator[Frame]:
        """The frames of a video whose files are not there, or all of them `again`; decoded ahead."""
        numbered = iter(video)
        count = iter(lambda: next(numbered, None), None)  # one thread: the frames stay in order
        for (number, pixels), _ in ahead(lambda frame: frame, count, threads=1, depth=IN_FLIGHT):
            files = task.of_frame(number)
            if not again and all(path.is_file() for path in files.values()):
                self.bar.update()
                continue
            name = f"{task.name}/{number:06d}"
            yield Frame(name, pixels, files)

    def write_overlay(self, path: Path, video: VideoFile, task: Task) -> None:
        """The overlay of each frame as a video, from the frames, which are decoded again, and their ids."""

        def laid_over(frame: tuple[int, np.ndarray]) -> np.ndarray:
            number, pixels = frame
            with Image.open(task.of_frame(number)["ids"]) as ids:
                return overlay(pixels, np.array(ids), self.work.writer.palette)

        blended = ahead(laid_over, video, threads=WRITERS, depth=IN_FLIGHT)
        with unfinished(place_for(path)) as temporary:
            temporary.mkdir()
            _, rate, size = video.properties
            write_video(temporary / path.name, (one.result() for _, one in blended), rate=rate, size=size)
            (temporary / path.name).rename(path)


def with_ids(task: Task) -> Task:
    """A video's task with the ids of its frames, which its overlay is made from: in a hidden folder if they
    are not asked for.
    """
    if "ids" in task.files or "overlay" not in task.files:
        return task
    overlay_file = task.files["overlay"]
    hidden = overlay_file.with_name(f".{overlay_file.stem}_frames")
    return task._replace(files={**task.files, "ids": hidden})
