"""What a YAML file may change in Hydra. Configs are shared between people, so they are data: nothing named in
one is imported or called.
"""

import os
import re
from collections.abc import Iterator
from typing import Any

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from deeplabx.errors import ConfigError

COMMAND_LINE = "hydra.searchpath in command-line"  # Hydra's name for a search path given as an override
# Hydra takes these from its registered plugins only.
PLUGINS = ("hydra.launcher._target_", "hydra.sweeper._target_")
SAMPLER = re.compile(r"optuna\.samplers\.\w+Sampler")  # named in hydra-optuna-sweeper's own YAML
MOST_VALUES = 100_000  # in one YAML file
OWN_LOGS = "the run writes its own log and config: remove the key from the YAML file"


def refuse_package(provider: str, path: str) -> None:
    """Raise ConfigError where a YAML file adds a package to Hydra's search path: it would be imported."""
    in_yaml = provider.startswith("hydra.searchpath") and provider != COMMAND_LINE
    if in_yaml and "://" in path and not path.startswith("file://"):
        raise ConfigError(
            f"hydra.searchpath holds {path}: a YAML file may name folders only",
            hint="set it on the command line",
        )


def refuse_large(content: bytes, *, path: object) -> None:
    """Raise ConfigError for a YAML file whose aliases make it larger than any config.

    OmegaConf copies the target of each alias, so a few hundred bytes could exhaust the memory.
    """
    if b"*" in content and b"&" in content and expanded(content) > MOST_VALUES:
        raise ConfigError(
            f"{path} expands to more than {MOST_VALUES:,} values through its aliases",
            hint="use fewer aliases",
        )


def expanded(content: bytes) -> int:
    """The number of values in a YAML file after expanding its aliases; 0 if it cannot be read, which Hydra
    reports.
    """
    try:
        root = yaml.compose(content, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError):
        return 0
    return values_of(root, {}) if root is not None else 0


def values_of(node: yaml.Node, counted: dict[yaml.Node, int]) -> int:
    if node not in counted:
        counted[node] = 1  # for an alias inside its own target
        inside = (
            [part for pair in node.value for part in pair]
            if isinstance(node, yaml.MappingNode)
            else node.value
        )
        counted[node] = (
            1 if isinstance(node, yaml.ScalarNode) else 1 + sum(values_of(part, counted) for part in inside)
        )
    return counted[node]


def refuse_code(config: DictConfig) -> None:
    """Raise ConfigError if the composed `hydra` would import or call something, or change what a program
    started later runs.
    """
    plain: Any = OmegaConf.to_container(config.hydra, resolve=False)
    if plain.get("callbacks"):
        raise ConfigError(
            "hydra.callbacks is not supported", hint="remove hydra.callbacks from the YAML file"
        )
    for name in ("hydra_logging", "job_logging"):
        logging = plain.get(name)
        if logging is not None and (not isinstance(logging, dict) or logging.get("root") is not None):
            raise ConfigError(f"hydra.{name} is not supported", hint=OWN_LOGS)
    if plain.get("output_subdir") is not None and not re.fullmatch(
        r"(?!\.\.$)[\w.-]+", str(plain["output_subdir"])
    ):
        raise ConfigError(
            f"hydra.output_subdir={plain['output_subdir']} is not a name inside the run's folder",
            hint=OWN_LOGS,
        )
    environment = plain.get("job", {}).get("env_set") or {}
    changed = [
        name
        for name in environment
        if not isinstance(environment, dict) or environment[name] != os.environ.get(name)
    ]
    if changed:
        raise ConfigError(
            "hydra.job.env_set is not supported",
            hint=f"set {changed[0]} in the shell: {changed[0]}=... deeplabx ...",
        )
    for key, target in targets(config.hydra, "hydra"):
        if key not in PLUGINS and not SAMPLER.fullmatch(target):
            raise ConfigError(f"{key}={target} is not allowed", hint="YAML files are data: remove the key")


def targets(node: DictConfig | ListConfig, path: str) -> Iterator[tuple[str, str]]:
    """Every (dotted key, value) of a `_target_` below a node, behind interpolations too."""
    keys: list[Any] = list(node.keys()) if isinstance(node, DictConfig) else list(range(len(node)))
    for key in keys:
        try:
            value = node[key]
        except OmegaConfBaseException:  # missing, or a broken interpolation: Hydra reports it
            continue
        if isinstance(value, DictConfig | ListConfig):
            yield from targets(value, f"{path}.{key}")
        elif key == "_target_":
            yield f"{path}.{key}", str(value)
