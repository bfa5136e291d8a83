"""500 data folders with oddities: right labels, or an error that names what is wrong; never a difference in
silence.
"""

import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplabx.dataset.readable import ReadableSet
from deeplabx.errors import ConfigError, DataError
from deeplabx.run.build import dataset_of
from tests.conftest import Deeplabx, compose_plain
from tests.dataset.mutated_folders import EITHER, REFUSED, RIGHT, VOID, Mutation, Pair, mutated, png, tiff

CHUNK = 50
SPLITS = ("train", "val")
DATASET = compose_plain("dataset=folder", "dataset.root=unset").dataset


def opened(mutation: Mutation) -> Iterator[tuple[str, ReadableSet]]:
    config = replace(DATASET, root=str(mutation.root), **mutation.settings)
    for split in SPLITS:
        yield split, dataset_of(config, split=split)


def differences(mutation: Mutation) -> Iterator[str]:
    """What is wrong with how a folder is read, in words."""
    found: Counter[tuple[str, str]] = Counter()
    pairs = {pair.image_name: pair for pair in mutation.pairs}
    left_out: list[str] = []
    try:
        for split, samples in opened(mutation):
            left_out += getattr(samples, "left_out", [])
            files = samples.samples.pairs  # type: ignore[attr-defined]
            for index in range(len(samples)):
                image, label = samples[index]
                name = files[index][0].name
                found[split, name] += 1
                yield from wrong_pair(pairs.get(name), name, image, label, samples.ignore_index)
    except (DataError, ConfigError) as error:
        yield from wrong_refusal(mutation, str(error))
        return
    if mutation.verdict is REFUSED:
        yield "it must be refused, but was read"
        return
    for pair in mutation.pairs:
        count = sum(found[split, pair.image_name] for split in (SPLITS if mutation.seeded else [pair.split]))
        if pair.hidden and count:
            yield f"{pair.image_name!a} is hidden, but was read"
        said = pair.optional is not None and any(pair.optional in words for words in left_out)
        if not pair.hidden and count != 1 and not (count == 0 and said):
            yield f"{pair.image_name!a} was read {count} times, and nothing was said of it"


def wrong_pair(
    pair: Pair | None, name: str, image: np.ndarray, label: np.ndarray, ignore_index: int
) -> Iterator[str]:
    if pair is None:
        yield f"{name!a} is not an image of the split"
        return
    train_ids = np.where(label == ignore_index, VOID, label)
    if image.shape != (*pair.label.shape, 3) or label.shape != pair.label.shape:
        yield f"{name!a} is {image.shape} and {label.shape}, not {pair.label.shape}"
    elif (train_ids != pair.label).any():
        yield f"{(train_ids != pair.label).sum()} labels of {name!a} are wrong"


def wrong_refusal(mutation: Mutation, message: str) -> Iterator[str]:
    if mutation.verdict is RIGHT:
        yield f"it was refused: {message!a}"
    clues = mutation.clues if mutation.verdict is REFUSED else [*mutation.clues, str(mutation.root)]
    if not any(
        clue in message or clue in message.encode("ascii", "backslashreplace").decode() for clue in clues
    ):
        yield f"the error names none of {clues}: {message!a}"


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # as deeplabx.dataset.image_file has it in a command
@pytest.mark.parametrize("first", range(0, 500, CHUNK))
def test_a_mutated_folder_is_read_right_or_refused(tmp_path: Path, first: int) -> None:
    problems = []
    for seed in range(first, first + CHUNK):
        mutation = mutated(seed, tmp_path / f"folder{seed}")
        try:
            wrong = list(differences(mutation))
        except Exception as error:  # noqa: BLE001
            # What is looked for, and the other seeds go on.
            wrong = [f"{type(error).__name__}: {error!s}"]
        problems += [f"seed {seed} ({'; '.join(mutation.done)}): {words}" for words in wrong]
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_the_generators_own_files_are_what_they_say(bits: int) -> None:
    """Pillow shows grey of few bits brighter, and inverts where 0 is white."""
    rng, top = np.random.default_rng(bits), 2**bits - 1
    samples = rng.integers(0, top, (13, 21), endpoint=True).astype(np.uint16 if bits == 16 else np.uint8)
    factor = 255 // top if bits < 8 else 1
    for content in (png(samples, bits), png(samples, bits, interlaced=True), tiff(samples, bits)):
        shown = np.array(Image.open(io.BytesIO(content)))
        assert (shown.astype(int) * (255 if shown.dtype == bool else 1) == samples.astype(int) * factor).all()
    if bits <= 8:
        shown = np.array(Image.open(io.BytesIO(tiff(samples, bits, white_is_zero=True))))
        shown = shown.astype(int) * (255 if shown.dtype == bool else 1)
        assert (shown == 255 - samples.astype(int) * factor).all()


def test_a_folder_is_a_function_of_its_seed(tmp_path: Path) -> None:
    contents = []
    for name in ("one", "two"):
        mutation = mutated(3, tmp_path / name)
        files = sorted(path for path in mutation.root.rglob("*") if path.is_file())
        contents.append([(str(path.relative_to(mutation.root)), path.read_bytes()) for path in files])
    assert contents[0] == contents[1]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 1020))
def test_the_command_reads_it_right_or_refuses_it(tmp_path: Path, deeplabx: Deeplabx, seed: int) -> None:
    mutation = mutated(seed, tmp_path / "own")
    ended = deeplabx(
        *("train", "dataset=folder", f"dataset.root={mutation.root}", "model=lraspp"),
        *("backbone=mobilenetv3_small", "augment.crop_size=65", "schedule.max_iters=1", "trainer.workers=0"),
        *("trainer.devices=cpu", f"trainer.batch_size={len(mutation.pairs) - 2}", "hydra.run.dir=run"),
        *(f"dataset.{key}={value}" for key, value in mutation.settings.items()),
    )
    assert ended.code in {RIGHT: (0,), EITHER: (0, 2, 3), REFUSED: (2, 3)}[mutation.verdict], (
        mutation.done,
        ended.err,
    )
    if ended.code:
        clues = [*mutation.clues, *(repr(clue)[1:-1] for clue in mutation.clues)]
        assert any(clue in ended.err for clue in clues), (mutation.done, ended.err)
