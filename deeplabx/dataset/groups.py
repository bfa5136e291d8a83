"""Which images of a split belong together, such as the frames of a video or the images of a patient."""

import re
from pathlib import Path

from deeplabx.dataset.files import LabelledFiles
from deeplabx.dataset.listing import nfc
from deeplabx.dataset.readable import ReadableSet


def image_groups(samples: ReadableSet) -> list[str] | None:
    """The group of each image, by the data set's `group_pattern`; None where it has none, or where an image
    does not match it.
    """
    files = samples.samples
    if not isinstance(files, LabelledFiles) or files.group_pattern is None:
        return None
    pattern = re.compile(files.group_pattern)
    found = [pattern.search(name_of(image, files)) for image, _ in files.pairs]
    if not all(found):
        return None
    return [match[1] if pattern.groups else match[0] for match in found if match]


def name_of(image: Path, files: LabelledFiles) -> str:
    """An image's path as dataset.group is searched in it: below the folder of the images."""
    if files.group_folder is not None and image.is_relative_to(files.group_folder):
        return nfc(image.relative_to(files.group_folder).as_posix())
    return nfc(image.as_posix())
