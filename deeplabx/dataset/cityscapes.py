"""Cityscapes: street scenes, 2048 x 1024; 19 of its labels are classes."""

from pathlib import Path
from typing import NamedTuple

from deeplabx.dataset.contract import IGNORE_INDEX, Colour
from deeplabx.dataset.files import LabelledFiles, Pairs, complete, root_folder, root_hint
from deeplabx.dataset.labels import LabelMap
from deeplabx.dataset.listing import Found, Names, contents, images_in
from deeplabx.errors import DataError, printable


class Label(NamedTuple):
    """A class and its id in the labelIds files; its train id is its index in CLASS_TABLE."""

    name: str
    label_id: int
    colour: Colour


CLASS_TABLE = (
    Label("road", 7, (128, 64, 128)),
    Label("sidewalk", 8, (244, 35, 232)),
    Label("building", 11, (70, 70, 70)),
    Label("wall", 12, (102, 102, 156)),
    Label("fence", 13, (190, 153, 153)),
    Label("pole", 17, (153, 153, 153)),
    Label("traffic light", 19, (250, 170, 30)),
    Label("traffic sign", 20, (220, 220, 0)),
    Label("vegetation", 21, (107, 142, 35)),
    Label("terrain", 22, (152, 251, 152)),
    Label("sky", 23, (70, 130, 180)),
    Label("person", 24, (220, 20, 60)),
    Label("rider", 25, (255, 0, 0)),
    Label("car", 26, (0, 0, 142)),
    Label("truck", 27, (0, 0, 70)),
    Label("bus", 28, (0, 60, 100)),
    Label("train", 31, (0, 80, 100)),
    Label("motorcycle", 32, (0, 0, 230)),
    Label("bicycle", 33, (119, 11, 32)),
)
LABEL_IDS = range(34)  # those not in CLASS_TABLE are void
MINUS_ONE = 255  # the license plate's id -1, as 8 bits store it

FROM_LABEL_IDS = {
    **dict.fromkeys([*LABEL_IDS, MINUS_ONE], IGNORE_INDEX),
    **{label.label_id: train_id for train_id, label in enumerate(CLASS_TABLE)},
}
FROM_TRAIN_IDS = {**{train_id: train_id for train_id in range(len(CLASS_TABLE))}, IGNORE_INDEX: IGNORE_INDEX}
SUFFIXES = {"labelIds": FROM_LABEL_IDS, "labelTrainIds": FROM_TRAIN_IDS}

# split → (kind of annotation, folder), one or several
SPLITS = {
    "train": [("gtFine", "train")],
    "val": [("gtFine", "val")],
    "trainval": [("gtFine", "train"), ("gtFine", "val")],
    "train_coarse": [("gtCoarse", "train")],
    "train_extra": [("gtCoarse", "train_extra")],
    "val_coarse": [("gtCoarse", "val")],
}
IMAGE_ENDING = "_leftImg8bit.png"
HOW_TO_GET = (
    "download leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip from cityscapes-dataset.com, "
    "then set dataset.root=PATH"
)


class Cityscapes(LabelledFiles):
    """`root` holds leftImg8bit and gtFine (or gtCoarse, for the coarse splits); only the requested split must
    exist.
    """

    classes = [label.name for label in CLASS_TABLE]
    palette = [label.colour for label in CLASS_TABLE]
    group_pattern = r"([^/]+_\d{6})_\d{6}_[^/]*$"  # city and sequence

    def __init__(self, *, root: str | None, split: str) -> None:
        base = root_folder(root, name="cityscapes", how_to_get=HOW_TO_GET)
        if split not in SPLITS:
            hint = (
                "its labels are not public: deeplabx predict input=ROOT/leftImg8bit/test"
                if split == "test"
                else ""
            )
            raise DataError(
                f"dataset split {split} is not a split of Cityscapes: {', '.join(SPLITS)}", hint=hint
            )
        parts = [(kind, frames_of(base, kind, part)) for kind, part in SPLITS[split]]
        frames = [(kind, frame) for kind, found in parts for frame in found.paths]
        names = Names()
        labels = {
            suffix: [names.path(base, label_of(base, kind, frame, suffix)) for kind, frame in frames]
            for suffix in SUFFIXES
        }
        suffix = next(
            (suffix for suffix in SUFFIXES if all(label.is_file() for label in labels[suffix])), "labelIds"
        )
        pairs: Pairs = [(frame, label) for (_, frame), label in zip(frames, labels[suffix], strict=True)]
        pairs = complete(pairs, where=f"{base}, split {split}", hint=HOW_TO_GET)
        super().__init__(pairs, label_map=LabelMap(SUFFIXES[suffix]))
        self.left_out = [words for _, found in parts for words in found.left_out]


def frames_of(base: Path, kind: str, part: str) -> Found:
    """The frames of a folder. Images with another ending are left out, and counted."""
    images, labels = base / "leftImg8bit" / part, base / kind / part
    for folder in (images, labels):
        if not folder.is_dir():
            raise DataError(
                f"dataset.root={base} must contain leftImg8bit/{part}/ and {kind}/{part}/, but "
                f"{contents(base)}",
                hint=root_hint(
                    base,
                    lambda path: (path / "leftImg8bit" / part).is_dir() and (path / kind / part).is_dir(),
                    how_to_get=HOW_TO_GET,
                ),
            )
    found = images_in(images)
    others = [path for path in found.paths if not path.name.endswith(IMAGE_ENDING)]
    if not others:
        return found
    words = (
        f"left out of {images}: {len(others)} images not named *{IMAGE_ENDING}, the first: {others[0].name}"
    )
    return found._replace(
        paths=[path for path in found.paths if path.name.endswith(IMAGE_ENDING)],
        left_out=[*found.left_out, printable(words)],
    )


def label_of(base: Path, kind: str, frame: Path, suffix: str) -> Path:
    """leftImg8bit/val/city/city_seq_frame_leftImg8bit.png →
    gtFine/val/city/city_seq_frame_gtFine_labelIds.png, below `base`.
    """
    city = frame.parent.relative_to(base / "leftImg8bit")
    return Path(kind) / city / f"{frame.name.removesuffix(IMAGE_ENDING)}_{kind}_{suffix}.png"
