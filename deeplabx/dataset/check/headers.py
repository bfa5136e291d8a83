"""Read the header of every image and label file of a split before a run starts."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from deeplabx.dataset.files import LabelledFiles
from deeplabx.dataset.image_file import header_of
from deeplabx.dataset.label_file import WITH_IDS, fitting
from deeplabx.dataset.readable import ReadableSet
from deeplabx.errors import DataError

THREADS = 16  # they wait for the disk
CHUNK = 64  # pairs that a thread takes at a time


def check_headers(samples: ReadableSet) -> list[str]:
    """Raise the DataError of the first pair whose headers show that it cannot be used, with the number of
    such pairs; where unreadable pairs are skipped, return a line for the log instead. A set that reads no
    files, or reads them with code of its own, is not checked.

    No pixel is decoded, so damage behind a header is found when the file is read.
    """
    files = samples.samples
    if not isinstance(files, LabelledFiles) or files.has_own_reader:
        return []
    chunks = [range(first, min(first + CHUNK, len(files))) for first in range(0, len(files), CHUNK)]
    pool = ThreadPoolExecutor(THREADS)
    try:
        errors = [error for found in pool.map(lambda chunk: wrong(files, chunk), chunks) for error in found]
    finally:
        pool.shutdown(cancel_futures=True)
    if not errors:
        return []
    first = errors[0]
    words = (
        f"{len(errors):,} of {len(files):,} pairs of split {samples.split} cannot be used, the first: "
        f"{first.message}"
    )
    if samples.skip_unreadable:
        return [f"{words}; they are skipped"]
    raise type(first)(words, hint=first.hint, kind=first.kind)


def wrong(files: LabelledFiles, indices: Sequence[int]) -> list[DataError]:
    """The errors of the pairs that cannot be used."""
    found = []
    for index in indices:
        try:
            check_pair(files, index)
        except DataError as error:
            found.append(error)
    return found


def check_pair(files: LabelledFiles, index: int) -> None:
    """Raise the DataError that reading this pair would raise, as far as the headers show it."""
    image_path, label_path = files.pairs[index]
    image = header_of(image_path, mask=False, channels=files.image_channels)
    label = files.label_header(label_path)
    if label is None:
        return
    if not files.label_map.by_colour and label.mode not in WITH_IDS:
        files.label(index)  # raises an error with the colours
    sizes = image.size, label.size
    if image.format == "PNG" and image.orientation == 1 and sizes[0] != sizes[1] == sizes[0][::-1]:
        files[index]  # a PNG may have its orientation after the pixels
        return
    fitting((image_path, image.size, image.orientation), (label_path, label.size, label.orientation))
