"""The parts of a composite loss: each is a table with the name of another loss, its weight in the sum and its
settings, which are checked as those of a single loss are. Without torch.
"""

import dataclasses
import types
import typing
from collections.abc import Callable
from typing import Any, NamedTuple

from deeplabx.config import schema
from deeplabx.config.checks import check_value
from deeplabx.config.fields import MISSING
from deeplabx.config.stored import SettingsOf, typed
from deeplabx.errors import ConfigError, nearest, quoted

MOST_PARTS = 20
WEIGHT = schema.LossPartSettings.__dataclass_fields__["weight"]  # whose range is checked
EXAMPLE = "'loss.parts=[{name: cross_entropy}, {name: lovasz, weight: 0.5}]'"


class Part(NamedTuple):
    """One loss of a sum."""

    weight: float
    settings: schema.LossSettings

    def to_plain(self) -> dict[str, Any]:
        """The table it is read from, with every setting."""
        return {
            "name": self.settings.name,
            "weight": self.weight,
            **{key: value for key, value in dataclasses.asdict(self.settings).items() if key != "name"},
        }


def completed(loss: schema.LossSettings, *, settings_of: SettingsOf) -> schema.LossSettings:
    """A composite loss with every setting of its parts, so that a stored config says all; any other as it is.
    Raises ConfigError naming the part.
    """
    if not isinstance(loss, schema.CompositeSettings):
        return loss
    parts = [one.to_plain() for one in parts_of(loss, settings_of=settings_of)]
    return dataclasses.replace(loss, parts=parts)


def parts_of(loss: schema.LossSettings, *, settings_of: SettingsOf) -> list[Part]:
    """The parts of a composite loss; of any other loss, none. Raises ConfigError naming the part."""
    if not isinstance(loss, schema.CompositeSettings):
        return []
    if not loss.parts:
        raise ConfigError("loss.parts=[] is empty", hint=f"as in {EXAMPLE}")
    if len(loss.parts) > MOST_PARTS:
        raise ConfigError(f"loss.parts has {len(loss.parts)} parts; there must be at most {MOST_PARTS}")
    return [
        part_of(plain, key=key_of(loss, index), settings_of=settings_of)
        for index, plain in enumerate(loss.parts)
    ]


def key_of(loss: schema.LossSettings, index: int) -> str:
    """The dotted key of a part of a loss; of any loss but a composite one, its own."""
    return f"loss.parts[{index}]" if isinstance(loss, schema.CompositeSettings) else "loss"


def changed(
    loss: schema.LossSettings,
    change: Callable[[schema.LossSettings], schema.LossSettings],
    *,
    settings_of: SettingsOf,
) -> schema.LossSettings:
    """A loss after `change`; of a composite one, each of its parts."""
    if not isinstance(loss, schema.CompositeSettings):
        return change(loss)
    parts = [Part(weight, change(one)).to_plain() for weight, one in parts_of(loss, settings_of=settings_of)]
    return dataclasses.replace(loss, parts=parts)


def part_of(plain: Any, *, key: str, settings_of: SettingsOf) -> Part:
    """What a table says. key: of the part, for messages. Raises ConfigError."""
    name = plain.get("name") if isinstance(plain, dict) else None
    if not isinstance(name, str):
        raise ConfigError(f"{key} has no name of a loss", hint=f"as in {EXAMPLE}")
    try:
        settings: Any = settings_of("loss", name)
    except ConfigError as error:
        raise ConfigError(f"{key}.name={quoted(name)}: {error.message}", hint=error.hint) from None
    if issubclass(settings, schema.CompositeSettings):
        raise ConfigError(
            f"{key}.name={name}: a composite loss cannot be a part of another one",
            hint="list its parts beside the others",
        )
    hints = {one: hint for one, hint in typing.get_type_hints(settings).items() if one != "name"}
    if "weight" in hints:
        raise ConfigError(
            f"{key}: loss={name} has a setting of its own that is called weight, as that of a part is",
            hint="give it another name",
        )
    for one in plain:
        if one not in ("name", "weight", *hints):
            known = ["weight", *hints]
            raise ConfigError(
                f"{key}.{one!s:.60} is not a setting of loss={name}.{nearest(str(one), known)}",
                hint=f"a part with this loss has name, {', '.join(known)}",
            )
    weight = typed(plain.get("weight", 1.0), float, key=f"{key}.weight")
    check_value(f"{key}.weight", weight, WEIGHT)
    given = {one: hint for one, hint in hints.items() if one in plain}
    values = {
        one: with_floats(typed(plain[one], hint, key=f"{key}.{one}"), hint) for one, hint in given.items()
    }
    found: Any = settings(name=name, **values)
    for field in dataclasses.fields(found):
        value = getattr(found, field.name)
        if value == MISSING:
            raise ConfigError(f"{key}.{field.name} must be given")
        check_value(f"{key}.{field.name}", value, field)
    return Part(weight, found)


def with_floats(value: Any, hint: Any) -> Any:
    """A value that fits `hint`, with whole numbers as floats where the type asks for floats."""
    kinds = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    if isinstance(value, list) and list[float] in kinds:
        return [float(element) for element in value]
    return float(value) if type(value) is int and float in kinds and int not in kinds else value
