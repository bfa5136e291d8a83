"""A finished run whose last checkpoint is lost, as after a kill: resuming it repeats its last steps."""

import shutil
from collections.abc import Iterable
from pathlib import Path

SETTINGS = ["trainer.save_every=2", "trainer.eval_every=2", "trainer.samples=1"]


def cut_back(folder: Path) -> None:
    """Leave the run as it was when step 4 had been logged, and step 2 saved."""
    (folder / "DONE").unlink()
    (folder / "result.json").unlink()
    shutil.rmtree(folder / "checkpoints" / "step-00000004")
    for name in ("best.json", "last.json"):
        (folder / "checkpoints" / name).unlink(missing_ok=True)


def near(pairs: Iterable[tuple[int, float]]) -> list[tuple[int, float]]:
    """Steps and values, rounded to what a float32 holds."""
    return [(step, round(value, 5)) for step, value in pairs]
