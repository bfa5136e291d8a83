"""Hydra: the config of a command, its jobs and its help.

Three names of Hydra's that are not public are used, here and nowhere else:

- ConfigLoaderImpl is the only implementation of its ConfigLoader, which composes; its `repository` lists the
  options of a group without copying all of them.
- Hydra runs jobs and sweeps with a given loader; `hydra.main` would make its own.
- FileConfigSource reads YAML files; ours is the same under another scheme, with a look at their size first.

Nothing of Hydra's is replaced: `hydra.compose` and `hydra.main` of other programs in this process work as
before.
"""

import dataclasses
import itertools
import os
import re
import threading
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.hydra import Hydra
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import ConfigSearchPath, SearchPathElement, SearchPathQuery
from hydra.core.config_store import ConfigStore
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobRuntime, setup_globals
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.sweeper import Sweeper
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, flag_override

from deeplabx import registry
from deeplabx.command.overrides import HYDRA_PATHS, prepared
from deeplabx.command.table import BY_WORDS, Command
from deeplabx.command.yaml_files import choices, conf_dir
from deeplabx.config import checks, loss_parts, schema, stages, trusted
from deeplabx.config.fields import path_keys
from deeplabx.config.paths import expanded, expanded_paths
from deeplabx.config.words import explained
from deeplabx.errors import ConfigError, DeeplabxError
from deeplabx.run import plugins

LOCK = threading.RLock()  # Hydra's registries and its parser's caches belong to the whole process
STORED: dict[tuple[str, str], type] = {}  # what Hydra's ConfigStore has, by group and name


# --- what Hydra reads ---------------------------------------------------------------------------------------


class Folders(ConfigSearchPath):
    """A search path of YAML folders. A YAML file can add folders to it, but no packages."""

    def __init__(self) -> None:
        self.elements: list[SearchPathElement] = []

    def get_path(self) -> list[SearchPathElement]:
        return self.elements

    def append(self, provider: str, path: str, anchor: SearchPathQuery | None = None) -> None:
        self.insert(len(self.elements), provider, path)

    def prepend(self, provider: str, path: str, anchor: SearchPathQuery | str | None = None) -> None:
        self.insert(0, provider, path)

    def insert(self, index: int, provider: str, path: str) -> None:
        trusted.refuse_package(provider, path)
        path = path.removeprefix("file://")
        scheme = "" if "://" in path else f"{YamlFiles.scheme()}://"
        self.elements.insert(index, SearchPathElement(provider, scheme + path))


class YamlFiles(FileConfigSource):
    """A folder of YAML files, each no larger than it looks."""

    @staticmethod
    def scheme() -> str:
        return "yaml"

    def load_config(self, config_path: str) -> ConfigResult:
        path = Path(self.path) / self._normalize_file_name(config_path)
        if path.is_file():
            trusted.refuse_large(path.read_bytes(), path=path)
        return super().load_config(config_path)


class CommandLoader(ConfigLoader):
    """Hydra's loader for one command. It checks a composed config before logging, callbacks or plugins are
    made of it; completion sees only the groups that the command has.
    """

    def __init__(self, command: Command, folders: Folders) -> None:
        self.loader, self.command = ConfigLoaderImpl(folders), command
        own = {field.name for field in dataclasses.fields(command.settings)}
        self.hidden = {"schema", *registry.GROUPS} - own
        self.claims = ""  # the key of the folder to make, when jobs are run
        self.paths = path_keys(command.settings, registry.families())
        if command.settings is not schema.TrainConfig:
            self.hidden.add("recipe")  # a recipe is a whole training config

    def load_configuration(
        self, config_name: str | None, overrides: list[str], *rest: Any, **named: Any
    ) -> DictConfig:
        config = self.loader.load_configuration(config_name, overrides, *rest, **named)
        if config_name is not None or overrides:  # neither: Hydra's own config alone, as it is shipped
            trusted.refuse_code(config)
            expand_home(config, self.paths)
            self.settle_stages(config)
            self.note_batch_of_recipe(config)
            if self.claims:
                claim_folder(config, self.claims)
        return config

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        config = self.loader.load_sweep_config(master_config, sweep_overrides)
        trusted.refuse_code(config)
        expand_home(config, self.paths)
        self.settle_stages(config)
        self.note_batch_of_recipe(config)
        set_value(config, "hydra.sweep.dir", master_config.hydra.sweep.dir)  # as it was claimed
        return config

    def note_batch_of_recipe(self, config: DictConfig) -> None:
        """Set trainer.lr_batch_size to the batch of the recipe: its learning rate is meant for that, and the
        command line may have another batch.
        """
        if self.command.settings is not schema.TrainConfig:
            return
        batch = (self.recipe_of(config).get("trainer") or {}).get("batch_size")
        if isinstance(batch, int) and OmegaConf.select(config, "trainer.lr_batch_size") is None:
            set_value(config, "trainer.lr_batch_size", batch)

    def recipe_of(self, config: DictConfig) -> dict[str, Any]:
        """What the chosen recipe's own file says; nothing where there is none."""
        chosen = OmegaConf.select(config, "hydra.runtime.choices.recipe")
        recipe = None if chosen is None else self.loader.repository.load_config(f"recipe/{chosen}")
        table: Any = OmegaConf.to_container(recipe.config, resolve=False) if recipe else {}
        return table

    def settle_stages(self, config: DictConfig) -> None:
        """What the command line sets for the whole run replaces what a recipe sets in its stages; in place.
        Raises ConfigError for a stage that the recipe does not have and no plus adds.
        """
        if not config.get(stages.KEY):
            return
        plain: Any = OmegaConf.to_container(config, resolve=False)
        tables, overrides = plain[stages.KEY], plain["hydra"]["overrides"]["task"]
        if isinstance(tables, dict):
            stages.refuse_unknown_stage(overrides, self.recipe_of(config).get(stages.KEY))
            set_value(config, stages.KEY, stages.with_command_line(tables, plain, overrides))

    def get_search_path(self) -> ConfigSearchPath:
        return self.loader.get_search_path()

    def get_sources(self) -> list[ConfigSource]:
        return self.loader.get_sources()

    def list_groups(self, parent_name: str) -> list[str]:
        return self.get_group_options(parent_name, ObjectType.GROUP)

    def get_group_options(
        self, group_name: str, results_filter: ObjectType | None = ObjectType.CONFIG, *rest: Any, **named: Any
    ) -> list[str]:
        if rest or named:
            found = self.loader.get_group_options(group_name, results_filter, *rest, **named)
        else:  # as the loader does, which copies all that it knows for each group: seconds of `--help`
            found = self.loader.repository.get_group_options(group_name, results_filter)
        return found if group_name else [name for name in found if name not in self.hidden]

    def compute_defaults_list(self, config_name: str | None, overrides: list[str], run_mode: RunMode) -> Any:
        return self.loader.compute_defaults_list(config_name, overrides, run_mode)


def expand_home(config: DictConfig, paths: Collection[str]) -> None:
    """Expand the ~ of every path of a composed config, in place, whether it was typed or is from a YAML file.
    An interpolation stays one.
    """
    plain: Any = OmegaConf.to_container(config, resolve=False)
    for key in (*paths, *HYDRA_PATHS):
        value: Any = plain
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        whole = expanded_paths(key, value)
        if whole != value:
            set_value(config, key, whole)


def set_value(config: DictConfig, key: str, value: Any) -> None:
    with flag_override(config.hydra, "readonly", False), flag_override(config, "readonly", False):
        OmegaConf.update(config, key, value, merge=False)


def claim_folder(config: DictConfig, key: str) -> None:
    """Make the folder that a time names, as a new one: of two runs that start at once, one gets a suffix. A
    folder that was given by name stays as it is.
    """
    plain: Any = OmegaConf.to_container(config, resolve=False)
    text = str(plain["hydra"][key.split(".")[1]]["dir"])
    if re.fullmatch(r"\$\{\w+\}", text):  # as predict's: ${out}
        text = str(plain.get(text[2:-1]))
    if re.search(r"\$\{now:[^}]*%S", text):
        set_value(config, key, str(claimed(Path(str(OmegaConf.select(config, key))))))


def claimed(folder: Path) -> Path:
    """`folder`, or `folder`-2, -3, ...: the first that does not exist is made."""
    for number in itertools.count(1):
        place = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        try:
            place.mkdir(parents=True)
            break
        except FileExistsError:
            continue
    return place


def loader_of(
    command: Command, folders: Sequence[str | Path] = (), *, primary: str | Path | None = None
) -> CommandLoader:
    """A loader of the command's config. folders: further ones, of the user's own. primary: instead of
    conf/.
    """
    folders = [expanded("--config-dir", str(folder)) for folder in folders]
    for folder in folders:
        if not Path(folder).is_dir():
            raise ConfigError(f"--config-dir {folder}: there is no such folder")
    Plugins.instance().register(YamlFiles)
    if hydra.__version__.startswith("1.3."):
        hydra.version.setbase("1.3")  # 1.3 asks for it, 1.4 deprecates it
    plugins.load_installed()
    setup_globals()
    JobRuntime().set("name", "deeplabx")
    store_schemas(command)
    path = Folders()
    path.append("hydra", "pkg://hydra.conf")
    path.append("main", expanded("--config-path", str(primary or conf_dir())))
    for folder in folders:
        path.append("command-line", str(Path(folder).absolute()))
    path.append("schema", "structured://")
    return CommandLoader(command, path)


def store_schemas(command: Command) -> None:
    """Let Hydra know the command's schema, and each option's; an option without a YAML file is its schema."""
    store_once("schema", command.key, command.settings)
    for group, options in registry.OPTIONS.items():
        for option in options.values():
            store_once(f"schema/{group}", option.name, option.settings)
            if not (conf_dir() / group / f"{option.name}.yaml").is_file():
                store_once(group, option.name, option.settings)


def store_once(group: str, name: str, settings: type) -> None:
    """Store a dataclass, outside the schemas with its name set. Storing is slow: not what Hydra has."""
    if STORED.get((group, name)) is not settings:
        node = settings if group.startswith("schema") else settings(name=name)
        ConfigStore.instance().store(group=group, name=name, node=with_open_tables(node, settings))
        STORED[group, name] = settings


def with_open_tables(node: Any, settings: type) -> Any:
    """The schema, such that a table in it may be given any key, as `optimizer.settings.momentum=0.9`."""
    hints = typing.get_type_hints(settings)
    tables = [name for name, hint in hints.items() if typing.get_origin(hint) is dict]
    if not tables:
        return node
    opened = OmegaConf.structured(node)
    for name in tables:
        OmegaConf.set_struct(opened[name], False)
    return opened


# --- a config, or a command's jobs --------------------------------------------------------------------------


def composed(words: str, overrides: Sequence[str] = (), *, folders: Sequence[str | Path] = ()) -> DictConfig:
    """The config of `deeplabx WORDS overrides...`. It can be called in any thread, and in a notebook.

    Raises ConfigError naming the setting, the value found and what would be right.
    """
    config = with_hydra(words, overrides, folders=folders)
    with flag_override(config, ["struct", "readonly"], False):
        del config["hydra"]
    return config


def run_folder(words: str, overrides: Sequence[str] = ()) -> Path:
    """The folder that a command's run would be in."""
    return Path(str(with_hydra(words, overrides).hydra.run.dir))


def with_hydra(
    words: str, overrides: Sequence[str] = (), *, folders: Sequence[str | Path] = ()
) -> DictConfig:
    """The config of a command, and Hydra's own under `hydra`."""
    command = BY_WORDS[words]
    with LOCK:
        try:
            own = prepared(command, overrides, own_folder=bool(folders))
            return loader_of(command, folders).load_configuration(
                command.key, own, run_mode=RunMode.RUN, from_shell=False
            )
        except DeeplabxError:
            raise
        except Exception as error:
            raise in_words(error, command) from error


def training_config(
    overrides: Sequence[str] = (), *, folders: Sequence[str | Path] = ()
) -> schema.TrainConfig:
    """The checked config of `deeplabx train overrides...`; in any thread.

    folders: further config folders, as --config-dir. Raises ConfigError naming the setting that is wrong.
    """
    return checked(composed("train", overrides, folders=folders))


def checked(config: DictConfig) -> Any:
    """The composed config as plain dataclasses, every value in its range, those of the parts of a loss too,
    in every stage. Raises ConfigError naming the setting.
    """
    plain = checks.checked(config)
    if isinstance(plain, schema.TrainConfig):
        check_loss_parts(plain.loss)
        for stage in stages.stages_of(plain):
            with stages.named(stage.name):
                check_loss_parts(stage.config.loss)
        plain.loss = loss_parts.completed(plain.loss, settings_of=registry.settings_of)
    return plain


def check_loss_parts(loss: schema.LossSettings) -> None:
    """Raise ConfigError for a part of a composite loss that cannot be."""
    for index, part in enumerate(loss_parts.parts_of(loss, settings_of=registry.settings_of)):
        checks.refuse_contradicting_weights(part.settings, key=loss_parts.key_of(loss, index))


def in_words(error: Exception, command: Command) -> ConfigError:
    """What stopped a composition. Hydra's grammar lets builtin errors through too, so it can be any."""
    return explained(
        error,
        command=command.words,
        schema=command.settings,
        families=registry.families(),
        choices=choices,
    )


def run_hydra(
    command: Command,
    flags: Mapping[str, str],
    overrides: list[str],
    task: Callable[[DictConfig], float | None],
) -> None:
    """What the flags ask for: a printed config, or one job, for which `task` is called.

    Lets errors of Hydra and of its composition pass as they are.
    """
    app, loader, name = application(command, flags, overrides)
    if "--cfg" in flags:
        app.show_cfg(name, overrides, flags["--cfg"], flags.get("--package"), "--resolve" in flags)
    elif "--info" in flags:
        app.show_info(flags["--info"], config_name=name, overrides=overrides)
    else:
        loader.claims = "hydra.run.dir"
        app.run(name, task, overrides)


def application(
    command: Command, flags: Mapping[str, str], overrides: list[str]
) -> tuple[Hydra, CommandLoader, str]:
    """Hydra, its loader, and the name of the primary config."""
    modes = [one for one in overrides if one.lstrip("+").startswith("hydra.mode=")]
    if modes:
        raise ConfigError(f"{modes[0]}: use the flag -m for a sweep", hint="leave it out")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises instead of printing
    folders = [flags["--config-dir"]] if "--config-dir" in flags else []
    loader = loader_of(command, folders, primary=flags.get("--config-path"))
    app = Hydra(task_name="deeplabx", config_loader=loader)
    return app, loader, flags.get("--config-name", command.key)


class Multirun:
    """What -m asks for: the config that its jobs have in common, and the jobs of a grid.

    Lets errors of Hydra and of its composition pass as they are.
    """

    def __init__(self, command: Command, flags: Mapping[str, str], overrides: list[str]) -> None:
        self.command = command
        app, self.loader, name = application(command, flags, overrides)
        self.config = app.compose_config(
            name, [*overrides, "hydra.mode=MULTIRUN"], run_mode=RunMode.MULTIRUN, with_log_configuration=False
        )
        chosen: Any = self.config.hydra.runtime.choices
        for group, instead in (
            ("launcher", "sweep.jobs or sweep.launcher=slurm"),
            ("sweeper", "sweep.trials"),
        ):
            if chosen.get(f"hydra/{group}") != "basic":
                raise ConfigError(
                    f"hydra/{group}={chosen.get(f'hydra/{group}')} is not supported", hint=f"set {instead}"
                )

    @property
    def task_overrides(self) -> list[str]:
        """Those of the command's own settings, sweeps and those of hydra.sweeper.params included."""
        own: Any = OmegaConf.to_container(self.config.hydra.overrides.task, resolve=False)
        params: Any = OmegaConf.to_container(self.config.hydra.sweeper.params or OmegaConf.create({}))
        return [*(f"{key}={value}" for key, value in params.items()), *map(str, own)]

    @property
    def hydra_overrides(self) -> list[str]:
        """Those of Hydra's own settings, without the folders and the mode of the sweep."""
        own: Any = OmegaConf.to_container(self.config.hydra.overrides.hydra, resolve=False)
        ours = ("hydra.mode", "hydra.sweep.dir", "hydra.sweep.subdir", "hydra.run.dir")
        return [str(one) for one in own if str(one).lstrip("+").partition("=")[0] not in ours]

    def parsed(self) -> list[Override]:
        parser = OverridesParser.create(config_loader=self.loader)
        return parser.parse_overrides(self.task_overrides)

    def grid(self) -> list[list[str]]:
        """The overrides of each job, as Hydra's own sweeper expands them."""
        found = Plugins.instance().discover(Sweeper)
        (basic,) = [one for one in found if one.__name__ == "BasicSweeper"]
        split: Any = basic  # which has it beside what every sweeper has
        (jobs,) = split.split_arguments(self.parsed(), None)
        return jobs

    def job_config(self, number: int, overrides: list[str]) -> DictConfig:
        """The composed config of a job, Hydra's own under `hydra`."""
        config = self.loader.load_sweep_config(self.config, overrides)
        set_value(config, "hydra.job.id", str(number))
        set_value(config, "hydra.job.num", number)
        return config

    def job_folder(self, number: int, overrides: list[str]) -> str:
        """The folder of a job, inside the sweep's."""
        plain: Any = OmegaConf.to_container(self.config.hydra.sweep, resolve=False)
        if plain["subdir"] == "${hydra.job.num}":  # without composing, which takes a while
            return str(number)
        return str(OmegaConf.select(self.job_config(number, overrides), "hydra.sweep.subdir"))

    def claim_folder(self) -> Path:
        """The folder of the sweep; one that a time names is made, as a new one."""
        claim_folder(self.config, "hydra.sweep.dir")
        return Path(str(OmegaConf.select(self.config, "hydra.sweep.dir")))


def complete(command: Command) -> None:
    """Print what can follow the line in the environment's COMP_LINE, as Hydra's completion for bash does; the
    scripts of all shells read that.
    """
    Hydra(task_name="deeplabx", config_loader=loader_of(command)).shell_completion(
        command.key, ["query=bash"]
    )
