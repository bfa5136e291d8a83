"""deeplabx predict: class ids, overlays and other files of images, videos and rasters."""

import hashlib
import importlib.util
import itertools
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from deeplabx.command import prediction_record
from deeplabx.command.job import Job
from deeplabx.command.placement import ENDINGS, IMAGE, RASTER, VIDEO, Task, besides, once_each, placed
from deeplabx.command.prediction_files import Frame, Predicted, Writer
from deeplabx.command.prediction_record import Done, Noting
from deeplabx.command.weights import checkpoint_of
from deeplabx.config import checks, stored
from deeplabx.dataset import submission as submissions
from deeplabx.dataset.annotations import write_coco
from deeplabx.dataset.contract import Palette, id_dtype
from deeplabx.dataset.image_file import PILLOW_RAISES, read_image
from deeplabx.dataset.inputs import given_by
from deeplabx.dataset.listing import Found
from deeplabx.dataset.raster import is_raster
from deeplabx.dataset.video import VideoFile, write_video
from deeplabx.dataset.writing import place_for, write_classes
from deeplabx.engine.checkpoint_folder import MANIFEST
from deeplabx.engine.durable import remove, tidy, unfinished
from deeplabx.engine.lock import locked
from deeplabx.engine.predictor import Prediction, Predictor, Tiling
from deeplabx.engine.raster_prediction import predict_raster
from deeplabx.errors import ConfigError, DataError, StoppedError, listed, printable, resource_error
from deeplabx.process.distributed import gathered, is_main, own_share, rank
from deeplabx.process.launch import launch
from deeplabx.process.pipeline import Behind, ahead
from deeplabx.process.signals import ended_by_signals
from deeplabx.report.overlay import overlay
from deeplabx.report.rasters import refuse_untraceable, write_colours, write_polygons
from deeplabx.run import plugins
from deeplabx.run.description import StoredModel, stored_model

DECODERS = 2  # threads that read images
TIFF_SUFFIXES = (".tif", ".tiff")
WRITERS = 2  # threads that write files
IN_FLIGHT = 8  # images that are read ahead, and those that wait to be written
LARGEST_BATCH = 16  # on a GPU
MOST_WAITING = 256 << 20  # bytes of images that wait for others of their size


def main(job: Job) -> None:
    own = job.config
    checks.check_own(own, job.command.settings, keys=job.own_keys)
    found = stored_model(checkpoint_of(own.ckpt), change=job.changed)
    predict(
        found,
        [str(one) for one in own.input],
        job.folder,
        save=[str(one) for one in own.save],
        submission=own.submission,
        batch_size=None if own.batch_size == "auto" else int(own.batch_size),
        split=found.config.dataset.split if chosen(job, "dataset.split") else None,
    )


def chosen(job: Job, key: str) -> bool:
    """Whether a setting is on the command line."""
    return any(one.lstrip("+").partition("=")[0] == key for one in job.overrides)


@dataclass(frozen=True)
class Work:
    """What each process needs beside its tasks."""

    found: StoredModel
    folder: Path
    writer: Writer
    batch_size: int | None  # None: as suits the device
    probabilities: bool
    begun: frozenset[Path]  # videos of which some frames are done
    checkpoint: str  # its fingerprint

    def predictor(self) -> Predictor:
        predictor = self.found.predictor()
        return predictor if self.batch_size is None else replace(predictor, batch=self.batch_size)


@dataclass
class Outcome:
    """What came of the tasks: what could not be read, in words, and how much depended on windows."""

    failures: list[str] = field(default_factory=list)
    in_windows: int = 0  # images
    overlapped: int = 0  # pixels that at least two windows cover
    differing: int = 0  # those of them that two windows alone would have given different classes

    def count(self, tiling: Tiling | None) -> None:
        if tiling is not None:
            self.in_windows += 1
            self.overlapped += tiling.overlapped
            self.differing += tiling.differing

    @classmethod
    def of_all(cls, parts: Sequence["Outcome"]) -> "Outcome":
        failures = [words for part in parts for words in part.failures]
        numbers = ((part.in_windows, part.overlapped, part.differing) for part in parts)
        return cls(failures, *map(sum, zip(*numbers, strict=True)))

    def say(self) -> None:
        if self.overlapped:
            share = 100 * self.differing / self.overlapped
            print(
                f"images predicted in windows: {self.in_windows}; {share:.2f} % of the pixels that two "
                "windows cover got different classes from them"
            )


def predict(
    found: StoredModel,
    sources: Sequence[str | Path],
    folder: Path,
    *,
    save: Sequence[str] = ("ids", "overlay"),
    submission: str | None = None,
    batch_size: int | None = None,
    split: str | None = None,
) -> None:
    """Write the files that `save` names for each image and video, sub-folders kept; what an earlier
    prediction with the same settings wrote into `folder` stays.

    An image that cannot be read does not stop the others: unreadable.txt lists it, and DataError counts them
    at the end. split: of the data set, which a submission is compared with.
    """
    for words in found.warnings:
        print(f"warning: {words}", file=sys.stderr)
    save = list(dict.fromkeys(save))
    given = [given_by(source, besides=besides(folder)) for source in sources]
    listings = [listing for _, listing in given]
    images, bases = once_each(given)
    rasters = rasters_of(images)
    tasks = placed(images, bases, folder, save=save, submission=submission, rasters=rasters)
    if submission is not None:
        refuse_unfit(submission, found, tasks)
    say_what_is_left_out(listings, len(tasks))
    say_of_videos(tasks)

    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder) as warning, stoppable(folder):
        if warning:
            print(f"warning: {warning}", file=sys.stderr)
        outcome = predict_pending(found, tasks, folder, save, submission, batch_size)
    lost = list(dict.fromkeys(words for listing in listings for words in listing.unreadable))
    failures, total = [*lost, *outcome.failures], len(tasks) + len(lost)
    list_unreadable(folder / "unreadable.txt", failures)
    outcome.say()
    print(f"{total - len(failures)} of {total} images predicted, in {folder}, with {found.checkpoint.path}")
    if submission is not None:
        say_how_complete(submission, tasks, found.config.dataset.root, split)
        say_how_to_pack(submission, folder)
    if failures:
        raise DataError(
            f"{len(failures)} of {total} images could not be read; the others are done",
            hint=f"{failures[0]}\nall are listed in {folder / 'unreadable.txt'}",
        )


def predict_pending(
    found: StoredModel,
    tasks: list[Task],
    folder: Path,
    save: Sequence[str],
    submission: str | None,
    batch_size: int | None,
) -> Outcome:
    """Predict what no earlier prediction into `folder` has done. Raises ConfigError where there is one with
    other settings.
    """
    settings = settings_of(found, save, submission)
    prediction_record.write_settings(folder, settings)
    about = found.description
    write_classes(folder / "classes.json", about.classes, about.palette, ignore_index=about.ignore_index)
    done = Done(folder)
    pending = [task for task in tasks if not done.has(task)]
    if len(pending) < len(tasks):
        print(f"{len(tasks) - len(pending)} of {len(tasks)} images were done already")
    say_what_is_replaced(done.replaced_by(pending))
    remove_unfinished(pending)
    remove_frames([task for task in pending if done.has_other(task)])
    work = Work(
        found,
        folder,
        Writer(about.classes, about.palette, submission),
        batch_size,
        "probabilities" in save,
        frozenset(task.source for task in pending if done.has_begun(task)),
        settings["checkpoint"],
    )
    outcome = Outcome()
    if pending:
        devices = found.config.trainer.devices
        outcome = launch(predict_share, work, pending, devices=devices, prepare=plugins.loader())
    if (
        "polygons" in save
    ):  # even if nothing was pending: an earlier prediction may have been killed before this
        write_annotations(folder / "coco.json", tasks, about.classes)
    return outcome


# --- one process's share ------------------------------------------------------------------------------------


def predict_share(work: Work, tasks: list[Task]) -> Outcome:
    """One process's share of the tasks; what came of all of them."""
    own = own_share(tasks)
    images = [task for task in own if task.kind == IMAGE]
    rasters = [task for task in own if task.kind == RASTER]
    videos = [(task, opened_video(task)) for task in own if task.kind == VIDEO]
    frames = sum(video.properties.frames for _, video in videos if isinstance(video, VideoFile))
    with (
        on_full_disk(work.folder),
        tqdm(
            total=len(images) + len(rasters) + frames, unit="image", disable=None if is_main() else True
        ) as bar,
        Noting(work.folder, rank=rank()) as noting,
        Behind(threads=WRITERS, depth=IN_FLIGHT) as behind,
    ):
        share = Share(work, work.predictor(), bar=bar, noting=noting, behind=behind)
        share.predict(share.images(images))
        for task, video in videos:
            share.predict_video(task, video)
        behind.finish()
        for task in rasters:
            share.predict_raster(task)
            bar.update()
    return Outcome.of_all(gathered([share.outcome]))


def opened_video(task: Task) -> VideoFile | DataError:
    try:
        return VideoFile(task.source)
    except DataError as error:
        return error


@contextmanager
def on_full_disk(folder: Path) -> Iterator[None]:
    """Say of a file that cannot be written how to continue."""
    try:
        yield
    except OSError as error:
        found = resource_error(error)
        if found is None:
            raise
        found.message = found.message if error.filename else f"{folder}: {error.strerror}"
        found.hint = f"free some space there, or make it writable; {how_to_continue(folder)}"
        raise found from None


class Share:
    """The predictions of one process: images come in, files go out, `outcome` says what came of it."""

    def __init__(self, work: Work, predictor: Predictor, *, bar: Any, noting: Noting, behind: Behind) -> None:
        self.work, self.predictor, self.bar, self.noting, self.behind = work, predictor, bar, noting, behind
        self.channels = work.found.config.dataset.channels
        self.dtype = id_dtype(len(work.writer.classes))
        self.outcome = Outcome()
        wanted = work.batch_size or (1 if predictor.device.type == "cpu" else LARGEST_BATCH)
        self.together = wanted  # images of one size that the predictor is given; memory may allow fewer

    def predict(self, frames: Iterable[Frame]) -> None:
        """Predict images, those of equal size together, and hand them to the threads that write."""
        for batch in batches(frames, most=self.together):
            found = self.predictor.predict(
                [frame.pixels for frame in batch], probabilities=self.work.probabilities
            )
            for frame, prediction in zip(batch, found, strict=True):
                self.outcome.count(prediction.tiling)
                predicted = self.on_host(prediction)
                held = frame_bytes(frame) + predicted.nbytes
                self.behind(self.work.writer.write, frame, predicted, size=held)
                self.bar.update()

    def on_host(self, prediction: Prediction) -> Predicted:
        probabilities = prediction.probabilities
        halves = None if probabilities is None else probabilities.half().cpu().numpy()
        return Predicted(prediction.ids.cpu().numpy().astype(self.dtype), halves)

    def images(self, tasks: Sequence[Task]) -> Iterator[Frame]:
        """The images, read ahead; what cannot be read is noted."""
        for _, future in ahead(self.read, tasks, threads=DECODERS, depth=IN_FLIGHT, size=frame_bytes):
            try:
                yield future.result()
            except DataError as error:
                self.outcome.failures.append(error.message)
                self.bar.update()

    def read(self, task: Task) -> Frame:
        try:
            state = prediction_record.state_of(task.source)  # of what is read, though it may change then
        except OSError as error:
            raise DataError(f"{task.source}: {error.strerror}") from None
        pixels = read_image(task.source, channels=self.channels)
        return Frame(task.name, pixels, task.files, lambda: self.noting.done(task, state))

    # --- videos ---

    def predict_video(self, task: Task, video: VideoFile | DataError) -> None:
        """Predict the frames of a video, those apart that are done, then join their overlays."""
        if isinstance(video, DataError):
            self.outcome.failures.append(video.message)
            return
        state = prediction_record.state_of(task.source)
        self.noting.begun(task, state)
        whole = with_ids(task) if "overlay" in task.files else task
        self.predict(self.frames(video, whole))
        self.behind.finish()
        if "overlay" in task.files:
            write_overlay(task.files["overlay"], video, whole, palette=self.work.writer.palette)
        if whole.files != task.files:
            remove(whole.files["ids"])
        if video.complaint:
            self.outcome.failures.append(video.complaint)
        else:
            self.noting.done(task, state)

    def frames(self, video: VideoFile, task: Task) -> Iterator[Frame]:
        """The frames of a video, decoded ahead; without those whose files are there."""
        goes_on = task.source in self.work.begun
        for _, future in ahead(
            next_of(video), itertools.repeat(None), threads=1, depth=IN_FLIGHT, size=numbered_bytes
        ):
            found = future.result()
            if found is None:
                return
            number, pixels = found
            files = task.of_frame(number)
            if goes_on and all(path.is_file() for path in files.values()):
                self.bar.update()
            else:
                yield Frame(f"{task.name}/{number:06d}", pixels, files)

    # --- rasters ---

    def predict_raster(self, task: Task) -> None:
        """Predict a raster band by band; then what is made of its ids."""
        state = prediction_record.state_of(task.source)
        whole = with_ids(task)
        writer = self.work.writer
        try:
            if "polygons" in task.files:
                refuse_untraceable(task.source)
            found = predict_raster(
                self.predictor,
                task.source,
                ids_path=whole.files["ids"],
                classes=writer.classes,
                palette=writer.palette,
                checkpoint=self.work.checkpoint,
                channels=self.channels,
                probabilities_path=task.files.get("probabilities"),
                beside=lambda: self.write_beside(whole),
                progress=is_main() and sys.stderr.isatty(),
            )
            tqdm.write(f"{task.name}: {found.words}", file=sys.stderr)
            self.outcome.count(found.tiling)
        except DataError as error:
            self.outcome.failures.append(error.message)
            return
        if whole.files != task.files:
            remove(whole.files["ids"])
        self.noting.done(task, state)

    def write_beside(self, task: Task) -> None:
        """Colours, overlay and polygons of a raster, from its ids."""
        writer, ids = self.work.writer, task.files["ids"]
        for kind in ("colour", "overlay", "polygons"):
            path = task.files.get(kind)
            if path is None:
                continue
            with unfinished(place_for(path)) as temporary:
                if kind == "polygons":
                    write_polygons(temporary, ids, classes=writer.classes, name=task.name)
                else:
                    below = task.source if kind == "overlay" else None
                    write_colours(temporary, ids, writer.palette, below=below, channels=self.channels)
                temporary.rename(path)


def frame_bytes(frame: Frame) -> int:
    return frame.pixels.nbytes


Numbered = tuple[int, np.ndarray]


def numbered_bytes(frame: Numbered | None) -> int:
    return 0 if frame is None else frame[1].nbytes


def next_of(video: VideoFile) -> Callable[[None], Numbered | None]:
    """What gives the next frame each time, and None after the last."""
    frames = iter(video)
    return lambda _: next(frames, None)


def batches(frames: Iterable[Frame], *, most: int) -> Iterator[list[Frame]]:
    """Images of equal size together, at most so many. Those that wait for others of their size hold no more
    than MOST_WAITING bytes.
    """
    waiting: dict[tuple[int, ...], list[Frame]] = {}
    held = 0
    for frame in frames:
        group = waiting.setdefault(frame.pixels.shape, [])
        group.append(frame)
        held += frame_bytes(frame)
        if len(group) < most and held > MOST_WAITING:
            group = max(waiting.values(), key=lambda one: len(one) * frame_bytes(one[0]))
        if len(group) >= most or held > MOST_WAITING:
            held -= len(group) * frame_bytes(group[0])
            yield waiting.pop(group[0].pixels.shape)
    yield from waiting.values()


def with_ids(task: Task) -> Task:
    """The task with its ids, which the other files are made from; under a hidden name if they are not asked
    for.
    """
    if "ids" in task.files:
        return task
    final = next(iter(task.files.values()))
    ending = ENDINGS[task.kind]["ids"]
    return task._replace(files={**task.files, "ids": final.with_name(f".{final.stem}_ids{ending}")})


def write_overlay(path: Path, video: VideoFile, task: Task, *, palette: Palette) -> None:
    """The overlay of each frame as a video, from the frames, which are decoded again, and their ids."""

    def laid_over(frame: Numbered) -> np.ndarray:
        number, pixels = frame
        with Image.open(task.of_frame(number)["ids"]) as ids:
            return overlay(pixels, np.array(ids), palette)

    blended = ahead(laid_over, video, threads=WRITERS, depth=IN_FLIGHT)
    _, rate, size = video.properties
    with unfinished(place_for(path)) as temporary:
        temporary.mkdir()
        write_video(temporary / path.name, (one.result() for _, one in blended), rate=rate, size=size)
        (temporary / path.name).rename(path)


# --- before and after ---------------------------------------------------------------------------------------


def say_what_is_left_out(listings: Sequence[Found], different: int) -> None:
    given = sum(len(listing.paths) for listing in listings)
    left_out = dict.fromkeys(words for listing in listings for words in listing.left_out)
    twice = [f"{given - different} images were given twice; each is predicted once"]
    for words in [*left_out, *(twice if given > different else [])]:
        print(words)


def say_what_is_replaced(files: Mapping[str, str]) -> None:
    if files:
        pairs = [printable(f"{file} (of {source})") for file, source in files.items()]
        print(f"replacing {len(files)} files of other images of the same name: {listed(pairs, 3)}")


def rasters_of(images: Sequence[Path]) -> set[Path]:
    """The images that are read by blocks: georeferenced ones, and those too large to be read whole. Without
    rasterio they are plain images.
    """
    found = {image for image in images if image.suffix.lower() in TIFF_SUFFIXES and is_raster_file(image)}
    if found and importlib.util.find_spec("rasterio") is None:
        print(
            f"{len(found)} TIFFs are predicted as plain images, without their georeference: "
            "pip install 'deeplabx[geo]' keeps it"
        )
        return set()
    return found


def is_raster_file(image: Path) -> bool:
    """Whether a TIFF is a raster; a damaged one is not, and is reported when it is read."""
    try:
        return is_raster(image)
    except PILLOW_RAISES:
        return False


def say_of_videos(tasks: Sequence[Task]) -> None:
    videos = [task for task in tasks if task.kind == VIDEO]
    if videos and "overlay" in videos[0].files:
        print("overlay videos have no sound")


def settings_of(found: StoredModel, save: Sequence[str], submission: str | None) -> dict[str, Any]:
    """What the files of a prediction depend on, by dotted keys."""
    plain = stored.to_plain(found.config)
    chosen = {
        **{group: plain[group] for group in ("model", "backbone", "eval")},
        "trainer": {"precision": plain["trainer"]["precision"]},
        "dataset": {"channels": plain["dataset"]["channels"]},
    }
    own = {"checkpoint": fingerprint(found.checkpoint.path), "save": list(save), "submission": submission}
    return {**own, **prediction_record.flat(chosen)}


def fingerprint(path: Path) -> str:
    """A hash of a checkpoint's manifest, which has those of its files, or of an exported file; of OpenVINO's
    with the weights beside it.
    """
    files = [path / MANIFEST] if path.is_dir() else [path, path.with_suffix(".bin")]
    found = hashlib.sha256()
    for one in files:
        if one.is_file():
            with one.open("rb") as file:
                found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()


def how_to_continue(folder: Path) -> str:
    return f"the same command with out={folder} continues it"


@contextmanager
def stoppable(folder: Path) -> Iterator[None]:
    """Signals end the block, and the message says how to continue."""
    words = f"stopped; what is done is in {folder}, and {how_to_continue(folder)}"
    try:
        with ended_by_signals(words):
            yield
    except KeyboardInterrupt:
        raise StoppedError(words) from None


def remove_unfinished(tasks: Sequence[Task]) -> None:
    """What a killed prediction was writing."""
    folders = {path.parent for task in tasks for path in task.files.values()}
    folders |= {path for task in tasks if task.kind == VIDEO for path in with_ids(task).files.values()}
    for folder in folders:
        if folder.is_dir():
            tidy(folder, f"*-{'[0-9a-f]' * 32}")


def remove_frames(tasks: Sequence[Task]) -> None:
    """The frames of videos that have changed: one that is shorter now would keep the last ones."""
    for task in tasks:
        for path in with_ids(task).files.values():
            if path.is_dir():
                remove(path)


def write_annotations(path: Path, tasks: Sequence[Task], classes: Sequence[str]) -> None:
    """coco.json of all images and frames that have polygons."""
    places = [task.files["polygons"] for task in tasks if task.kind != RASTER]  # which are not in pixels
    geojsons = [one for place in places for one in (sorted(place.iterdir()) if place.is_dir() else [place])]
    with unfinished(place_for(path)) as temporary:
        write_coco(temporary, (one for one in geojsons if one.is_file()), classes=classes)
        temporary.rename(path)


def list_unreadable(path: Path, failures: list[str]) -> None:
    """Write each failure as a line. A list that an earlier prediction left is replaced, or removed."""
    if failures:
        lines = [" ".join(words.splitlines()) for words in failures]
        # A name that is not UTF-8 is listed as the bytes that it is on the disk.
        text = "".join(f"{line}\n" for line in lines)
        place_for(path).write_text(text, encoding="utf-8", errors="surrogateescape")
    else:
        path.unlink(missing_ok=True)


# --- submissions --------------------------------------------------------------------------------------------


def refuse_unfit(submission: str, found: StoredModel, tasks: Sequence[Task]) -> None:
    """Raise an error where a test server could not use the predictions."""
    server = submissions.SERVERS[submission]
    if found.description.classes != server.classes:
        raise ConfigError(
            f"submission={submission} needs a model of the {len(server.classes)} classes of {server.title}; "
            f"{found.checkpoint.path} has {len(found.description.classes)}: "
            f"{listed(found.description.classes, 5)}",
            hint=f"train it with dataset={submission.partition('_')[0]}, or leave submission out",
        )
    others = [task for task in tasks if task.kind != IMAGE]
    if others:
        raise ConfigError(
            f"submission={submission}, but {others[0].source} is a {others[0].kind}", hint="give images only"
        )
    submissions.refuse_two_of_a_name(task.source for task in tasks)


def say_how_complete(submission: str, tasks: Sequence[Task], root: str | None, split: str | None) -> None:
    """Print which images of the test set are missing, and how to pack the files."""
    stems = [task.source.stem for task in tasks if task.files["submission"].is_file()]
    expected = submissions.expected_names(submission, root, split) if split else None
    for words in submissions.completeness(submission, stems, expected=expected, split=split or ""):
        print(words)


def say_how_to_pack(submission: str, folder: Path) -> None:
    print(f"pack: {submissions.SERVERS[submission].pack.format(out=shlex.quote(str(folder)))}")
