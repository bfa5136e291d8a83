"""deeplabx sweep resume."""

from pathlib import Path

from deeplabx.command import sweep
from deeplabx.command.job import Job
from deeplabx.command.sweep_settings import taken


def main(job: Job) -> None:
    own, _ = taken(job.overrides)
    sweep.resume(Path(str(job.config.folder)), own)
