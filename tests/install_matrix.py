"""The wheel in clean environments of each Python: the oldest and the newest dependencies that pyproject.toml
allows, without and with each extra. Each is to import, to run `doctor`, to train two steps and to evaluate
them. Slow: a torch of PyPI has several GB.

python -m tests.install_matrix [--python COMMAND ...] [--torch REQUIREMENT] [--only oldest|newest]

Exit code 1 when a row fails, or when none could be run.
"""

import argparse
import contextlib
import itertools
import os
import re
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hatchling.build import build_wheel
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PYTHONS = [f"python3.{minor}" for minor in range(11, 16)]  # up to the newest for which there is a torch
DEPENDENCIES = ["oldest", "newest"]
TINY = [
    "dataset.train_images=8",
    "dataset.val_images=2",
    "augment.crop_size=33",
    "trainer.batch_size=4",
    "trainer.workers=0",
    "trainer.samples=0",
    "schedule.max_iters=2",
    "hydra.run.dir=run",
]
USE_OF = {"timm": ["backbone=timm", "backbone.model=resnet18d"]}  # what trains with an extra
STEPS = ["install", "import", "doctor", "train", "eval"]
COLUMNS = {
    "python": 12,
    "dependencies": 12,
    "extra": 5,
    "torch": 14,
    **dict.fromkeys(STEPS, 7),
    "seconds": 7,
}
LIMIT = 3600  # seconds for one command


class Row(NamedTuple):
    python: str  # a command
    dependencies: str
    extra: str  # nothing: without one


class Ended(NamedTuple):
    ok: bool
    output: str


class Result(NamedTuple):
    torch: str
    steps: dict[str, Ended]  # by their name, those that were run


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.install_matrix", description="The wheel in clean environments."
    )
    parser.add_argument(
        "--python",
        nargs="+",
        default=PYTHONS,
        metavar="COMMAND",
        help=f"on PATH or with its whole path; without: {' '.join(PYTHONS)}",
    )
    parser.add_argument(
        "--torch",
        metavar="REQUIREMENT",
        help="the torch of the rows with the newest dependencies and no extra, such as a CPU build: "
        "torch==2.13.0 (torchvision, which timm brings along, loads only beside a torch of its own kind)",
    )
    parser.add_argument("--only", choices=DEPENDENCIES)
    options = parser.parse_args(words)

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = ["", *(name for name in project["optional-dependencies"] if name != "dev")]
    dependencies = [options.only] if options.only else DEPENDENCIES
    verdicts = set()
    print(line(COLUMNS), flush=True)
    with tempfile.TemporaryDirectory(prefix="wheel-") as folder:
        wheel = built_wheel(Path(folder))
        for row in itertools.starmap(Row, itertools.product(options.python, dependencies, extras)):
            verdicts.add(reported(row, wheel, project, torch=options.torch))
    return 0 if verdicts in ({True}, {True, None}) else 1


def built_wheel(folder: Path) -> Path:
    """The wheel of this checkout."""
    with contextlib.chdir(ROOT):
        return folder / build_wheel(str(folder))


def reported(row: Row, wheel: Path, project: dict[str, Any], *, torch: str | None) -> bool | None:
    """Run a row, print it and what its failing steps printed; whether all of it held, None where its Python
    is not here.
    """
    version = version_of(row.python)
    cells = {"python": version or row.python, "dependencies": row.dependencies, "extra": row.extra or "-"}
    if version is None:
        print(line({**cells, "torch": "not here"}), flush=True)
        return None
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="matrix-") as folder:
        result = ran(row, wheel, project, torch=torch, folder=Path(folder))
    cells["torch"] = result.torch
    cells |= {step: "ok" if ended.ok else "FAILED" for step, ended in result.steps.items()}
    print(line({**cells, "seconds": f"{time.monotonic() - begin:.0f}"}), flush=True)
    failed = {step: ended.output for step, ended in result.steps.items() if not ended.ok}
    for step, output in failed.items():
        last = "\n".join(output.strip().splitlines()[-20:])
        print(f"  {step}:\n{last}\n", flush=True)
    return not failed


def line(cells: dict[str, Any]) -> str:
    """A line of the table; the header where the cells are COLUMNS. A step that was not run is left open."""
    words = ((name if cells is COLUMNS else cells.get(name, ""), width) for name, width in COLUMNS.items())
    return " ".join(f"{word:<{width}}" for word, width in words).rstrip()


def version_of(python: str) -> str | None:
    """Its version; None where it does not run: a pyenv's python3.12 on PATH may be for a Python that is not
    activated.
    """
    try:
        ended = run([python, "-c", "import platform; print(platform.python_version())"], Path("/"))
    except OSError:
        return None
    return ended.output.strip() if ended.ok else None


def ran(row: Row, wheel: Path, project: dict[str, Any], *, torch: str | None, folder: Path) -> Result:
    """Install into an environment in `folder`, and take every other step there if that worked."""
    installation = install(row, wheel, project, torch=torch, folder=folder)
    if not installation.ok:
        return Result("", {"install": installation})
    commands, work = folder / "venv" / "bin", folder / "work"
    work.mkdir()
    python, deeplabx = commands / "python", commands / "deeplabx"
    version = run([python, "-c", "from importlib import metadata; print(metadata.version('torch'))"], work)
    return Result(
        version.output.strip(),
        {
            "install": installation,
            "import": run([python, "-c", "import deeplabx; deeplabx.build_model"], work),
            "doctor": run([deeplabx, "doctor"], work),
            "train": run([deeplabx, "train", *TINY, *USE_OF.get(row.extra, [])], work),
            "eval": run([deeplabx, "eval", "ckpt=run"], work),
        },
    )


def install(row: Row, wheel: Path, project: dict[str, Any], *, torch: str | None, folder: Path) -> Ended:
    """Make folder/venv, with the wheel and the row's dependencies in it."""
    # The newest pip: older ones list releases without a wheel too, whatever `oldest` asks for
    made = run([row.python, "-m", "venv", "--upgrade-deps", "venv"], folder)
    if not made.ok:
        return made
    python = folder / "venv" / "bin" / "python"
    words = [f"{wheel}[{row.extra}]" if row.extra else str(wheel)]
    if row.dependencies == "oldest":
        needs = project["dependencies"] + project["optional-dependencies"].get(row.extra, [])
        try:
            pins = [oldest(Requirement(need), python) for need in needs]
        except LookupError as error:
            return Ended(False, str(error))
        (folder / "oldest.txt").write_text("\n".join(pins))
        words += ["--constraint", "oldest.txt"]
    elif torch and not row.extra:
        words.append(torch)
    return run([python, "-m", "pip", "install", "--quiet", *words], folder)


def oldest(requirement: Requirement, python: Path) -> str:
    """A pin on its oldest release with a wheel for this Python. LookupError: none has one."""
    name = requirement.name
    listed = run([python, "-m", "pip", "index", "versions", name, "--only-binary=:all:"], python.parent)
    words = re.search(r"^Available versions: (.+)$", listed.output, re.MULTILINE)
    releases = [Version(word) for word in words[1].split(", ")] if words else []
    fitting = [release for release in releases if release in requirement.specifier]
    if not fitting:
        raise LookupError(f"pip finds no wheel of {requirement} for this Python\n{listed.output}")
    return f"{name}=={min(fitting)}"


def run(command: Sequence[str | Path], folder: Path) -> Ended:
    """Run a command in a folder; nothing of the checkout may be on its path."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT,
        )
    except subprocess.TimeoutExpired:
        return Ended(False, f"no end after {LIMIT} s: {' '.join(map(str, command))}")
    return Ended(done.returncode == 0, done.stdout)


if __name__ == "__main__":
    sys.exit(main())
