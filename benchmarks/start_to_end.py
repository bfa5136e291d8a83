"""From process start to exit: what a short run takes beside its steps, by phase, and compared with a peer.

python -m benchmarks.start_to_end --data FOLDER [--rounds 5] [--images N] [--peer 'COMMAND'] [SETTING ...]

Trains one step of MobileNetV2 on a data set in VOC's layout (made up without --data), evaluates and saves.
Each round runs it as it is by default, then without sample images (trainer.samples=0), then the peer's
command. The figures are medians. The peer should do the same work: one step of the same size, an evaluation
of the same images, a checkpoint. {root} in its command is the data set's folder.
"""

import argparse
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from deeplabx.dataset.fake import write_fake

# Each phase ends with the first line of output that starts with these words.
PHASES = {
    "imports, config, data, model": "steps 0..",
    "samples of step 0, first step": "step 1/1",
    "evaluation": "step 1: mIoU",
    "samples, checkpoint, curves": "done:",
}
STEP = ["dataset=voc", "augment.crop_size=65", "trainer.batch_size=2", "schedule.max_iters=1"]
ALIKE = ["trainer.precision=fp32", "eval.crop=[65,65]"]  # no padding: each image is evaluated at its own size


class Run(NamedTuple):
    wall: float
    cpu: float  # of all its processes
    phases: list[float]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder that holds VOCdevkit")
    parser.add_argument("--images", type=int, default=4, help="of a made-up data set")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer", help="the peer's command")
    parser.add_argument("settings", nargs="*", help="more settings of deeplabx train")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as work:
        root = given.data
        if root is None:
            root = Path(work) / "voc"
            write_fake("voc", root, images=given.images, seed=0)
        runs: dict[str, list[Run]] = {"deeplabx": [], "without samples": []}
        for number in range(given.rounds):
            for name, more in (("deeplabx", []), ("without samples", ["trainer.samples=0"])):
                folder = f"hydra.run.dir={work}/{number}/{name.replace(' ', '-')}"
                settings = [*STEP, *ALIKE, f"dataset.root={root}", folder, *more, *given.settings]
                command = [sys.executable, "-m", "deeplabx", "train", *settings]
                runs[name].append(timed(command, Path.cwd(), phases=True))
            if given.peer:
                command = shlex.split(given.peer.replace("{root}", str(root.resolve())))
                runs.setdefault("peer", []).append(timed(command, Path(work), phases=False))
    for line in table(runs):
        print(line)


def timed(command: Sequence[str], folder: Path, *, phases: bool) -> Run:
    """Run it to its end. Raises RuntimeError with the last lines of its output if it fails."""
    begin = time.perf_counter()
    lines: list[str] = []
    ends = dict.fromkeys(PHASES, 0.0)
    process = subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line)
        for name, words in PHASES.items():
            if line.startswith(words):
                ends[name] = time.perf_counter() - begin
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{shlex.join(command)} exited with {process.returncode}:\n{''.join(lines[-9:])}")
    times = [*ends.values(), wall] if phases else []
    return Run(
        wall, usage.ru_utime + usage.ru_stime, [b - a for a, b in zip([0.0, *times], times, strict=False)]
    )


def table(runs: dict[str, list[Run]]) -> list[str]:
    """A line for each kind of run, with the ratio to the peer; below it the phases."""
    medians = {
        name: (statistics.median(run.wall for run in found), statistics.median(run.cpu for run in found))
        for name, found in runs.items()
    }
    lines = []
    for name, (wall, cpu) in medians.items():
        of_peer = ""
        if "peer" in medians and name != "peer":
            ratios = [
                (one.wall / peer.wall, one.cpu / peer.cpu)
                for one, peer in zip(runs[name], runs["peer"], strict=True)
            ]
            walls, cpus = zip(*ratios, strict=True)
            of_peer = f"; of the peer's {statistics.median(walls):.2f} and {statistics.median(cpus):.2f}"
        lines.append(f"{name:<16}  {wall:6.2f} s wall, {cpu:6.2f} s CPU{of_peer}")
    for name in ("deeplabx", "without samples"):
        phases = [
            statistics.median(column) for column in zip(*(run.phases for run in runs[name]), strict=True)
        ]
        words = zip([*PHASES, "exit"], phases, strict=True)
        lines.append(f"{name}: " + ", ".join(f"{phase} {seconds:.2f} s" for phase, seconds in words))
    return lines


if __name__ == "__main__":
    main()
