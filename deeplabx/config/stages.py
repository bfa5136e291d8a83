"""The stages of a run: a whole config of each, made of the run's own and of the settings that differ in it.

    stages: {first: {}, second: {backbone: {output_stride: 8}, optimizer: {lr: 0.001}}}

What the command line sets for the run counts in every stage; `stages.second.optimizer.lr=0.002` in one.
"""

import contextlib
import copy
import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from deeplabx.config import schema
from deeplabx.config.fields import setting_type, type_words, walk
from deeplabx.config.paths import expanded_paths
from deeplabx.config.stored import is_small
from deeplabx.config.unknown import meant
from deeplabx.errors import ConfigError, DeeplabxError, nearest, quoted

KEY = "stages"
NAME = re.compile(r"[A-Za-z]\w{0,39}")
MOST = 50
LENGTHS = ("schedule.max_iters", "trainer.epochs")  # of which one says how long a stage is
OF_THE_RUN = ("resume", "accept_changed_images", "trainer.devices", "trainer.backend", KEY)
LAST, BEST = "last", "best"  # values of a stage's init_from: the checkpoint of the stage before


@dataclass(frozen=True)
class Stage:
    """One stage. config: whole, as of a run of its own; init_from is unset after the first stage. changes: by
    dotted key, what the stage says. start: which checkpoint of the stage before it starts from. implied: what
    of the run does not count in this stage, with the value that does.
    """

    name: str
    config: schema.TrainConfig
    changes: Mapping[str, Any]
    start: str = LAST
    implied: Mapping[str, Any] = field(default_factory=dict)

    @property
    def differing(self) -> dict[str, Any]:
        """All in which it differs from the run."""
        return {**self.changes, **self.implied}


@contextlib.contextmanager
def named(stage: str) -> Iterator[None]:
    """Have errors name the stage."""
    try:
        yield
    except DeeplabxError as error:
        error.message = f"stage {stage}: {error.message}"
        raise


def stages_of(config: schema.TrainConfig) -> list[Stage]:
    """The stages of a run, in their order; none for a run that has none. Their values are of the right type,
    but not yet checked.

    Raises ConfigError for a name that is none, and for what a stage cannot set.
    """
    tables = config.stages or {}
    if not is_small(tables) or len(tables) > MOST:
        raise ConfigError(
            f"{KEY} holds too many values", hint=f"at most {MOST} stages, a few settings in each"
        )
    found: list[Stage] = []
    for name, table in tables.items():
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise ConfigError(
                f"{KEY}: {quoted(name)} is not a name",
                hint="a letter, then at most 39 letters, digits and _: it becomes a folder",
            )
        found.append(stage_of(config, name, table, first=not found))
    return found


def stage_of(config: schema.TrainConfig, name: str, table: Any, *, first: bool) -> Stage:
    key = f"{KEY}.{name}"
    if not isinstance(table, dict | None):
        raise ConfigError(
            f"{key}={quoted(table)} is not a table of settings",
            hint=f"as in {key}.optimizer.lr=0.001; a stage without a change is {{}}",
        )
    known = {one: field for one, _, field in walk(config)}
    changes = {
        one: value
        for one, value in leaves(table or {}, known=known)
        if not (one == "schedule.max_iters" and value is None)  # as `with_command_line` unsets it
    }
    for one, value in changes.items():
        refuse_unsettable(key, one, value, config=config, known=known)
    if all(changes.get(one) is not None for one in LENGTHS):
        raise ConfigError(f"{key} has both {' and '.join(LENGTHS)}", hint="set only one of them")
    start = LAST
    whole = copy.deepcopy(config)
    whole.stages = None
    if not first:
        start, whole.init_from = changes.get("init_from", LAST), None
        if start not in (LAST, BEST):
            raise ConfigError(
                f"{key}.init_from={quoted(start)} is not one of {LAST}, {BEST}: the checkpoint of the stage "
                "before that it starts from",
                hint="only the first stage can start from other weights",
            )
    implied = implied_by(changes, config, first=first)
    values = {one: value for one, value in changes.items() if first or one != "init_from"} | implied
    if changes.get("schedule.max_iters") is not None:
        values["trainer.epochs"] = None  # of the run, which this stage's own length replaces
    return Stage(name, replaced(whole, values, key=key, known=known), changes, start, implied)


def implied_by(changes: Mapping[str, Any], config: schema.TrainConfig, *, first: bool) -> dict[str, Any]:
    """What of the run does not count in a stage that does not set it itself: unfolding after the first stage,
    because the weights that it is meant for are the run's initial ones; and the search for a learning rate
    where the stage sets one.
    """
    implied: dict[str, Any] = {}
    if not first and config.trainer.unfold_norm is not None:
        implied["trainer.unfold_norm"] = None
    if config.trainer.find_lr and "optimizer.lr" in changes:
        implied["trainer.find_lr"] = False
    return {key: value for key, value in implied.items() if key not in changes}


def leaves(
    table: Mapping[Any, Any], *, known: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """Every (dotted key, value) of a table. A table that is the value of a setting is one."""
    for name, value in table.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict) and key not in known:
            yield from leaves(value, known=known, prefix=f"{key}.")
        else:
            yield key, value


def refuse_unsettable(
    stage: str, key: str, value: Any, *, config: schema.TrainConfig, known: Mapping[str, Any]
) -> None:
    """Raise ConfigError unless a stage can set this."""
    if key in OF_THE_RUN:
        raise ConfigError(f"{stage}.{key} belongs to the whole run", hint=f"set {key}= without the stage")
    owner, _, last = key.rpartition(".")
    group = owner if last == "name" and owner else key
    if (key not in known and dataclasses.is_dataclass(getattr(config, key, None))) or group != key:
        raise ConfigError(
            f"{stage}.{group}={quoted(value)}: a stage changes settings, not options",
            hint="train with another option in a run of its own, with init_from=RUN",
        )
    if key not in known:
        raise ConfigError(f"{stage}.{key} is not a setting.{meant(key, list(known))}")
    if has_interpolation(value):
        raise ConfigError(f"{stage}.{key}={quoted(value)} is not a value", hint="give the value itself")


def has_interpolation(value: Any) -> bool:
    """Whether OmegaConf would look something up for a value that was read from a file."""
    if isinstance(value, dict | list):
        return any(map(has_interpolation, value.values() if isinstance(value, dict) else value))
    return isinstance(value, str) and "${" in value


def replaced(
    config: schema.TrainConfig, values: Mapping[str, Any], *, key: str, known: Mapping[str, Any]
) -> schema.TrainConfig:
    """`config` with these values, of the types that its settings have. key: of the stage."""
    whole = OmegaConf.structured(config)
    families = {one.name: [type(getattr(config, one.name))] for one in dataclasses.fields(config)}
    for name, value in values.items():
        own = expanded_paths(name, value) if known[name].metadata.get("path") else value
        try:
            OmegaConf.update(whole, name, own, merge=False)
        except (OmegaConfBaseException, ValueError, OverflowError):
            words = type_words(
                setting_type(schema.TrainConfig, name, families), known[name].metadata.get("options", ())
            )
            raise ConfigError(f"{key}.{name}={quoted(value)} must be {words}") from None
    made: Any = OmegaConf.to_object(whole)
    return made


# --- the command line ---------------------------------------------------------------------------------------


def keys_of(overrides: Sequence[str]) -> set[str]:
    return {one.lstrip("+~").partition("=")[0] for one in overrides}


def is_set_for(overrides: Sequence[str], stage: str, key: str) -> bool:
    """Whether the command line sets a setting of this stage."""
    own = f"{KEY}.{stage}.{key}"
    return any(own == one or own.startswith(f"{one}.") for one in keys_of(overrides))


def is_set_for_all(overrides: Sequence[str], stage: str, key: str) -> bool:
    """Whether the command line sets a setting for the whole run, and not for this stage."""
    return key in keys_of(overrides) and not is_set_for(overrides, stage, key)


def refuse_unknown_stage(overrides: Sequence[str], of_recipe: Mapping[str, Any] | None) -> None:
    """Raise ConfigError for a stage of the command line that the recipe's own stages do not have. A plus adds
    one, as in +stages.third.seed=1; without stages in a recipe, any name does.
    """
    for one in overrides:
        if of_recipe and (found := re.match(r"\+\+stages\.(\w+)[.=]", one)) and found[1] not in of_recipe:
            raise ConfigError(
                f"stages.{found[1]} is not a stage of the recipe.{nearest(found[1], of_recipe)}",
                hint=f"it has {', '.join(of_recipe)}; a plus adds one: {one.removeprefix('+')[:100]}",
            )


def with_command_line(
    tables: Mapping[str, Any], config: Mapping[str, Any], overrides: Sequence[str]
) -> dict[str, Any]:
    """`tables`, the stages of a composed config, with what the command line sets for the whole run in place
    of what a recipe sets in a stage. config: composed, with its interpolations.
    """
    found = copy.deepcopy(dict(tables))
    for name, table in found.items():
        if not isinstance(table, dict):
            continue  # which is refused later
        for key in [one for one, _ in leaves(table, known={})]:
            if is_set_for_all(overrides, name, key):
                put(table, key, inside(config, key))
        for key, other in (LENGTHS, LENGTHS[::-1]):  # a length in steps replaces one in epochs
            if (
                is_set_for_all(overrides, name, key)
                and inside(config, key) is not None
                and inside(table, other) is not None
                and not is_set_for(overrides, name, other)
            ):
                put(table, other, None)
                put(table, key, inside(config, key))
    return found


def inside(table: Any, key: str) -> Any:
    """The value of a dotted key; None where there is none."""
    for part in key.split("."):
        table = table.get(part) if isinstance(table, Mapping) else None
    return table


def put(table: dict[str, Any], key: str, value: Any) -> None:
    *owners, last = key.split(".")
    for owner in owners:
        table = table.setdefault(owner, {})
    table[last] = value
