"""How soon the command line answers, as a ratio to what it cannot be faster than: an empty Python for help,
`import hydra` for a wrong setting. The two of a pair run in turns (A B A B); medians.

python -m benchmarks.answers
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 15
EMPTY, HYDRA = ["-c", ""], ["-c", "import hydra"]
WRONG_KEY = "deeplabx train optimizer.lrr=1"
# What is asked, what it is held against, and the ratio that is promised; None: none is.
PAIRS = (
    ("deeplabx --help", EMPTY, 4.0),
    ("deeplabx train --help", EMPTY, None),
    ("deeplabx help trainer.ema_decay", EMPTY, None),
    (WRONG_KEY, HYDRA, 1.6),
    ("deeplabx train backbone=resnet51", HYDRA, None),
    ("deeplabx train optimizer.lr=-1", HYDRA, None),
    ("deeplabx eval nowhere", HYDRA, None),
    ("deeplabx predict nowhere nothing.jpg", HYDRA, None),
)


def main() -> None:
    print(f"{'command':<40} {'ms':>6} {'against':>8} {'ratio':>6} {'promised':>9}")
    with tempfile.TemporaryDirectory() as folder:
        for line, reference, promised in PAIRS:
            command = ["-m", *line.split()]
            ours: list[float] = []
            theirs: list[float] = []
            for _ in range(ROUNDS):
                ours.append(seconds(command, Path(folder)))
                theirs.append(seconds(reference, Path(folder)))
            own, other = statistics.median(ours), statistics.median(theirs)
            held = "" if promised is None else f"{promised:.1f}"
            print(f"{line:<40} {own * 1000:>6.0f} {other * 1000:>8.0f} {own / other:>6.2f} {held:>9}")


def seconds(arguments: list[str], folder: Path) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], capture_output=True, cwd=folder)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
