"""model_card.md: what a person who is handed an exported model needs to know of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from deeplabx.engine.metrics import Metrics


class Origin(NamedTuple):
    """What went into a model: code, weights that it started from, or images that it was trained on.

    restricted: why commercial use is excluded or unclear; empty where nothing restricts it.
    """

    part: str
    name: str
    licence: str
    restricted: str = ""


class ExportedFile(NamedTuple):
    name: str
    size: int  # in bytes
    sha256: str


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """metrics: of each exported file, by its name; none where no data set was there to measure them on.
    measured_on: the split and the data set. environment and commands: of the training and the export.
    """

    title: str
    description: str
    classes: Sequence[str]
    preprocessing: dict[str, Any]
    output: dict[str, Any]
    files: Sequence[ExportedFile]
    origins: Sequence[Origin]
    metrics: dict[str, Metrics]
    measured_on: str
    environment: dict[str, Any]
    commands: Sequence[str]

    def __str__(self) -> str:
        sections = {
            "Classes": [", ".join(f"{index} {name}" for index, name in enumerate(self.classes))],
            "Input and output": self.interface(),
            "Metrics": self.figures(),
            "Licences": self.licences(),
            "Files": table(["file", "bytes", "sha256"], [[*map(str, file)] for file in self.files]),
            "How it was made": ["```", *self.commands, "```"],
            "Environment": table(
                ["", "version or value"],
                [[name, str(value)] for name, value in self.environment.items() if value not in (None, [])],
            ),
            "Limits": [
                ("Measured on the images named above, and on no others. " if self.metrics else "")
                + "Before it is used where a wrong class does harm, measure it on images of that use: "
                "`deeplabx eval FILE dataset.root=PATH`.",
            ],
        }
        lines = [f"# {self.title}", "", self.description, ""]
        for heading, content in sections.items():
            lines += [f"## {heading}", "", *content, ""]
        return "\n".join(lines)

    def interface(self) -> list[str]:
        about = self.preprocessing
        own = "The file normalises" if about["inside"] else "The program that calls it must normalise"
        least = about["least_size"]
        return [
            f"- Input: {about['input']}, {about['channels']}; any height, width and batch.",
            f"- {own} the image: {about['formula']}; mean {about['mean']}, std {about['std']}.",
            *(
                [
                    f"- Smaller images are padded to {least[0]} x {least[1]} on the right and below with the "
                    f"pixel {about['pad_pixel']}, and the output is cut back."
                ]
                if tuple(least) != (1, 1)
                else []
            ),
            f"- Output: {self.output['name']}, {self.output['shape']}, of the input's size.",
        ]

    def figures(self) -> list[str]:
        if not self.metrics:
            return ["Not measured: the export had no data set to measure it on."]
        first = next(iter(self.metrics.values()))
        return [
            f"On {self.measured_on}, {first.images} images: one confusion matrix over the split, at the "
            "labels' size.",
            "",
            *table(
                ["file", "mIoU", "pixel accuracy", "sha256 of the confusion matrix"],
                [
                    [name, f"{one.miou:.4f}", f"{one.pixel_accuracy:.4f}", one.confusion_sha256]
                    for name, one in self.metrics.items()
                ],
            ),
            "",
            *table(
                ["IoU of the class", *self.metrics],
                [
                    [name, *(iou_words(one.per_class_iou[name]) for one in self.metrics.values())]
                    for name in first.per_class_iou
                ],
            ),
        ]

    def licences(self) -> list[str]:
        rows = [[one.part, one.name, one.licence, one.restricted or "-"] for one in self.origins]
        restricted = [one for one in self.origins if one.restricted]
        words = (
            f"**Commercial use is restricted or unclear for {len(restricted)} of {len(rows)} parts:** "
            f"{'; '.join(dict.fromkeys(one.restricted for one in restricted))}."
            if restricted
            else "No part restricts commercial use."
        )
        return [
            words,
            "This lists what deeplabx knows; it is no legal advice.",
            "",
            *table(["part", "what", "licence", "restriction"], rows),
        ]


def iou_words(iou: float | None) -> str:
    return "absent" if iou is None else f"{iou:.4f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table. A bar or a line break in a cell would end it."""
    cells = [[" ".join(cell.replace("|", "\\|").split()) for cell in row] for row in [head, *rows]]
    return [f"| {' | '.join(row)} |" for row in [cells[0], ["---"] * len(head), *cells[1:]]]
