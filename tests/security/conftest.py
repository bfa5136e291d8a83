"""Tests of malicious files: each writes one below `place.inside`, and `harmless` runs a command on it."""

import io
import os
import resource
import shutil
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from PIL import Image

from tests.conftest import exit_code

SECONDS = 20  # that a command may take
MEMORY = 6 << 30  # bytes of address space that it may take
PICKLE = "cos\nmkdir\n(VMARKER\ntR."  # of protocol 0, which is text
ONE_STEP = (
    "train augment.crop_size=33 trainer.batch_size=2 trainer.workers=0 trainer.samples=1 "
    "trainer.precision=fp32 trainer.devices=cpu schedule.max_iters=1"
)
TRAIN = f"{ONE_STEP} dataset.train_images=4 dataset.val_images=1"
ON_FOLDER = f"{ONE_STEP} dataset=folder dataset.root=data"
EVAL = "eval ckpt=run trainer.devices=cpu"
PREDICT = "predict ckpt=run input=photos out=out trainer.devices=cpu"
RESUME = "resume run"
Content = str | bytes | Callable[["Bomb"], bytes]
Harmless = Callable[..., None]


class Bomb:
    """Makes the folder `marker` when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.marker),)


class Place(NamedTuple):
    """`inside` is the working folder of the command; in `outside`, which is beside it, nothing may change."""

    inside: Path
    outside: Path
    finished_run: Path

    def write(self, name: str, content: Content) -> Path:
        """Write a file. In a text, OUTSIDE stands for `outside`, MARKER for a path that must not appear."""
        marker = self.outside / "RAN"
        if callable(content):
            content = content(Bomb(marker))
        if isinstance(content, str):
            content = content.replace("MARKER", str(marker)).replace("OUTSIDE", str(self.outside)).encode()
        path = self.inside / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def copy_run(self) -> Path:
        """Copy the finished run to `run`, as if interrupted; its checkpoint. An image is beside it."""
        shutil.copytree(self.finished_run, self.inside / "run", copy_function=link_tensors)
        (self.inside / "run/DONE").unlink()
        self.write("photos/photo.png", image())
        return self.inside / "run/checkpoints/step-00000001"


def link_tensors(source: str, target: str) -> None:
    (os.link if source.endswith(".safetensors") else shutil.copyfile)(source, target)


def written(write: Callable[[io.BytesIO], Any]) -> bytes:
    """What `write` writes to a file."""
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def image(kind: str = "PNG") -> bytes:
    return written(lambda file: Image.new("RGB", (40, 30), (200, 100, 50)).save(file, kind))


def short_form(cases: Iterable[Any], every: int = 1000) -> list[Any]:
    """Parameters of a test: one in `every` is in the short form, the first at least; the others are slow."""
    values = [(case,) if isinstance(case, str) else case for case in cases]
    slow = [pytest.mark.slow if number % every else () for number in range(len(values))]
    return [pytest.param(*value, marks=marks) for value, marks in zip(values, slow, strict=True)]


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished_run")
    with limited(seconds=200):  # torch is imported
        assert exit_code(*TRAIN.split(), f"hydra.run.dir={folder}") == 0
    return folder


@pytest.fixture
def place(tmp_path: Path, finished_run: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    made = Place(tmp_path / "inside", tmp_path / "outside", finished_run)
    made.inside.mkdir()
    made.write("../outside/decoy.txt", "decoy\n")
    monkeypatch.chdir(made.inside)
    monkeypatch.setenv("HOME", str(made.outside))
    monkeypatch.setattr(tempfile, "tempdir", str(made.inside))
    return made


@pytest.fixture
def harmless(place: Place, capfd: pytest.CaptureFixture[str]) -> Harmless:
    """`harmless(line)` runs a command in this process, and asserts that it executed nothing of a file,
    changed nothing in `outside`, and gave a clear answer. may_succeed: the command may also do its work.
    """

    def run(line: str, *, may_succeed: bool = False) -> None:
        before = snapshot(place.outside)
        sys.stdout.reconfigure(errors="strict")  # type: ignore[union-attr]
        sys.stderr.reconfigure(errors="backslashreplace")  # type: ignore[union-attr] # as Python's own are
        with limited(SECONDS):
            code = exit_code(*line.split())
        answer = capfd.readouterr().err
        assert not list(place.inside.rglob("RAN"))
        assert snapshot(place.outside) == before
        assert not fault(code, answer, may_succeed=may_succeed), answer

    return run


@contextmanager
def limited(seconds: int) -> Iterator[None]:
    """Limit time and memory."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pytest's are errors
        before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail(f"no answer in {seconds} s"))
        signal.alarm(seconds)
        if sys.platform == "linux":
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, limits[1]))
        try:
            yield
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)
            resource.setrlimit(resource.RLIMIT_AS, limits)


def snapshot(folder: Path) -> dict[Path, Any]:
    """What every file, folder and link below a folder holds."""
    return {
        path: path.readlink() if path.is_symlink() else path.is_file() and path.read_bytes()
        for path in folder.rglob("*")
    }


def fault(code: object, answer: str, *, may_succeed: bool = False) -> str:
    """What is wrong with an answer, or nothing: it must be one to three lines, with exit code 2, 3 or 4."""
    last = answer[max(answer.rfind("deeplabx: "), 0) :]
    if any(words in answer for words in ("Traceback", "internal error")):
        return "an internal error"
    if may_succeed and code == 0:
        return ""
    if code not in (2, 3, 4):
        return f"exit code {code}"
    if not last.startswith("deeplabx: ") or len(last.splitlines()) > 3:
        return f"{len(last.splitlines())} lines"
    if len(last) > 1600:
        return f"{len(last)} characters"
    return "" if last.replace("\n", "").isprintable() else "control characters"
