"""The configs of recipes, composed on one shared base: Hydra takes 0.2 s for each."""

import copy
import functools
from typing import Any

from omegaconf import DictConfig, OmegaConf, flag_override

from deeplabx.command.compose import composed
from deeplabx.command.yaml_files import contents
from deeplabx.registry import option


@functools.cache
def base() -> DictConfig:
    return composed("train", [])


@functools.cache
def section(group: str, name: str) -> DictConfig:
    """An option's settings: its YAML file over its dataclass."""
    own = {key: value for key, value in contents(f"{group}/{name}").items() if key != "defaults"}
    merged: Any = OmegaConf.merge(OmegaConf.structured(option(group, name).settings), own)
    return merged


@functools.cache
def recipe_config(recipe: str) -> DictConfig:
    """What `deeplabx train +recipe=RECIPE` composes, not yet checked. Not to be changed."""
    config = copy.deepcopy(base())
    own: dict[str, Any] = dict(contents(f"recipe/{recipe}"))
    with flag_override(config, ["struct", "readonly"], [False, False]):
        for line in own.pop("defaults"):
            ((key, name),) = line.items()
            group = key.removeprefix("override /")
            assert group != key, f"{recipe}: a recipe replaces options, {key} does not"
            config[group] = section(group, name)
        return OmegaConf.merge(config, own)  # type: ignore[return-value]
