"""PNG, TIFF, BMP and netpbm files written byte by byte: a truth that no image library has touched."""

import struct
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

Tags = Mapping[int, Sequence[int]]


def packed(samples: np.ndarray, bits: int, *, order: str = ">") -> list[bytes]:
    """The rows of samples, H x W or H x W x channels, of so many bits each; rows begin on a byte."""
    rows = samples.reshape(len(samples), -1)
    if bits >= 8:
        return [row.astype(f"{order}u{bits // 8}").tobytes() for row in rows]
    each = [np.unpackbits(row.astype(np.uint8)[:, None], axis=1)[:, 8 - bits :].ravel() for row in rows]
    return [np.packbits(row).tobytes() for row in each]


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(
    samples: np.ndarray,
    *,
    bits: int = 8,
    colour: int = 0,
    before: Sequence[tuple[bytes, bytes]] = (),
    after: Sequence[tuple[bytes, bytes]] = (),
) -> bytes:
    """colour: 0 grey, 2 RGB, 3 palette, 4 grey + alpha, 6 RGBA. before, after: chunks beside the pixels."""
    height, width = samples.shape[:2]
    rows = b"".join(b"\0" + row for row in packed(samples, bits))
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), *before, (b"IDAT", zlib.compress(rows)), *after, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in chunks)


def exif(orientation: int) -> bytes:
    """A TIFF table with one tag, as EXIF has it."""
    return b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 274, 3, 1, orientation, 0, 0)


def tiff(*pages: tuple[np.ndarray, Tags], order: str = "<", big: bool = False) -> bytes:
    """Pages of samples H x W or H x W x channels, and tags that replace those that follow from them.

    A tag 322 makes square tiles of that side instead of one strip; 284 = 2 makes planes; 259 = 8 deflates.
    """
    offset_size, word, table_count = (8, "Q", "Q") if big else (4, "I", "H")
    content = (b"II" if order == "<" else b"MM") + (
        struct.pack(order + "HHHQ", 43, 8, 0, 16) if big else struct.pack(order + "HI", 42, 8)
    )
    for number, (samples, given) in enumerate(pages):
        samples = samples if samples.ndim == 3 else samples[..., None]
        tags: dict[int, Sequence[int]] = {
            256: [samples.shape[1]],
            257: [samples.shape[0]],
            258: [8] * samples.shape[2],
            259: [1],
            262: [2 if samples.shape[2] > 2 else 1],
            277: [samples.shape[2]],
            **given,
        }
        parts = [
            zlib.compress(part) if tags[259][0] in (8, 32946) else part
            for part in parts_of(samples, tags, order)
        ]
        place = len(content)
        places, counts = (324, 325) if 322 in tags else (273, 279)
        tags[places], tags[counts] = [0] * len(parts), [len(part) for part in parts]
        if 322 not in tags:
            tags[278] = [samples.shape[0]]
        rows_size = (12 if not big else 20) * len(tags)
        after = place + struct.calcsize(order + table_count) + rows_size + offset_size
        long = {tag: len(values) * 4 for tag, values in tags.items() if len(values) * 4 > offset_size}
        data = after + sum(long.values())
        tags[places] = [data + sum(map(len, parts[:index])) for index in range(len(parts))]
        rows, outside = b"", b""
        for tag in sorted(tags):
            values = struct.pack(f"{order}{len(tags[tag])}I", *tags[tag])  # every value as a LONG
            if tag in long:
                field = struct.pack(order + word, after + len(outside))
                outside += values
            else:
                field = values.ljust(offset_size, b"\0")
            rows += struct.pack(f"{order}HH{word}", tag, 4, len(tags[tag])) + field
        end = data + sum(map(len, parts))
        following = 0 if number == len(pages) - 1 else end
        content += struct.pack(order + table_count, len(tags)) + rows
        content += struct.pack(order + word, following) + outside + b"".join(parts)
    return content


def parts_of(samples: np.ndarray, tags: Mapping[int, Sequence[int]], order: str) -> list[bytes]:
    """The strip, strips of each plane, or tiles."""
    bits = tags[258][0]
    if 322 in tags:
        side = tags[322][0]
        tall, wide = (-(-length // side) * side for length in samples.shape[:2])
        padding = ((0, tall - samples.shape[0]), (0, wide - samples.shape[1]), (0, 0))
        whole = np.pad(samples, padding)
        return [
            b"".join(packed(whole[top : top + side, left : left + side], bits, order=order))
            for top in range(0, tall, side)
            for left in range(0, wide, side)
        ]
    if tags.get(284, [1])[0] == 2:
        return [b"".join(packed(plane, bits, order=order)) for plane in np.moveaxis(samples, 2, 0)]
    return [b"".join(packed(samples, bits, order=order))]


def bmp(samples: np.ndarray, *, bits: int, greys: Sequence[int]) -> bytes:
    """A BMP with a palette of greys."""
    rows = [row.ljust(-(-len(row) // 4) * 4, b"\0") for row in packed(samples, bits)[::-1]]
    palette = b"".join(bytes([grey, grey, grey, 0]) for grey in greys)
    place, data = 54 + len(palette), b"".join(rows)
    height, width = samples.shape
    return (
        b"BM"
        + struct.pack("<IHHI", place + len(data), 0, 0, place)
        + struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, 0, len(data), 2835, 2835, len(greys), 0)
        + palette
        + data
    )


def netpbm(samples: np.ndarray, kind: str, maximum: int | None = None, *, comment: str = "") -> bytes:
    """P1 to P6. P1 and P4: a sample of 1 is black."""
    height, width = samples.shape[:2]
    head = f"{kind}\n{comment}{width} {height}\n" + (f"{maximum}\n" if maximum is not None else "")
    if kind in ("P1", "P2", "P3"):
        return (head + "\n".join(" ".join(map(str, row.ravel())) for row in samples) + "\n").encode()
    bits = 1 if kind == "P4" else 8 if (maximum or 0) < 256 else 16
    return head.encode() + b"".join(packed(samples, bits))
