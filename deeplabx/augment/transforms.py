"""Transforms of albumentations from their descriptions in a config: each a dictionary with its `name` and
arguments. Only names of the catalogue are built, and every argument is checked.
"""

import inspect
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import cv2

from deeplabx.augment.catalogue import (
    ALLOWED,
    ALWAYS,
    COMPOSITIONS,
    EXACT_NEAREST,
    MOST,
    MOST_NUMBER,
    NO_ARGUMENT,
    REFUSED,
)
from deeplabx.errors import ConfigError, nearest, printable

MOST_DEPTH = 5  # of transforms inside transforms
KEY = "augment.transforms"
# OpenCV's constants, which a config may name instead of giving their numbers.
CONSTANTS = {
    name: int(getattr(cv2, name))
    for name in (
        *("INTER_NEAREST", "INTER_LINEAR", "INTER_CUBIC", "INTER_AREA", "INTER_LANCZOS4"),
        *("INTER_LINEAR_EXACT", "INTER_NEAREST_EXACT"),
        *("BORDER_CONSTANT", "BORDER_REPLICATE", "BORDER_REFLECT", "BORDER_WRAP", "BORDER_REFLECT_101"),
    )
}
OF_OPENCV = ("interpolation", "border_mode")  # arguments that are such constants


def library() -> ModuleType:
    """albumentations: importing it takes more than a second, so it is imported by who uses it. It would ask
    the network for its newest version each time.
    """
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    import albumentations

    return albumentations


@dataclass(frozen=True)
class Builder:
    """Builds transforms for images that are filled with `pad_pixel` and labels that are filled with
    `ignore_index`, where a transform leaves pixels empty.
    """

    pad_pixel: tuple[int, ...]
    ignore_index: int

    def composed(self, transforms: Sequence[Mapping[str, Any]]) -> Any:
        """A Compose of all. Raises ConfigError naming the transform and the argument that are wrong."""
        found = self.built(transforms, KEY, depth=0)
        return library().Compose(found, strict=True)

    def built(self, transforms: Any, where: str, *, depth: int) -> list[Any]:
        if not isinstance(transforms, list) or not transforms:
            raise ConfigError(f"{where} must be a list of transforms", hint=f"as in '{KEY}={EXAMPLE}'")
        if depth > MOST_DEPTH:
            raise ConfigError(f"{where} is nested deeper than {MOST_DEPTH} times")
        return [self.one(entry, f"{where}[{number}]", depth=depth) for number, entry in enumerate(transforms)]

    def one(self, entry: Any, where: str, *, depth: int) -> Any:
        if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
            raise ConfigError(f"{where}={entry!r:.60} has no name", hint=f"as in '{KEY}={EXAMPLE}'")
        name = entry["name"]
        arguments = {key: value for key, value in entry.items() if key != "name"}
        where = f"{where} {name}"
        if name in COMPOSITIONS:
            inside = self.built(arguments.pop("transforms", None), f"{where}.transforms", depth=depth + 1)
            refuse_unknown(where, arguments, COMPOSITIONS[name])
            refuse_bad_composition(where, arguments, len(inside))
            return made(where, getattr(library(), name), inside, **arguments)
        if name in REFUSED:
            raise ConfigError(f"{where} cannot be used: {REFUSED[name]}")
        if name not in ALLOWED:
            raise ConfigError(
                f"{where} is not a transform.{nearest(name, [*ALLOWED, *COMPOSITIONS])}",
                hint="docs/augmentation.md lists them; names are spelled as in albumentations 2.0.8",
            )
        kind = getattr(library(), name)
        known = [one for one in inspect.signature(kind.__init__).parameters if one != "self"]
        refuse_unknown(where, arguments, known)
        return made(where, kind, **self.safe(where, name, arguments, known))

    def safe(self, where: str, name: str, given: dict[str, Any], known: Sequence[str]) -> dict[str, Any]:
        """The arguments, checked, and with those that keep labels right."""
        arguments = {key: plain(f"{where}.{key}", key, value) for key, value in given.items()}
        for key in arguments.keys() & NO_ARGUMENT.keys():
            raise ConfigError(f"{where}.{key} cannot be set: {NO_ARGUMENT[key]}", hint="leave it out")
        if arguments.get("area_for_downscale") == "image_mask":
            raise ConfigError(f"{where}.area_for_downscale=image_mask: {LABELS}", hint="set it to image")
        for key, value in ALWAYS.get(name, {}).items():
            if arguments.setdefault(key, value) != value:
                raise ConfigError(
                    f"{where}.{key}={printable(str(given[key]), 60)} would move the image, but not its label",
                    hint=f"leave it out: it is {value}",
                )
        for key in ("fill_mask", "mask_drop_value"):
            self.refuse_class(f"{where}.{key}", arguments.get(key))
        if "fill_mask" in known:
            arguments.setdefault("fill_mask", self.ignore_index)
            # MaskDropout takes one value for all channels; so does OpenCV's padding of more than four.
            one_value = name == "MaskDropout" or ("border_mode" in known and len(self.pad_pixel) > 4)
            if "fill" in known and not one_value:
                arguments.setdefault("fill", tuple(float(value) for value in self.pad_pixel))
        if name in EXACT_NEAREST:
            arguments["mask_interpolation"] = cv2.INTER_NEAREST_EXACT
            if arguments.get("interpolation") == cv2.INTER_NEAREST:
                arguments["interpolation"] = cv2.INTER_NEAREST_EXACT
        if name == "CropNonEmptyMaskIfExists":
            arguments.setdefault("ignore_values", [self.ignore_index])
        if name == "ToGray":
            arguments.setdefault("num_output_channels", len(self.pad_pixel))
        return arguments

    def refuse_class(self, where: str, value: Any) -> None:
        """Raise ConfigError for a fill of labels that would say a class is there: the rest is ignored, or
        stays as it is (null).
        """
        if value is not None and value != self.ignore_index:
            raise ConfigError(
                f"{where}={printable(str(value), 60)} would label pixels that show nothing",
                hint=f"leave it out: they get the ignore index, {self.ignore_index}",
            )


EXAMPLE = "[{name: HorizontalFlip, p: 0.5}]"
LABELS = "it would average labels, which are not numbers"


def refuse_unknown(where: str, arguments: Mapping[str, Any], known: Sequence[str]) -> None:
    for key in arguments:
        if key not in known:
            raise ConfigError(
                f"{where} has no argument {key!s:.60}.{nearest(str(key), known)}",
                hint=f"it has {', '.join(known)}",
            )


def refuse_bad_composition(where: str, arguments: dict[str, Any], inside: int) -> None:
    """The library does not check these."""
    p, n, replace = arguments.get("p", 1), arguments.get("n", 1), arguments.get("replace", False)
    if isinstance(p, bool) or not isinstance(p, int | float) or not 0 <= p <= 1:
        raise ConfigError(f"{where}.p={p} must be a probability, at least 0 and at most 1")
    if not isinstance(replace, bool):
        raise ConfigError(f"{where}.replace={replace} must be true or false")
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= (100 if replace else inside):
        raise ConfigError(f"{where}.n={n} must be a whole number from 1 to {100 if replace else inside}")


def plain(where: str, key: str, value: Any) -> Any:
    """An argument as the library takes it: tuples for lists, OpenCV's numbers for its names."""
    if isinstance(value, Mapping):
        return {
            name: plain(f"{where}.{printable(str(name), 60)}", str(name), part)
            for name, part in value.items()
        }
    if isinstance(value, list):
        return tuple(plain(where, key, part) for part in value)
    if isinstance(value, str) and key in OF_OPENCV:
        name = value.removeprefix("cv2.")
        if name not in CONSTANTS:
            raise ConfigError(
                f"{where}={printable(value, 60)} is not a constant of OpenCV.{nearest(name, CONSTANTS)}",
                hint=f"it can be {', '.join(CONSTANTS)}",
            )
        return CONSTANTS[name]
    if isinstance(value, int | float) and not isinstance(value, bool):
        most = MOST.get(key, MOST_NUMBER)
        if not abs(value) <= most:  # also of nan
            raise ConfigError(f"{where}={value} is out of range: it must be at most {most:g}")
    return value


def made(where: str, kind: type, *arguments: Any, **named: Any) -> Any:
    """A transform, with the library's complaint as ConfigError. It answers some wrong values with a warning,
    and takes its defaults instead of all values.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings(
                "ignore", message=".*special case of Affine"
            )  # ShiftScaleRotate works too
            warnings.filterwarnings("default", message=".*very slow")
            return kind(*arguments, **named)
    except (ValueError, TypeError, AttributeError, ArithmeticError, Warning) as error:
        raise ConfigError(f"{where}: {complaint(error)}") from None


def complaint(error: Exception) -> str:
    """An error of albumentations or pydantic, in one line; its type where it says nothing, as MemoryError
    may.
    """
    errors = getattr(error.__cause__, "errors", None)  # pydantic's, which the library wraps
    if errors is None:
        return " ".join(str(error).split())[:200] or type(error).__name__
    found = []
    for one in errors()[:2]:
        name = printable("".join(str(part) for part in one["loc"][:1]), 60)
        given = "" if one["type"] == "missing" or not name else f"={printable(str(one['input']), 60)}"
        found.append(f"{name}{given}: {' '.join(one['msg'].split())[:120]}")
    return "; ".join(dict.fromkeys(found))


def parts_of(composed: Any) -> Iterator[Any]:
    """A composition and every transform below it, in the order of the config."""
    yield composed
    if is_composition(composed):
        for one in composed.transforms:
            yield from parts_of(one)


def is_composition(part: Any) -> bool:
    return isinstance(part, library().BaseCompose)  # some transforms have an attribute `transforms` too
