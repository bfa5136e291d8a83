"""Rows 1, 5 and 18: what SIGKILL does, at random moments and at chosen ones."""

import random
import re
import signal
import time
from pathlib import Path

from benchmarks.chaos.commands import (
    DEEPLABX,
    Running,
    finish,
    logged_step,
    members,
    newest_step,
    seconds_until_gone,
    start,
    training,
    weights_of,
)
from benchmarks.chaos.row import Measured, Row

SAVE_EVERY = 5
VICTIM = [DEEPLABX[0], "-m", "benchmarks.chaos.victim"]


def random_kills(work: Path, short: bool) -> Measured:
    """A run is killed again and again, every second time inside a save, and resumed each time."""
    kills, steps = (2, 40) if short else (26, 208)
    settings = [f"trainer.save_every={SAVE_EVERY}", f"schedule.max_iters={steps}", "resume=true"]
    rng = random.Random(0)
    run, whole = work / "killed", work / "whole"
    lost, inside, done = [], 0, 0
    for number in range(kills):
        begun = newest_step(run)
        life = start(training(run, *settings), work)
        life.wait_for(f"steps {begun}..")
        in_save = number % 2 == 0 and waited_for_a_save(life, run, begun)
        if in_save:
            time.sleep(rng.uniform(0, 0.04))
        else:
            target = begun + rng.randint(1, max(1, steps // kills - SAVE_EVERY))
            while logged_step(run) < target and life.process.poll() is None:
                time.sleep(0.001)
            time.sleep(rng.uniform(0, 0.05))
        if life.process.poll() is not None:
            break  # it was done before it could be killed
        life.signal(signal.SIGKILL)
        in_save = any((run / "checkpoints").glob(".tmp-*"))
        inside, done = inside + in_save, done + 1
        lost.append(max(0, logged_step(run) - newest_step(run)))
    finish(training(run, *settings), work)
    finish(training(whole, *settings), work)
    same = weights_of(run) == weights_of(whole)
    words = (
        f"{done} kills, {inside} inside a save: weights {'identical' if same else 'DIFFERENT'}, at "
        f"most {max(lost)} steps lost of {SAVE_EVERY}"
    )
    enough = done == kills if short else done >= 24 and inside >= 12
    return Measured(words, same and enough and max(lost) <= SAVE_EVERY)


def waited_for_a_save(life: Running, run: Path, begun: int) -> bool:
    """Until a save is under way, which shows by its unfinished folder."""
    while life.process.poll() is None:
        if logged_step(run) > begun and any((run / "checkpoints").glob(".tmp-*")):
            return True
        time.sleep(0.001)
    return False


def orphans(work: Path, short: bool) -> Measured:
    """Loader workers whose main process is killed."""
    life = start(training(work / "run", "trainer.workers=2", "schedule.max_iters=5000"), work)
    life.wait_for("step 3/")
    workers = [process for process in members(life.process.pid) if process != life.process.pid]
    life.signal(signal.SIGKILL)
    seconds = seconds_until_gone(life.process.pid)
    return Measured(f"{len(workers)} workers gone after {seconds:.2f} s", len(workers) == 2 and seconds < 1)


MOMENTS = {
    "in the middle of an epoch": ("update", 5, []),
    "in the middle of an accumulation": ("accumulation", 11, ["trainer.accumulate=2"]),
    "in the middle of an evaluation": ("evaluation", 6, ["trainer.eval_every=3", "dataset.val_images=4"]),
    "right after best was saved": ("best", 1, ["trainer.eval_every=3"]),
    "between save and pointer": ("pointer", 1, ["trainer.eval_every=3"]),
    "between two renames of a save": ("rename", 3, []),
    "with AMP (bf16)": ("update", 7, ["trainer.precision=bf16"]),
}


def chosen_moments(work: Path, short: bool) -> Measured:
    """Killed at one chosen moment each, and resumed; against a run with the same settings that was not."""
    different = []
    references: dict[tuple[str, ...], tuple[str, str]] = {}
    chosen = dict([*MOMENTS.items()][1:2]) if short else MOMENTS
    for name, (place, count, settings) in chosen.items():
        settings = [*settings, "schedule.max_iters=12", "trainer.save_every=2", "resume=true"]
        killed = work / re.sub(r"\W+", "-", name)
        victim = start([*VICTIM, place, str(count), *training(killed, *settings)[3:]], work)
        victim.process.wait(120)
        if victim.process.returncode != -signal.SIGKILL:
            raise RuntimeError(
                f"{name}: not killed but ended with {victim.process.returncode}: {victim.words[-300:]}"
            )
        finish(training(killed, *settings), work)
        if tuple(settings) not in references:
            whole = work / f"whole-{len(references)}"
            finish(training(whole, *settings), work)
            references[tuple(settings)] = result(whole)
        if result(killed) != references[tuple(settings)]:
            different.append(name)
    words = f"{len(chosen)} moments ({'; '.join(chosen)}): " + (
        f"DIFFERENT {', '.join(different)}" if different else "weights and best identical"
    )
    return Measured(words, not different)


def result(run: Path) -> tuple[str, str]:
    """The last weights, and which checkpoint is the best."""
    return weights_of(run), (run / "checkpoints" / "best.json").read_text()


ROWS = [
    Row(
        1,
        ">= 24 SIGKILLs at random moments, half of them inside a save",
        "same weights, at most one save interval lost",
        random_kills,
    ),
    Row(5, "SIGKILL main", "loader workers gone < 1 s", orphans),
    Row(
        18,
        "killed at chosen moments and resumed",
        "sha256 of the weights equal to the uninterrupted run",
        chosen_moments,
    ),
]
