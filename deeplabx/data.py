"""deeplabx data: what can be done with a data set besides training on it."""

import shlex
from pathlib import Path

from deeplabx import config as schema
from deeplabx.dataset.fake import write_fake


def fake(config: schema.DataFakeConfig) -> str:
    """Write a small made-up data set in the original layout; what was written, and what to type next."""
    out = Path(config.out)
    write_fake(config.dataset.name, out, images=config.images, seed=config.seed)
    name, root = config.dataset.name, shlex.quote(str(out))
    return (
        f"{config.images} images per split of made-up {name} in {out}\n"
        f"next: deeplabx train dataset={name} dataset.root={root} augment.crop_size=65 "
        "schedule.max_iters=20 trainer.batch_size=4"
    )
