"""The paths in a config: stored absolute, and looked for when a later command needs them again."""

import copy
import dataclasses
import os
from pathlib import Path
from typing import Any

from deeplabx.config import schema
from deeplabx.config.fields import walk
from deeplabx.errors import DataError

NAMES = ("imagenet", "none")  # of backbone.weights; they are no paths, even where a file has that name


def with_absolute_paths(config: schema.TrainConfig) -> schema.TrainConfig:
    """`config` with each path that exists absolute, so that later commands find it from any folder."""
    config = copy.deepcopy(config)
    for key, value, field in walk(config):
        if field.metadata.get("path") and value is not None:
            *owners, last = key.split(".")
            owner: Any = config
            for name in owners:
                owner = getattr(owner, name)
            several = isinstance(value, list)
            setattr(owner, last, [absolute(one) for one in value] if several else absolute(value))
    return config


def absolute(path: str) -> str:
    """`path` as an absolute one; unchanged if it does not exist, as the name of known weights."""
    if path in NAMES or not Path(path).exists():
        return path
    plain = Path(os.path.abspath(path))  # noqa: PTH100 - without `..`; but a/link/.. need not be a
    return str(plain if plain.exists() and plain.samefile(path) else Path(path).absolute())


def without_local_paths(config: schema.TrainConfig) -> schema.TrainConfig:
    """`config` as it can be handed over: folders of the data set unset, and of files of weights the name
    alone.
    """
    config = copy.deepcopy(config)
    for owner in (config.dataset, config.backbone, config.trainer, config):
        for one in dataclasses.fields(owner):
            value = getattr(owner, one.name)
            if one.metadata.get("path") and isinstance(value, str) and Path(value).is_absolute():
                setattr(owner, one.name, None if owner is config.dataset else Path(value).name)
    return config


def refuse_moved(
    config: schema.DatasetSettings,
    *,
    stored: schema.DatasetSettings,
    source: object,
    command: str,
    given_root: str | None = None,
    newer_root: str | None = None,
) -> None:
    """Raise DataError for a folder of the data set that is stored in `source` and is not there any more.

    config: what is used now; a path that was given for it is not looked at. command: what to type, before the
    setting. given_root: dataset.root as it was typed when it was stored. newer_root: where it was later.
    """
    for key, value, field in walk(stored):
        used = getattr(config, key, None)
        if not field.metadata.get("path") or not isinstance(value, str) or used != value:
            continue
        wrong = what_is_wrong(Path(value)) if Path(value).is_absolute() else ""
        if wrong:
            given = f" (given as {given_root})" if key == "root" and given_root not in (None, value) else ""
            newer = newer_root if key == "root" and newer_root != value else None
            raise DataError(
                f"dataset.{key}={value}{given}, stored in {source}, {wrong}",
                hint=f"if it moved, type {command} dataset.{key}={newer or 'PATH'}",
            )


def what_is_wrong(path: Path) -> str:
    """Why a folder that was there cannot be used; empty if it can."""
    try:
        if path.is_dir():
            return "" if any(path.iterdir()) else "is empty: is its disk mounted?"
        if path.exists():
            return ""
        parent = next(one for one in path.parents if one.is_dir())
        empty = not any(parent.iterdir())
    except OSError as error:  # such as a network disk that does not answer
        return f"cannot be read: {error.strerror}"
    return f"does not exist; {parent} is {'empty: is its disk mounted?' if empty else 'there'}"
