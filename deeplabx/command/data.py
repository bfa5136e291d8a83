"""deeplabx data: what can be done with a data set besides training on it."""

import shlex
from pathlib import Path

from deeplabx.command.job import Job
from deeplabx.dataset.fake import write_fake


def fake(job: Job) -> None:
    """Write a small made-up data set in the original layout."""
    config, name = job.config, job.config.dataset.name
    labels = getattr(config.dataset, "format", "masks")
    write_fake(name, Path(config.out), images=config.images, seed=config.seed, labels=labels)
    chosen = name if labels == "masks" else f"{name} dataset.format={labels}"
    print(
        f"{config.images} made-up images per split, in the layout of {name}, in {config.out}\n"
        f"next: deeplabx train dataset={chosen} dataset.root={shlex.quote(config.out)} augment.crop_size=65 "
        "schedule.max_iters=20 trainer.batch_size=4"
    )
