"""deeplabx resume: an interrupted run continues in its folder, with its own config."""

from dataclasses import replace
from pathlib import Path

from deeplabx.command.job import Job, Watch
from deeplabx.command.stages import resume_all
from deeplabx.command.train import train
from deeplabx.engine.stage_folders import is_staged
from deeplabx.run.description import Change
from deeplabx.run.folder import config_of, overrides_of, refuse_links_out
from deeplabx.run.paths import refuse_moved


def main(job: Job) -> float:
    return resume(job.folder, change=lambda config: job.changed(config, training=True))


def resume(folder: Path, *, change: Change, watch: Watch | None = None) -> float:
    """Continue the run in `folder`. change: of its config, where that does not affect its weights. watch: of
    its evaluations.
    """
    if is_staged(folder):
        return resume_all(folder, change=change, watch=watch)
    refuse_links_out(folder)
    stored = config_of(folder)
    config = replace(change(stored), resume=True)
    refuse_moved(
        config.dataset,
        stored=stored.dataset,
        source=folder / "config.yaml",
        command=f"deeplabx resume {folder}",
    )
    return train(config, folder, overrides=overrides_of(folder), watch=watch)
