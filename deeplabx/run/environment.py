"""environment.json: the software and the machine of a run, on which the bits of its weights depend."""

import platform
from pathlib import Path
from typing import Any

import torch

from deeplabx import __version__
from deeplabx.config import schema
from deeplabx.engine.checkpoint_folder import read_json
from deeplabx.errors import CheckpointError
from deeplabx.process.distributed import world_size
from deeplabx.process.machine import cpu_model, nvidia_driver
from deeplabx.run import plugins
from deeplabx.run.description import options_of

NAME = "environment.json"
# What the bits of a run depend on, with the words for each.
ANYWHERE = {"device": "device", "torch": "torch", "processes": "processes"}
ON_GPUS = {"driver": "NVIDIA driver", "cuda": "CUDA", "cudnn": "cuDNN"}
ON_CPUS = {"cpu": "CPU", "threads": "threads"}


def environment_of(config: schema.TrainConfig, device: torch.device, *, workers: int) -> dict[str, Any]:
    on_gpu = device.type == "cuda"
    return {
        "deeplabx": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "driver": (nvidia_driver() or None) if on_gpu else None,
        "cuda": torch.version.cuda if on_gpu else None,
        "cudnn": torch.backends.cudnn.version() if on_gpu else None,
        "cpu": cpu_model() or None,
        "processes": world_size(),
        "threads": torch.get_num_threads(),
        "workers": workers,
        "precision": config.trainer.precision,
        "deterministic": config.trainer.deterministic,
        "plugins": plugins.needed(options_of(config)),
    }


def changed_words(folder: Path, now: dict[str, Any]) -> list[str]:
    """A line for the log of a run that continues, if its bits may differ from here on from those that it
    would have had where it was before. Nothing where `folder` has no record of that.
    """
    path = folder / NAME
    if not path.is_file():
        return []
    try:
        before = read_json(path)
    except CheckpointError as error:
        return [f"{error}; bits may differ from those of the run so far"]
    names = {**ANYWHERE, **(ON_CPUS if now["device"] == "cpu" == before.get("device") else ON_GPUS)}
    changed = [
        f"{words} was {before[key]}, now {now[key]}"
        for key, words in names.items()
        if None not in (before.get(key), now[key]) and before[key] != now[key]
    ]
    return [f"bits may differ from those of the run so far: {', '.join(changed)}"] if changed else []
