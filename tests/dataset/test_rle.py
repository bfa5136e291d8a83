import numpy as np
import pytest

from deeplabx.dataset.rle import compressed, decompressed, inside, run_lengths


def decoded(text: str, *, height: int, width: int) -> np.ndarray:
    """The mask of COCO's compressed run lengths, letter by letter as rleFrString in cocoapi's maskApi.c."""
    counts: list[int] = []
    letters = [ord(letter) - 48 for letter in text]
    while letters:
        number, shift = 0, 0
        while True:
            letter = letters.pop(0)
            number |= (letter & 31) << shift
            shift += 5
            if not letter & 32:
                number -= (1 << shift) if letter & 16 else 0
                break
        counts.append(number + counts[-2] if len(counts) > 2 else number)
    values = [index % 2 for index, count in enumerate(counts) for _ in range(count)]
    return np.array(values, np.uint8).reshape(width, height).T


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("size", [(1, 1), (7, 1), (1, 9), (23, 31)])
def test_every_mask_is_decoded_as_it_was(size: tuple[int, int], dtype: type) -> None:
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 4, (size[0] // 5 + 1, size[1] // 5 + 1)).repeat(5, axis=0).repeat(5, axis=1)
    for ids in (rng.integers(0, 3, size), blocks[: size[0], : size[1]], np.full(size, 2)):
        ids = ids.astype(dtype)
        found = run_lengths(ids)
        assert set(found) == set(np.unique(ids).tolist())
        for value, counts in found.items():
            mask = decoded(compressed(counts), height=size[0], width=size[1])
            np.testing.assert_array_equal(mask, ids == value)


def test_long_runs_and_large_differences_are_written() -> None:
    counts = np.array([0, 5, 2_000_000, 1, 3, 1_999_999, 1])
    mask = decoded(compressed(counts), height=int(counts.sum()), width=1)
    np.testing.assert_array_equal(np.flatnonzero(np.diff(mask[:, 0])) + 1, np.cumsum(counts)[1:-1])


def test_the_text_is_that_of_pycocotools() -> None:
    """Of pycocotools.mask.encode for np.eye(3), by hand: the counts 0 1 3 1 3 1."""
    assert compressed(run_lengths(np.eye(3, dtype=np.uint8))[1]) == "013000"


def test_run_lengths_of_pycocotools_are_read() -> None:
    masks = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(0)
    for share in (0.0, 0.01, 0.5, 0.99, 1.0):
        for height, width in ((1, 1), (5, 1), (1, 7), (40, 30)):
            pixels = rng.random((height, width)) < share
            text = masks.encode(np.asfortranarray(pixels, np.uint8))["counts"]
            np.testing.assert_array_equal(inside(decompressed(text), height=height, width=width).T, pixels)


def test_compressed_is_undone() -> None:
    counts = np.random.default_rng(0).integers(0, 1 << 30, 50)
    for size in (1, 2, 3, 4, 5, 50):
        np.testing.assert_array_equal(decompressed(compressed(counts[:size]).encode()), counts[:size])


@pytest.mark.parametrize("text", [b"", b"!", b"P", b"o" * 20 + b"0", b"\xff"])
def test_what_is_no_run_length_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="run length"):
        decompressed(text)


def test_run_lengths_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="run lengths of 5 pixels, not of 6"):
        inside(np.array([2, 3]), height=2, width=3)
    with pytest.raises(ValueError, match="below 0"):
        inside(np.array([8, -2]), height=2, width=3)
