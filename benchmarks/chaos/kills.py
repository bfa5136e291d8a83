"""Rows 1, 5 and 18: SIGKILL at random and at chosen moments."""

import random
import re
import signal
import sys
import time
from pathlib import Path

from benchmarks.chaos.commands import (
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

KILLS, STEPS, SAVE_EVERY = 26, 208, 5


def random_kills(work: Path) -> Measured:
    """A run is killed again and again, every second time inside a save, and resumed each time."""
    settings = [f"trainer.save_every={SAVE_EVERY}", f"schedule.max_iters={STEPS}", "resume=true"]
    rng = random.Random(0)
    run, whole = work / "killed", work / "whole"
    lost, inside = [], 0
    for number in range(KILLS):
        begun = newest_step(run)
        life = start(training(run, *settings), work)
        life.wait_for(f"steps {begun}..")
        if number % 2 == 0 and wait_for_save(life, run, begun):
            time.sleep(rng.uniform(0, 0.04))
        else:
            target = begun + rng.randint(1, STEPS // KILLS - SAVE_EVERY)
            life.wait_until(lambda target=target: logged_step(run) >= target)  # type: ignore[misc]
            time.sleep(rng.uniform(0, 0.05))
        if life.process.poll() is not None:
            break  # it finished before it was killed
        life.send(signal.SIGKILL)
        inside += any((run / "checkpoints").glob(".tmp-*"))
        lost.append(max(0, logged_step(run) - newest_step(run)))
    finish(training(run, *settings), work)
    finish(training(whole, *settings), work)
    same = weights_of(run) == weights_of(whole)
    words = (
        f"{len(lost)} kills, {inside} inside a save: weights {'identical' if same else 'DIFFERENT'}, at most "
        f"{max(lost)} steps lost of {SAVE_EVERY}"
    )
    return Measured(words, same and len(lost) >= 24 and inside >= 12 and max(lost) <= SAVE_EVERY)


def wait_for_save(life: Running, run: Path, begun: int) -> bool:
    """Wait until a save has started, which its unfinished folder shows; return whether there was one."""

    def saving() -> bool:
        return logged_step(run) > begun and any((run / "checkpoints").glob(".tmp-*"))

    return life.wait_until(saving)


def orphans(work: Path) -> Measured:
    """Loader workers whose main process is killed."""
    life = start(training(work / "run", "trainer.workers=2", "schedule.max_iters=5000"), work)
    life.wait_for("step 3/")
    workers = [process for process in members(life.process.pid) if process != life.process.pid]
    life.send(signal.SIGKILL)
    seconds = seconds_until_gone(life.process.pid)
    return Measured(f"{len(workers)} workers gone after {seconds:.2f} s", len(workers) == 2 and seconds < 1)


MOMENTS = {  # a function of victim.PLACES, which of its calls kills, and settings
    "in the middle of an epoch": ("update", 5, []),
    "in the middle of an accumulation": ("pass", 12, ["trainer.accumulate=2"]),
    "in the middle of an evaluation": ("evaluation", 6, ["trainer.eval_every=3", "dataset.val_images=4"]),
    "in the middle of a save": ("save", 6, []),
    "right after the best was saved": ("prune", 2, ["trainer.eval_every=3"]),
    "between the save of the best and its pointer": ("pointer", 3, ["trainer.eval_every=3"]),
    "with AMP (bf16)": ("update", 7, ["trainer.precision=bf16"]),
}


def chosen_moments(work: Path) -> Measured:
    """Kill and resume runs, one at each chosen moment; compare with a run with the same settings that was not
    killed.
    """
    different = []
    references: dict[tuple[str, ...], tuple[str, str]] = {}
    for name, (place, count, own) in MOMENTS.items():
        settings = [*own, "schedule.max_iters=12", "trainer.save_every=2", "resume=true"]
        run = work / re.sub(r"\W+", "-", name)
        kill(place, count, training(run, *settings), work)
        finish(training(run, *settings), work)
        if tuple(settings) not in references:
            whole = work / f"whole-{len(references)}"
            finish(training(whole, *settings), work)
            references[tuple(settings)] = result(whole)
        if result(run) != references[tuple(settings)]:
            different.append(name)
    words = f"{len(MOMENTS)} moments ({'; '.join(MOMENTS)}): " + (
        f"DIFFERENT {', '.join(different)}" if different else "weights and best identical"
    )
    return Measured(words, not different)


def kill(place: str, count: int, words: list[str], work: Path) -> None:
    """Run `deeplabx words`, to be killed at a call of a function. Raises RuntimeError if it is not."""
    victim = [sys.executable, "-m", "benchmarks.chaos.victim", place, str(count)]
    ended = start(words, work, program=victim).wait()
    if ended.code != -signal.SIGKILL:
        raise RuntimeError(f"not killed at {place} {count}: {ended.words}: {ended.err[-300:]}")


def result(run: Path) -> tuple[str, str]:
    """The final weights, and which checkpoint is the best."""
    return weights_of(run), (run / "checkpoints" / "best.json").read_text(encoding="utf-8")


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
