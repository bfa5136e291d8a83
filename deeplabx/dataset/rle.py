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
