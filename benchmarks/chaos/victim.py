"""A `deeplabx` command that is killed at a chosen moment: python -m benchmarks.chaos.victim PLACE COUNT train
...
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from deeplabx import cli
from deeplabx.engine import checkpoint, evaluator
from deeplabx.engine.state import TrainState

PLACES: dict[str, tuple[Any, str]] = {  # what is called at the moment, and where it is looked up
    "update": (TrainState, "take_step"),
    "pass": (TrainState, "forward_loss"),
    "evaluation": (evaluator, "confusion_matrix"),
    "save": (checkpoint, "save_file"),
    "pointer": (checkpoint, "point"),
    "prune": (checkpoint, "prune"),
}


def killed_at(count: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, but its call number `count` kills the process."""
    calls = 0

    def counted(*arguments: Any, **settings: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **settings)

    return counted


if __name__ == "__main__":
    place, count, *arguments = sys.argv[1:]
    owner, name = PLACES[place]
    setattr(owner, name, killed_at(int(count), getattr(owner, name)))
    cli.main(arguments)
