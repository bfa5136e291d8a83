"""What tests share: a config composed as the command line would, and a tiny run on `shapes`."""

import contextlib
import functools
import gc
import importlib.util
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pytest
import torch

from deeplabx import cli, registry
from deeplabx.command.compose import checked, composed
from deeplabx.process.signals import WATCHED

TINY = [
    "dataset.train_images=12",
    "dataset.val_images=4",
    "augment.crop_size=33",
    "trainer.batch_size=4",
    "trainer.workers=0",
    "trainer.log_every=1",
    "trainer.samples=1",
    "trainer.precision=fp32",
    "trainer.devices=cpu",
    "schedule.max_iters=4",
]
Compose = Callable[..., Any]
TrainTiny = Callable[..., Path]
Deeplabx = Callable[..., "Ended"]
Root = Callable[[str], Path]


def declared_operators() -> torch.library.Library | None:
    """Declare the operators that importing torchvision (and so timm) needs, if its own cannot be loaded: with
    PyPI's build beside a CPU torch. They are only declared: no network of timm calls them.
    """
    found = importlib.util.find_spec("torchvision")
    if torch.backends.cuda.is_built() or found is None or found.origin is None:
        return None
    try:
        torch.ops.load_library(Path(found.origin).with_name("_C.so"))  # as torchvision itself does
    except OSError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return library
    return None


TORCHVISION = declared_operators()  # the operators are declared as long as this object lives


def compose_plain(*overrides: str, command: str = "train") -> Any:
    """The checked config of `deeplabx <command> <overrides>`."""
    return checked(composed(command, overrides))


@pytest.fixture
def compose() -> Compose:
    return compose_plain


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


@contextlib.contextmanager
def undone(*words: str) -> Iterator[None]:
    """Undo what `deeplabx words...` changes in its process."""
    handlers = {number: signal.getsignal(number) for number in WATCHED}
    root, level = logging.getLogger(), logging.getLogger().level
    with (
        mock.patch.dict(os.environ),
        mock.patch.object(sys, "argv", ["deeplabx", *words]),
        mock.patch.object(root, "handlers", [*root.handlers]),  # --info logs to stdout
    ):
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            root.setLevel(level)
            gc.enable()  # off while a config is composed


def exit_code(*words: str) -> int:
    """The exit code of `deeplabx words...`, run in this process."""
    with undone(*words), pytest.raises(SystemExit) as ended:
        cli.main(list(words))
    assert isinstance(ended.value.code, int)
    return ended.value.code


def python(*arguments: str | Path, cwd: Path) -> Ended:
    """Run Python in a process of its own."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=cwd, timeout=300)
    return Ended(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def deeplabx(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Deeplabx:
    """Run `deeplabx words...` in this process and in tmp_path. Keywords are environment variables."""

    def run(*words: str, **environment: str) -> Ended:
        capfd.readouterr()
        with contextlib.chdir(tmp_path), mock.patch.dict(os.environ, environment):
            code = exit_code(*words)
        return Ended(code, *capfd.readouterr())

    return run


@pytest.fixture
def own_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """Options that one test registers are gone after it."""
    for group, options in registry.OPTIONS.items():
        monkeypatch.setitem(registry.OPTIONS, group, dict(options))


@pytest.fixture
def train_tiny(tmp_path: Path) -> TrainTiny:
    """Train the tiny run in tmp_path/<name>; its folder."""
    from deeplabx.command.train import train

    def run(name: str, *overrides: str) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        train(compose_plain(*TINY, *overrides), folder, overrides=list(overrides))
        return folder

    return run


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One finished tiny run that tests may read, not change."""
    from deeplabx.command.train import train

    folder = tmp_path_factory.mktemp("tiny_run")
    train(compose_plain(*TINY), folder, overrides=TINY)
    return folder


@pytest.fixture
def own_run(tiny_run: Path, tmp_path: Path) -> Path:
    """A copy of the finished tiny run, in tmp_path/run."""
    return shutil.copytree(tiny_run, tmp_path / "run")


@pytest.fixture(scope="session")
def fake_root(tmp_path_factory: pytest.TempPathFactory) -> Root:
    """The root of a made-up data set by its name, which tests may read, not change; folder/coco is the data
    set folder with labels in the format coco.
    """
    from deeplabx.dataset.fake import write_fake

    @functools.cache
    def root(name: str) -> Path:
        folder = tmp_path_factory.mktemp("fake") / name
        dataset, _, labels = name.partition("/")
        write_fake(dataset, folder, images=4, seed=0, labels=labels or "masks")
        return folder

    return root


@pytest.fixture
def real_root() -> Root:
    """The root of a real data set by its name, where there is one."""
    return functools.partial(real_folder, "DEEPLABX_TEST_DATA")


@pytest.fixture
def real_weights() -> Root:
    """The folder of real weights by its name, where there is one."""
    return functools.partial(real_folder, "DEEPLABX_TEST_WEIGHTS")


def real_folder(variable: str, name: str) -> Path:
    """The folder `name` in the one that an environment variable names. Skips the test where it is not
    there.
    """
    parent = os.environ.get(variable)
    if not parent or not (Path(parent) / name).is_dir():
        pytest.skip(f"{variable} holds no {name}/")
    return Path(parent).resolve() / name


@pytest.fixture
def camvid_root(real_root: Root) -> Path:
    return real_root("camvid")


def times(folder: Path) -> dict[Path, int]:
    """When each file of a run was last changed; the lock apart, which each attempt takes."""
    return {
        path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != ".lock" and path != folder
    }


class Signalled(NamedTuple):
    """How a long run answered a signal."""

    exit_code: int
    output: str
    left_over: list[str]  # command lines of processes that still run
    checkpoint_step: int


def signalled_run(
    folder: Path, settings: list[str], number: signal.Signals, *, whole_group: bool
) -> Signalled:
    """Start a long tiny run in `folder`/run, and send it (or its whole process group) a signal after its
    third step.
    """
    from deeplabx.engine import checkpoint as checkpoints

    output, run = folder / "output", folder / "run"
    command = [
        sys.executable,
        "-m",
        "deeplabx",
        "train",
        *settings,
        "schedule.max_iters=5000",
        "trainer.samples=0",
        f"hydra.run.dir={run}",
    ]
    with output.open("w") as out:
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=out, start_new_session=True)
    deadline = time.monotonic() + 120
    while "step 3/" not in output.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    (os.killpg if whole_group else os.kill)(process.pid, number)
    exit_code = process.wait(timeout=60)
    found, _ = checkpoints.newest(run / "checkpoints")
    assert found is not None, output.read_text()
    return Signalled(exit_code, output.read_text(), processes_of_group(process.pid), found.state["step"])


def processes_of_group(group: int) -> list[str]:
    """The command lines of a process group's members that still run; those that only wait to be reaped do not
    count.
    """
    listed = subprocess.run(
        ["ps", "-eo", "pgid,stat,args"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    rows = [line.split(maxsplit=2) for line in listed[1:]]
    return [row[2] for row in rows if row[0] == str(group) and not row[1].startswith("Z")]
