"""A name that is not one of a setting, a group or an option, answered with the one that was meant."""

import typing

from deeplabx.config.fields import Families, setting_keys
from deeplabx.config.schema import ResumeConfig, TrainConfig
from deeplabx.config.torch_optimizers import ALGORITHMS
from deeplabx.errors import ConfigError, nearest

# What other programs call our settings.
OTHER_NAMES = {
    "accelerator": "trainer.devices",
    "accumulate_grad_batches": "trainer.accumulate",
    "amp": "trainer.precision",
    "bs": "trainer.batch_size",
    "checkpoint": "init_from",
    "crop": "augment.crop_size",
    "data": "dataset.root",
    "data_dir": "dataset.root",
    "data_path": "dataset.root",
    "data_root": "dataset.root",
    "device": "trainer.devices",
    "ema": "trainer.ema_decay",
    "early_stopping": "trainer.patience",
    "epoch": "trainer.epochs",
    "fp16": "trainer.precision",
    "gpu": "trainer.devices",
    "gpus": "trainer.devices",
    "grad_clip": "trainer.clip_norm",
    "image_size": "augment.crop_size",
    "img_size": "augment.crop_size",
    "iterations": "schedule.max_iters",
    "iters": "schedule.max_iters",
    "learning_rate": "optimizer.lr",
    "max_epochs": "trainer.epochs",
    "logger": "tracker",
    "max_steps": "schedule.max_iters",
    "n_jobs": "sweep.jobs",
    "n_trials": "sweep.trials",
    "nproc": "trainer.devices",
    "num_epochs": "trainer.epochs",
    "num_workers": "trainer.workers",
    "output_dir": "hydra.run.dir",
    "pretrained": "backbone.weights",
    "random_seed": "seed",
    "steps": "schedule.max_iters",
    "swa": "trainer.swa_start",
    "wd": "optimizer.weight_decay",
}
OPTION_NAMES = {
    ("dataset", "custom"): "folder",
    ("dataset", "pascal"): "voc",
    ("dataset", "pascal_voc"): "voc",
    ("loss", "ce"): "cross_entropy",
    ("model", "deeplab"): "deeplabv3plus",
    ("model", "deeplabv3+"): "deeplabv3plus",
    ("optimizer", "adam"): "adamw",
}
OPTION_HINTS = {
    ("tracker", "tensorboard"): "TensorBoard's files are always written: tensorboard --logdir outputs/train",
    **{
        ("optimizer", spelling): f"optimizer=torch optimizer.algorithm={name} chooses it"
        for name in ALGORITHMS
        for spelling in (name, name.lower())
        if name not in ("SGD", "Adam", "AdamW")
    },
    ("hydra/sweeper", "optuna"): "sweep.trials=N searches with Optuna: deeplabx help sweep.trials",
    ("hydra/launcher", "submitit_slurm"): "sweep.launcher=slurm runs the jobs on SLURM",
    ("hydra/launcher", "joblib"): "sweep.jobs=N runs N jobs at a time",
}
OTHER_VALUES = {
    "amp": "fp16",
    "bfloat16": "bf16",
    "float16": "fp16",
    "float32": "fp32",
    "half": "fp16",
    "16": "fp16",
    "32": "fp32",
}
ELSEWHERE = {
    "num_classes": "the data set states the number of classes; of dataset=folder, its classes.yaml does",
    "in_channels": "the data set states the number of channels",
    "plugins": "plugins= is taken from the command line only, of a command that builds something",
    "out": "the folder of a run is set with hydra.run.dir=FOLDER",
    "ckpt": "to continue a run: deeplabx resume RUN; to start from its weights: init_from=RUN",
}


def meant(name: str, known: list[str]) -> str:
    """' Did you mean X?': by what other programs call it, else the nearest name."""
    other = OTHER_NAMES.get(name.rpartition(".")[2].replace("-", "_").lower())
    if other is not None and (other in known or other.startswith(("hydra", "sweep."))):
        return f" Did you mean {other}?"
    return nearest(name, known)


def unknown_setting(key: str, schema: type, families: Families) -> ConfigError:
    known = setting_keys(schema, families)
    owner, _, last = key.rpartition(".")
    siblings = [name for name in known if name.rpartition(".")[0] == owner]
    choices = [name.rpartition(".")[2] for name in siblings]
    if key in known and not owner:  # ~key, where the key has no value yet
        return ConfigError(f"{key}= must be given")
    if key in known:
        return ConfigError(
            f"{key} is not a setting of the {owner} chosen",
            hint=f"`deeplabx help {key}` says which options of {owner} have it",
        )
    if key in setting_keys(TrainConfig, families):
        longer = "resume keeps the length of the run; deeplabx extend RUN schedule.max_iters=N trains longer"
        hint = longer if schema is ResumeConfig else "it is a setting of deeplabx train"
        return ConfigError(f"{key} cannot be changed by this command", hint=hint)
    if last in ELSEWHERE:
        return ConfigError(f"{key} is not a setting", hint=ELSEWHERE[last])
    tops = [name for name in typing.get_type_hints(schema) if name not in choices]
    near = meant(key, siblings if owner and siblings else [*tops, *known])
    if owner and siblings and not near:
        near = meant(key, known)
    if not owner or not siblings:
        return ConfigError(
            f"{key} is not a setting.{near}", hint=f"at the top are {', '.join([*choices, *tops])}"
        )
    return ConfigError(f"{key} is not a setting.{near}", hint=f"{owner} has {', '.join(choices)}")


def unknown_option(group: str, option: str, choices: list[str], *, groups: list[str]) -> ConfigError:
    """choices: the options of the group; empty where there is no such group."""
    if not choices:
        return ConfigError(
            f"{group} is not a group.{nearest(group, groups)}", hint=f"the groups are {', '.join(groups)}"
        )
    if (group, option) in OPTION_HINTS:
        return ConfigError(f"{group}={option} is not an option of {group}", hint=OPTION_HINTS[group, option])
    other = OPTION_NAMES.get((group, option.lower()))
    near = f" Did you mean {other}?" if other else nearest(option, choices)
    return ConfigError(
        f"{group}={option} is not an option of {group}.{near}",
        hint=f"{group} can be {', '.join(choices)}\nan option of your own needs plugins=FILE",
    )
