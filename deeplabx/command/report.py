"""deeplabx report: the page of a run or of an evaluation, from the files in its folder."""

from pathlib import Path

from deeplabx.command.job import Job
from deeplabx.command.variants import Settings, measure_variants
from deeplabx.config import schema
from deeplabx.engine.stage_folders import newest_stage
from deeplabx.run.report import write_report


def main(job: Job) -> None:
    """Write report.html into the folder, after the variants were measured if that is asked for."""
    settings = Settings.of(job)
    folder = newest_stage(job.folder)

    def change(config: schema.TrainConfig) -> schema.TrainConfig:
        return job.changed(config)

    if settings.variants:
        measure_variants(folder, images=settings.variant_images, change=change)
    print(f"written to {shown(write_report(folder, change=change))}")


def shown(path: Path) -> str:
    """A path below the current folder without that folder."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
