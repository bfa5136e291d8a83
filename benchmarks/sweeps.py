"""Sweeps that are killed at random moments and resumed, against one that was never interrupted.

    python -m benchmarks.sweeps grid       2 backbones x 3 seeds, killed twice with SIGKILL
    python -m benchmarks.sweeps search     an Optuna study with pruning, killed twice
    python -m benchmarks.sweeps parallel   the grid, two jobs at a time, killed twice

Each prints when it was killed, what was resumed, and whether weights and results are equal.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TINY = [
    "dataset.train_images=12",
    "dataset.val_images=4",
    "augment.crop_size=33",
    "trainer.batch_size=4",
    "trainer.workers=0",
    "trainer.samples=0",
    "trainer.precision=fp32",
    "trainer.devices=cpu",
    "trainer.save_every=7",
    "trainer.eval_every=10",
]
KINDS = {
    "grid": ["schedule.max_iters=40", "backbone=resnet18,mobilenetv2", "seed=0,1,2"],
    "parallel": ["schedule.max_iters=40", "backbone=resnet18,mobilenetv2", "seed=0,1,2", "sweep.jobs=2"],
    "search": [
        "schedule.max_iters=40",
        "sweep.trials=12",
        "sweep.prune=true",
        "optimizer.lr=tag(log,interval(1e-4,1e-1))",
        "backbone=resnet18,mobilenetv2",
        "trainer.clip_norm=choice(1,2)",
    ],
}


def deeplabx(*words: str, log: Path) -> "subprocess.Popen[bytes]":
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "deeplabx", *words], stdout=file, stderr=file, start_new_session=True
        )


def finished(*words: str, log: Path) -> float:
    """Run a command to its end; the seconds. Exits if it fails."""
    start = time.monotonic()
    code = deeplabx(*words, log=log).wait()
    if code:
        sys.exit(f"exit code {code}: deeplabx {' '.join(words)}\n{log.read_text(encoding='utf-8')[-3000:]}")
    return time.monotonic() - start


def killed(*words: str, log: Path, after: float) -> bool:
    """Run a command and kill it after some seconds; whether it still ran."""
    process = deeplabx(*words, log=log)
    try:
        process.wait(timeout=after)
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        return True
    return False


def jobs_of(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "sweep.json").read_text(encoding="utf-8"))["jobs"]


def outcome(folder: Path) -> list[tuple[Any, ...]]:
    """Of each job: what it was, how it ended, the weights of its last checkpoint, and its result."""
    found = []
    for job in jobs_of(folder):
        own = folder / job["folder"]
        (*_, last) = sorted((own / "checkpoints").glob("step-*"))
        weights = hashlib.sha256((last / "model.safetensors").read_bytes()).hexdigest()
        result = own / "result.json"
        values = json.loads(result.read_text(encoding="utf-8")) if result.is_file() else {}
        found.append((job["overrides"], job["status"], job["miou"], last.name, weights, values))
    return found


def compared(kind: str, *, seed: int, kills: int = 2) -> bool:
    """Whether a sweep that was killed `kills` times is the one that was not; prints what happened."""
    settings, rng = [*TINY, *KINDS[kind]], random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="deeplabx-sweeps-") as name:
        place = Path(name)
        log = place / "log"
        seconds = finished("train", "-m", *settings, f"hydra.sweep.dir={place}/whole", log=log)
        print(f"{kind}: never interrupted, {seconds:.0f} s")
        words = ["train", "-m", *settings, f"hydra.sweep.dir={place}/killed"]
        for number in range(kills):
            left = seconds * (1 - number / kills)
            after = rng.uniform(4.0, max(5.0, left * 0.6))
            while not killed(*words, log=log, after=after):
                sys.exit("it had ended before it was killed: another seed, please")
            states = [job["status"] for job in jobs_of(place / "killed")]
            print(f"{kind}: killed after {after:.1f} s; jobs: {', '.join(states)}")
            words = ["sweep", "resume", f"{place}/killed"]
        print(f"{kind}: resumed to the end, {finished(*words, log=log):.0f} s")
        whole, other = outcome(place / "whole"), outcome(place / "killed")
        same = whole == other
        pruned = sum(job[1] == "pruned" for job in whole)
        print(f"{kind}: {len(other)} jobs ({pruned} pruned); equal: {same}")
        if not same:
            for one, two in zip(whole, other, strict=False):
                if one != two:
                    print(f"  {one}\n  {two}")
        subprocess.run([sys.executable, "-m", "deeplabx", "sweep", "show", f"{place}/killed"], check=True)
    return same


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kinds", nargs="+", choices=[*KINDS])
    parser.add_argument("--seed", type=int, default=0, help="of the moments at which it is killed")
    given = parser.parse_args()
    same = [compared(kind, seed=given.seed) for kind in given.kinds]
    if not all(same):
        sys.exit(1)


if __name__ == "__main__":
    main()
