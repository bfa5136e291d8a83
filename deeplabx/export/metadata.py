"""What an exported file says of itself, inside it and beside it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deeplabx.backbone.normalization import Normalization
from deeplabx.errors import CheckpointError

VERSION = 1  # of these keys
PREFIX = "deeplabx."  # of the keys in a file, which may have other programs' too


@dataclass(frozen=True)
class Metadata:
    """What a program needs to use an exported file, and where the file comes from.

    preprocess: whether the file takes decoded uint8 images N x H x W x C and normalises them itself; else it
    takes normalised float32 N x C x H x W. output: logits, N x classes x H x W, or ids, N x H x W.
    selected: the channels of an image file that are used; None: red, green and blue. least_size: height and
    width to which smaller images are padded on the right and below with the mean pixel.
    description: the checkpoint's own, from which eval and predict rebuild their settings.
    """

    classes: list[str]
    palette: list[tuple[int, int, int]]
    ignore_index: int
    normalization: Normalization
    preprocess: bool
    output: str
    provenance: dict[str, Any]
    description: dict[str, Any]
    selected: list[int] | None = None
    least_size: tuple[int, int] = (1, 1)

    def to_plain(self) -> dict[str, Any]:
        """JSON-ready, each value of its own meaning: without the description, which is long."""
        channels = len(self.normalization.mean)
        return {
            "version": VERSION,
            "classes": self.classes,
            "palette": [list(colour) for colour in self.palette],
            "ignore_index": self.ignore_index,
            "preprocessing": {
                "inside": self.preprocess,
                "input": f"uint8 N x H x W x {channels}"
                if self.preprocess
                else f"float32 N x {channels} x H x W",
                "channels": self.channel_words(channels),
                "formula": "(pixel - mean) / std, pixels in 0..255",
                "mean": list(self.normalization.mean),
                "std": list(self.normalization.std),
                "pad_pixel": list(self.normalization.pad_pixel),
                "selected": self.selected,
                "least_size": list(self.least_size),
            },
            "output": {
                "name": self.output,
                "shape": "N x H x W" if self.output == "ids" else f"N x {len(self.classes)} x H x W",
                "size": "that of the input",
            },
            "provenance": self.provenance,
        }

    def channel_words(self, channels: int) -> str:
        if self.selected is not None:
            return f"channels {self.selected} of the image file, counted from 0"
        return "RGB" if channels == 3 else f"{channels} channels"

    def to_texts(self) -> dict[str, str]:
        """The same and the description, as texts: what formats can hold."""
        plain = {**self.to_plain(), "description": self.description}
        return {f"{PREFIX}{key}": json.dumps(value) for key, value in plain.items()}

    @classmethod
    def from_texts(cls, texts: dict[str, str], *, source: Path) -> "Metadata":
        """The inverse of `to_texts`. Raises CheckpointError for a file that `deeplabx export` did not
        write.
        """
        own = {key.removeprefix(PREFIX): text for key, text in texts.items() if key.startswith(PREFIX)}
        if not own:
            raise CheckpointError(
                f"{source} does not say its classes and preprocessing: deeplabx export did not write it",
                hint="eval and predict take a run, a checkpoint, or a file that deeplabx export wrote",
            )
        try:
            plain = {key: json.loads(text) for key, text in own.items()}
            if plain["version"] != VERSION:
                raise CheckpointError(
                    f"{source} has metadata version {plain['version']}, this deeplabx reads {VERSION}"
                )
            preprocessing, output = plain["preprocessing"], plain["output"]["name"]
            if output not in ("logits", "ids") or not isinstance(preprocessing["inside"], bool):
                raise ValueError("input or output is unknown")
            return cls(
                classes=[str(name) for name in plain["classes"]],
                palette=[(colour[0], colour[1], colour[2]) for colour in plain["palette"]],
                ignore_index=int(plain["ignore_index"]),
                normalization=Normalization(tuple(preprocessing["mean"]), tuple(preprocessing["std"])),
                preprocess=preprocessing["inside"],
                output=output,
                provenance=dict(plain["provenance"]),
                description=dict(plain["description"]),
                selected=preprocessing["selected"],
                least_size=(preprocessing["least_size"][0], preprocessing["least_size"][1]),
            )
        except (KeyError, TypeError, ValueError, IndexError, RecursionError) as error:
            raise CheckpointError(f"{source}: its metadata cannot be read: {error!r}") from None
