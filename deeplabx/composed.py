"""What a YAML file may tell Hydra. Such files are handed around, so they are data: nothing is imported or
called by a name in one.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from hydra._internal import hydra as hydra_app
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from deeplabx.errors import ConfigError

TYPED = "hydra.searchpath in command-line"  # Hydra's name for what the user typed
PLUGINS = (
    "hydra.launcher._target_",
    "hydra.sweeper._target_",
)  # Hydra itself takes these from its registered plugins only
SAMPLER = re.compile(r"optuna\.samplers\.\w+Sampler")  # hydra-optuna-sweeper's own YAML names one
MOST_VALUES = 100_000  # of one YAML file
OWN_LOGS = "the run writes its own log and config: take the key out of the YAML file"


class DataOnly(ConfigLoaderImpl):
    """Hydra's loader; the config that it composes is looked at before logging, callbacks or plugins are made
    of it.
    """

    def __init__(self, config_search_path: ConfigSearchPath) -> None:
        folders = Folders()
        folders.config_search_path = [*config_search_path.get_path()]
        super().__init__(folders)

    def _load_configuration_impl(
        self, config_name: str | None, overrides: list[str], *rest: Any, **named: Any
    ) -> DictConfig:
        config = super()._load_configuration_impl(config_name, overrides, *rest, **named)
        if config_name is not None or overrides:  # neither: `--hydra-help`, which is Hydra's config alone
            refuse_code(config)
        return config


class Folders(ConfigSearchPathImpl):
    """A search path that a YAML file can lengthen by folders only: a package in it would be imported."""

    def append(self, provider: str, path: str, anchor: SearchPathQuery | None = None) -> None:
        if (
            provider.startswith("hydra.searchpath")
            and provider != TYPED
            and "://" in path
            and not path.startswith("file://")
        ):
            raise ConfigError(
                f"hydra.searchpath holds {path}: a YAML file can name folders only",
                hint="type it on the command line",
            )
        super().append(provider, path, anchor)


class Files(FileConfigSource):
    """YAML files that are no larger than they look: OmegaConf copies what an alias leads to, so a few hundred
    bytes could fill the memory.
    """

    def load_config(self, config_path: str) -> ConfigResult:
        path = Path(self.path) / self._normalize_file_name(config_path)
        content = path.read_bytes() if path.is_file() else b""
        if b"*" in content and b"&" in content and expanded(content) > MOST_VALUES:
            raise ConfigError(
                f"{path} would be more than {MOST_VALUES:,} values, by its aliases",
                hint="write them out, or use fewer",
            )
        return super().load_config(config_path)


def expanded(content: bytes) -> int:
    """How many values a YAML file has when each alias is what it stands for; 0 where the file cannot be read,
    which is told elsewhere.
    """
    try:
        root = yaml.compose(content, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError):
        return 0
    return values_of(root, {}) if root is not None else 0


def values_of(node: yaml.Node, counted: dict[yaml.Node, int]) -> int:
    if node not in counted:
        counted[node] = 1  # an alias that stands within what it stands for
        inside = (
            [part for pair in node.value for part in pair]
            if isinstance(node, yaml.MappingNode)
            else node.value
        )
        counted[node] = (
            1 if isinstance(node, yaml.ScalarNode) else 1 + sum(values_of(part, counted) for part in inside)
        )
    return counted[node]


def compose_data_only() -> None:
    """Let Hydra compose through DataOnly from now on."""
    Plugins.instance()  # registers Hydra's own sources, one of which is replaced
    SourcesRegistry.instance().types[Files.scheme()] = Files
    hydra_app.ConfigLoaderImpl = DataOnly  # type: ignore[attr-defined]


def refuse_code(config: DictConfig) -> None:
    """Raise ConfigError where the composed `hydra` would have something imported or called, or change what a
    program started later runs.
    """
    plain: Any = OmegaConf.to_container(config.hydra, resolve=False)
    if plain.get("callbacks"):
        raise ConfigError("hydra.callbacks are not called", hint="take hydra.callbacks out of the YAML file")
    for name in ("hydra_logging", "job_logging"):
        logging = plain.get(name)
        if logging is not None and (not isinstance(logging, dict) or logging.get("root") is not None):
            raise ConfigError(f"hydra.{name} is not followed", hint=OWN_LOGS)
    if plain.get("output_subdir") is not None and not re.fullmatch(
        r"(?!\.\.$)[\w.-]+", str(plain["output_subdir"])
    ):
        raise ConfigError(
            f"hydra.output_subdir={plain['output_subdir']} is not a name in the run's folder", hint=OWN_LOGS
        )
    environment = plain.get("job", {}).get("env_set") or {}
    changed = [
        name
        for name in environment
        if not isinstance(environment, dict) or environment[name] != os.environ.get(name)
    ]
    if changed:
        raise ConfigError(
            "hydra.job.env_set is not followed",
            hint=f"set {changed[0]} in the shell: {changed[0]}=... deeplabx ...",
        )
    for key, target in targets(config.hydra, "hydra"):
        if key not in PLUGINS and not SAMPLER.fullmatch(target):
            raise ConfigError(
                f"{key}={target} is not called", hint="a YAML file is data: take the key out of it"
            )


def targets(node: DictConfig | ListConfig, path: str) -> Iterator[tuple[str, str]]:
    """Every (dotted key, value) of a `_target_` below a node, behind interpolations too."""
    keys: list[Any] = list(node.keys()) if isinstance(node, DictConfig) else list(range(len(node)))
    for key in keys:
        try:
            value = node[key]
        except OmegaConfBaseException:  # missing, or an interpolation of nothing: Hydra would stop at it
            continue
        if isinstance(value, DictConfig | ListConfig):
            yield from targets(value, f"{path}.{key}")
        elif key == "_target_":
            yield f"{path}.{key}", str(value)
