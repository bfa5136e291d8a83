"""COCO-Stuff: all 164K images of COCO 2017, or the 10K that were labelled first; 80 things and 91 stuff
classes.
"""

from pathlib import Path

from deeplabx.dataset.contract import IGNORE_INDEX
from deeplabx.dataset.files import LabelledFiles, Pairs, complete, root_folder, root_hint
from deeplabx.dataset.image_file import header_of
from deeplabx.dataset.image_header import Header
from deeplabx.dataset.label_file import RawLabel
from deeplabx.dataset.labels import LabelMap, voc_palette
from deeplabx.dataset.listing import Names, contents, images_in, listed_names, nfc, refuse_two_of_a_name
from deeplabx.dataset.mat_file import matrix_of
from deeplabx.errors import DataError

# Ids 1 to 182 of labels.txt, in order.
NAMES = (
    "person",
    "bicycle",
    "car",
    "motorcycle",
    "airplane",
    "bus",
    "train",
    "truck",
    "boat",
    "traffic light",
    "fire hydrant",
    "street sign",
    "stop sign",
    "parking meter",
    "bench",
    "bird",
    "cat",
    "dog",
    "horse",
    "sheep",
    "cow",
    "elephant",
    "bear",
    "zebra",
    "giraffe",
    "hat",
    "backpack",
    "umbrella",
    "shoe",
    "eye glasses",
    "handbag",
    "tie",
    "suitcase",
    "frisbee",
    "skis",
    "snowboard",
    "sports ball",
    "kite",
    "baseball bat",
    "baseball glove",
    "skateboard",
    "surfboard",
    "tennis racket",
    "bottle",
    "plate",
    "wine glass",
    "cup",
    "fork",
    "knife",
    "spoon",
    "bowl",
    "banana",
    "apple",
    "sandwich",
    "orange",
    "broccoli",
    "carrot",
    "hot dog",
    "pizza",
    "donut",
    "cake",
    "chair",
    "couch",
    "potted plant",
    "bed",
    "mirror",
    "dining table",
    "window",
    "desk",
    "toilet",
    "door",
    "tv",
    "laptop",
    "mouse",
    "remote",
    "keyboard",
    "cell phone",
    "microwave",
    "oven",
    "toaster",
    "sink",
    "refrigerator",
    "blender",
    "book",
    "clock",
    "vase",
    "scissors",
    "teddy bear",
    "hair drier",
    "toothbrush",
    "hair brush",
    "banner",
    "blanket",
    "branch",
    "bridge",
    "building-other",
    "bush",
    "cabinet",
    "cage",
    "cardboard",
    "carpet",
    "ceiling-other",
    "ceiling-tile",
    "cloth",
    "clothes",
    "clouds",
    "counter",
    "cupboard",
    "curtain",
    "desk-stuff",
    "dirt",
    "door-stuff",
    "fence",
    "floor-marble",
    "floor-other",
    "floor-stone",
    "floor-tile",
    "floor-wood",
    "flower",
    "fog",
    "food-other",
    "fruit",
    "furniture-other",
    "grass",
    "gravel",
    "ground-other",
    "hill",
    "house",
    "leaves",
    "light",
    "mat",
    "metal",
    "mirror-stuff",
    "moss",
    "mountain",
    "mud",
    "napkin",
    "net",
    "paper",
    "pavement",
    "pillow",
    "plant-other",
    "plastic",
    "platform",
    "playingfield",
    "railing",
    "railroad",
    "river",
    "road",
    "rock",
    "roof",
    "rug",
    "salad",
    "sand",
    "sea",
    "shelf",
    "sky-other",
    "skyscraper",
    "snow",
    "solid-other",
    "stairs",
    "stone",
    "straw",
    "structural-other",
    "table",
    "tent",
    "textile-other",
    "towel",
    "tree",
    "vegetable",
    "wall-brick",
    "wall-concrete",
    "wall-other",
    "wall-panel",
    "wall-stone",
    "wall-tile",
    "wall-wood",
    "water-other",
    "waterdrops",
    "window-blind",
    "window-other",
    "wood",
)
# Classes of COCO that were never labelled. They are unknown ids, not void: where one occurs, the labels are
# numbered in another way (train ids, or the 172 classes of version 1.0 of COCO-Stuff 10K).
REMOVED = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)
IDS = [number for number in range(1, len(NAMES) + 1) if number not in REMOVED]
CLASSES = [NAMES[number - 1] for number in IDS]
# No colours are published for the things. These are those of VOC's rule, by the id.
PALETTE = [voc_palette(len(NAMES) + 1)[number] for number in IDS]
UNLABELLED = 0
VOID = 255  # of the 164K PNG files, which hold id - 1


class COCOStuff(LabelledFiles):
    classes = CLASSES
    palette = PALETTE


# --- 164K ---------------------------------------------------------------------------------------------------

FROM_PIXELS = {**{number - 1: index for index, number in enumerate(IDS)}, VOID: IGNORE_INDEX}
SPLITS = {"train": "train2017", "val": "val2017", "train2017": "train2017", "val2017": "val2017"}
LABELS_IN = ("stuffthingmaps", "annotations")  # the second as its publishers unpack the archive
HOW_TO_GET = (
    "download stuffthingmaps_trainval2017.zip (github.com/nightrome/cocostuff), train2017.zip and "
    "val2017.zip (cocodataset.org), then set dataset.root=PATH"
)


class COCOStuff164k(COCOStuff):
    """`root` holds images and stuffthingmaps (or annotations), with train2017 and val2017 in each; only the
    requested split must exist.
    """

    def __init__(self, *, root: str | None, split: str) -> None:
        base = root_folder(root, name="coco_stuff164k", how_to_get=HOW_TO_GET)
        if split not in SPLITS:
            raise DataError(f"dataset split {split} is not a split of COCO-Stuff 164K: train, val")
        part = SPLITS[split]
        labels = labels_folder(base, part)
        images = base / "images" / part
        if labels is None or not images.is_dir():
            raise DataError(
                f"dataset.root={root} must contain images/{part}/ and stuffthingmaps/{part}/, but "
                f"{contents(base)}",
                hint=root_hint(
                    base,
                    lambda path: (path / "images" / part).is_dir() and labels_folder(path, part) is not None,
                    how_to_get=HOW_TO_GET,
                ),
            )
        found, names = images_in(images), Names()
        refuse_two_of_a_name(found.paths)
        pairs: Pairs = [
            (path, names.path(labels, path.relative_to(images).with_suffix(".png"))) for path in found.paths
        ]
        super().__init__(complete(pairs, where=images, hint=HOW_TO_GET), label_map=LabelMap(FROM_PIXELS))
        self.left_out = found.left_out


def labels_folder(base: Path, part: str) -> Path | None:
    return next((base / name / part for name in LABELS_IN if (base / name / part).is_dir()), None)


# --- 10K ----------------------------------------------------------------------------------------------------

FROM_IDS = {UNLABELLED: IGNORE_INDEX, **{number: index for index, number in enumerate(IDS)}}
LISTS_10K = {"train": "train", "val": "test", "test": "test", "all": "all"}
HOW_TO_GET_10K = (
    "download cocostuff-10k-v1.1.zip (github.com/nightrome/cocostuff10k), then set dataset.root=PATH"
)


class COCOStuff10k(COCOStuff):
    """Version 1.1. `root` holds images, annotations (.mat files) and imageLists. Its 1,000 test images are
    called val, too: their labels are published.
    """

    def __init__(self, *, root: str | None, split: str) -> None:
        base = root_folder(root, name="coco_stuff10k", how_to_get=HOW_TO_GET_10K)
        if split not in LISTS_10K:
            raise DataError(f"dataset split {split} is not a split of COCO-Stuff 10K: {', '.join(LISTS_10K)}")
        listed = Path("imageLists") / f"{LISTS_10K[split]}.txt"

        def is_root(path: Path) -> bool:
            return (
                all((path / name).is_dir() for name in ("images", "annotations"))
                and (path / listed).is_file()
            )

        if not is_root(base):
            raise DataError(
                f"dataset.root={root} must contain images/, annotations/ and {listed.as_posix()}, but "
                f"{contents(base)}",
                hint=root_hint(base, is_root, how_to_get=HOW_TO_GET_10K),
            )
        names, files = [nfc(name) for name in listed_names(base / listed)], Names()
        pairs: Pairs = [
            (files.path(base, f"images/{name}.jpg"), files.path(base, f"annotations/{name}.mat"))
            for name in names
        ]
        refuse_two_of_a_name(image for image, _ in pairs)
        pairs = complete(pairs, where=base / listed, hint=HOW_TO_GET_10K)
        super().__init__(pairs, label_map=LabelMap(FROM_IDS))

    def read_raw(self, path: Path) -> RawLabel:
        if path.suffix != ".mat":
            return super().read_raw(path)
        return RawLabel(matrix_of(path, ("S",), what="one of COCO-Stuff's label files"))

    def label_header(self, path: Path) -> Header | None:
        return None if path.suffix == ".mat" else header_of(path, mask=True)
