"""deeplabx resume and extend: a run goes on in its folder, with its own config."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from deeplabx.build import own_settings
from deeplabx.engine import checkpoint as checkpoints
from deeplabx.engine.lock import locked
from deeplabx.errors import CheckpointError, ConfigError
from deeplabx.run_folder import (
    EXTENSIONS,
    config_of,
    extensions_of,
    overrides_of,
    refuse_changed,
    refuse_links_out,
    write_config,
    write_extensions,
)
from deeplabx.schedule import build_schedule
from deeplabx.train import train


def resume(folder: Path, *, change: Callable[[Any], None]) -> float:
    """Continue the run in `folder` with its own config, changed where that does not touch its weights."""
    refuse_links_out(folder)
    config = config_of(folder)
    change(config)
    config.resume = True
    return train(config, folder, overrides=overrides_of(folder))


def extend(folder: Path, *, max_iters: int, change: Callable[[Any], None]) -> float:
    """Let the run in `folder` go on to `max_iters`, further than it was planned to. Says what that means for
    its learning rate.
    """
    refuse_links_out(folder)
    config = config_of(folder)
    found, _ = checkpoints.newest(folder / "checkpoints")
    if found is None:
        raise CheckpointError(
            f"{folder} holds no checkpoint to go on from",
            hint="train it first, with the schedule.max_iters you want",
        )
    step, planned = int(found.state["step"]), config.schedule.max_iters
    if max_iters <= planned:
        raise ConfigError(
            f"schedule.max_iters={max_iters} does not extend a run of {planned}",
            hint=f"type more than {planned}",
        )
    old, new = (
        build_schedule(config.schedule.name, **own_settings(replace(config.schedule, max_iters=n)))
        for n in (planned, max_iters)
    )
    change(config)
    config.schedule.max_iters = max_iters
    config.resume = True
    record = [*extensions_of(folder), {"at_step": step, "from": planned, "to": max_iters}]
    refuse_changed(config, found, record)
    with locked(folder):
        write_extensions(folder, record)
        write_config(folder, config)
        (folder / "DONE").unlink(missing_ok=True)
    lr = config.optimizer.lr
    print(
        f"{folder} stands at step {step} of {planned}, with a learning rate of "
        f"{lr * old(min(step, planned - 1)):.3g}.\n"
        f"In a schedule of {max_iters} it is {lr * new(step):.3g} there: it goes up, and falls to its end "
        "anew. The weights will not be those of a\n"
        f"run of {max_iters} from the start; {EXTENSIONS} says so in the run's folder. For those, train "
        f"anew with schedule.max_iters={max_iters}."
    )
    return train(config, folder, overrides=overrides_of(folder))
