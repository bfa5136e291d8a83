"""Run lengths of class ids, compressed as COCO's API writes them."""

import numpy as np

CHUNKS = 7  # of 5 bits each: enough for any difference of two run lengths of 32 bits
MORE = 32  # the bit of a chunk that says that another one follows
BLOCK = 1 << 18  # numbers that are written at a time: each takes 130 bytes on the way
FIRST_LETTER = 48  # of the 64 letters that stand for a chunk


def run_lengths(ids: np.ndarray) -> dict[int, np.ndarray]:
    """Of each class in the ids H x W: the lengths of the runs outside and inside it by turns, down one column
    after the other; the first is outside, and may be 0.
    """
    down = ids.ravel(order="F")
    starts = np.concatenate([[0], np.flatnonzero(down[1:] != down[:-1]) + 1])
    ends = np.append(starts[1:], down.size)
    values = down[starts]
    found = {}
    for value in np.unique(values).tolist():
        own = values == value
        bounds = np.column_stack([starts[own], ends[own]]).ravel()
        rest = [] if bounds[-1] == down.size else [down.size]
        found[value] = np.diff(np.concatenate([[0], bounds, rest]).astype(np.int64))
    return found


def compressed(counts: np.ndarray) -> str:
    """Run lengths as COCO's text: from the third on, a count is the difference to the one two before it; then
    each is written in chunks of 5 bits with a sign, the lowest first (rleToString in cocoapi's maskApi.c).
    """
    numbers = counts.astype(np.int64)
    numbers[3:] -= counts[1:-2]
    parts = (numbers[start : start + BLOCK] for start in range(0, numbers.size, BLOCK))
    return "".join(letters(part) for part in parts)


def letters(numbers: np.ndarray) -> str:
    chunks = np.empty((numbers.size, CHUNKS), np.int64)
    needed = np.full(numbers.size, CHUNKS)
    left = numbers
    for index in range(CHUNKS):
        chunk = left & 31
        left = left >> 5
        complete = np.where(chunk & 16, left == -1, left == 0)
        needed = np.where(complete & (needed == CHUNKS), index + 1, needed)
        chunks[:, index] = chunk
    index_of = np.arange(CHUNKS)
    chunks |= np.where(index_of < needed[:, None] - 1, MORE, 0)
    kept = chunks[index_of < needed[:, None]]
    return (kept + FIRST_LETTER).astype(np.uint8).tobytes().decode("ascii")


# --- reading ------------------------------------------------------------------------------------------------


def decompressed(text: bytes) -> np.ndarray:
    """The run lengths in COCO's text, the inverse of `compressed`. Raises ValueError for what is none."""
    letters = np.frombuffer(text, np.uint8).astype(np.int64) - FIRST_LETTER
    if not letters.size or letters.min() < 0 or letters.max() >= 2 * MORE:
        raise ValueError("a character that COCO's run lengths do not use")
    last = letters < MORE
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    sizes = ends - starts + 1
    if not last[-1] or sizes.max() > CHUNKS:
        raise ValueError("a run length that does not end")
    place = np.arange(letters.size) - np.repeat(starts, sizes)
    numbers = np.add.reduceat((letters & (MORE - 1)) << 5 * place, starts)
    negative = (letters[ends] & 16) != 0
    numbers -= np.where(negative, np.int64(1) << 5 * sizes, 0)
    for first in (1, 2):  # each is the difference to the one two before it, from the fourth on
        numbers[first::2] = np.cumsum(numbers[first::2])
    return numbers


def inside(counts: np.ndarray, *, height: int, width: int) -> np.ndarray:
    """The pixels of run lengths, bool width x height: column by column. Raises ValueError where they are not
    those of such an image.
    """
    if counts.size and counts.min() < 0:
        raise ValueError("a run length below 0")
    total = int(counts.sum())
    if total != height * width:
        raise ValueError(f"run lengths of {total} pixels, not of {height * width}")
    return np.repeat(np.arange(counts.size) % 2 == 1, counts).reshape(width, height)
