"""Predictions in the layout that the test servers of Pascal VOC and Cityscapes ask for."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from deeplabx.dataset import cityscapes, voc
from deeplabx.dataset.labels import voc_palette
from deeplabx.dataset.listing import images_in
from deeplabx.dataset.writing import save_grey, save_ids
from deeplabx.errors import DataError, listed

RESULTS = "results"  # the folder that is packed
VOC_FOLDER = "VOC2012/Segmentation"


class Server(NamedTuple):
    """What a test server asks for."""

    title: str
    folder: str  # of the files, below RESULTS
    classes: list[str]
    name: str  # a regular expression of the names of its images, without their suffix
    test_images: int
    pack: str  # the command; {out} is the output folder


VOC_PACK = "tar -czf results.tgz -C {out} results"
SERVERS = {
    # comp5: trained on VOC's own images only; comp6: on others too, as weights of ImageNet are
    **{
        f"voc_{competition}": Server(
            "VOC 2012",
            f"{VOC_FOLDER}/{competition}_test_cls",
            voc.CLASSES,
            r"\d{4}_\d{6}",
            1456,
            VOC_PACK,
        )
        for competition in ("comp5", "comp6")
    },
    "cityscapes": Server(
        "Cityscapes",
        "",
        cityscapes.Cityscapes.classes,
        r"[^_]+_\d{6}_\d{6}_leftImg8bit",
        1525,
        "(cd {out}/results && zip -qr ../results.zip .)",
    ),
}
LABEL_IDS = np.array([label.label_id for label in cityscapes.CLASS_TABLE], np.uint8)


def place_of(server: str, image: Path) -> Path:
    """Where the ids of an image go, below the output folder. All images are in one folder."""
    return Path(RESULTS, SERVERS[server].folder, f"{image.stem}.png")


def save_submitted(path: Path, ids: np.ndarray, *, server: str) -> None:
    """VOC: a palette PNG of class ids; Cityscapes: a grey PNG of label ids, not of train ids."""
    if server == "cityscapes":
        save_grey(path, LABEL_IDS[ids])
    else:
        save_ids(path, ids, voc_palette(len(voc.CLASSES)))


def refuse_two_of_a_name(images: Iterable[Path]) -> None:
    """Raise DataError where two images would be one file of the submission."""
    by_stem: dict[str, Path] = {}
    for image in images:
        other = by_stem.setdefault(image.stem, image)
        if other is not image:
            raise DataError(
                f"{other} and {image} would be one file of the submission, {image.stem}.png",
                hint="give only the images of the test set",
            )


def expected_names(server: str, root: str | None, split: str) -> list[str] | None:
    """The names of a split's images without their suffix, where the data set at `root` has that split."""
    if root is None or not Path(root).is_dir():
        return None
    if server == "cityscapes":
        folder = Path(root) / "leftImg8bit" / split
        if not folder.is_dir():
            return None
        return [path.stem for path in images_in(folder).paths if path.name.endswith(cityscapes.IMAGE_ENDING)]
    year = voc.known_year_folder(Path(root))
    names = year / voc.LISTS / f"{split}.txt" if year else None
    return voc.listed_stems(names) if names and names.is_file() else None


def completeness(server: str, stems: list[str], *, expected: list[str] | None, split: str) -> list[str]:
    """What a submission lacks and what does not belong to it, in words. expected: the split's names, if they
    are known.
    """
    known = SERVERS[server]
    if expected is None:
        odd = [stem for stem in stems if re.fullmatch(known.name, stem) is None]
        counted = f"{len(stems)} images; the test set of {known.title} has {known.test_images}"
        said = [f"submission: {counted}, which was not compared: dataset.root=PATH dataset.split=test does"]
        if odd:
            said.append(f"submission: {len(odd)} names are none of {known.title}: {listed(odd, 5)}")
        return said
    missing, extra = sorted(set(expected) - set(stems)), sorted(set(stems) - set(expected))
    said = [
        f"submission: {len(set(expected)) - len(missing)} of {len(set(expected))} images of split {split}"
    ]
    for words, names in (("missing", missing), ("not of this split", extra)):
        if names:
            said.append(f"submission: {len(names)} {words}: {listed(names, 5)}")
    return said
