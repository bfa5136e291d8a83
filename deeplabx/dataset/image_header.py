"""What an image file says of itself before its pixels are decoded, whatever its name says."""

import re
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from PIL import Image, ImageFile
from PIL.TiffImagePlugin import ImageFileDirectory_v2

ORIENTATION = 0x0112  # the EXIF tag; in TIFF, a tag of the file
EXIF_IN = ("exif", "xmp", "Raw profile type exif", "Raw profile type xmp", "XML:com.adobe.xmp")
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
FOREIGN = (  # beginnings of files that are not images, or of formats that are not read
    (rb"version https://git-lfs", "a Git LFS pointer; git lfs pull fetches the file"),
    (rb"\s*<(!DOCTYPE html|html|HTML)", "an HTML page"),
    (rb"\s*<(\?xml|svg)", "an XML or SVG file"),
    (rb"%PDF", "a PDF file"),
    (rb"PK\x03\x04", "a ZIP archive"),
    (rb"\x1f\x8b", "a gzip file"),
    (rb"....ftyp(heic|heix|mif1|msf1|avif)", "HEIC or AVIF"),
    (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", "JPEG 2000"),
    (rb"\0\0\0\x0cJXL |\xff\x0a", "JPEG XL"),
    (rb"\x93NUMPY", "a NumPy array"),
    (rb"\x89HDF", "an HDF5 file"),
)

# --- TIFF ---------------------------------------------------------------------------------------------------

TAGS = {
    "subfile": 254,
    "old subfile": 255,
    "width": 256,
    "height": 257,
    "bits": 258,
    "compression": 259,
    "photometric": 262,
    "orientation": ORIENTATION,
    "samples": 277,
    "extra samples": 338,
    "sample format": 339,
}
LOSSLESS = {
    **{1: "none", 2: "CCITT", 3: "group 3", 4: "group 4", 5: "LZW", 8: "deflate", 32946: "deflate"},
    **{32771: "none", 32773: "PackBits", 32809: "ThunderScan", 34925: "LZMA", 50000: "ZSTD"},
}
LOSSY = {
    **{6: "JPEG", 7: "JPEG", 34676: "SGILog", 34677: "SGILog24", 34712: "JPEG 2000", 34887: "LERC"},
    **{33003: "JPEG 2000", 33005: "JPEG 2000", 34892: "lossy DNG", 50001: "WebP", 52546: "JPEG XL"},
}
PHOTOMETRIC = {
    **{0: "grey (0 is white)", 1: "grey", 2: "RGB", 3: "palette", 4: "transparency mask", 5: "CMYK"},
    **{6: "YCbCr", 8: "LAB", 9: "LAB", 10: "LAB", 32803: "raw sensor data", 34892: "raw sensor data"},
}
COLOURS = {2: 3, 5: 4, 6: 3, 8: 3}  # channels by photometric interpretation; 1 of all others
MOST_PAGES = 1000
MOST_SAMPLES = 6  # per pixel, that Pillow opens; of more it logs an error
YCBCR = 6  # photometric interpretation
SIGNED, FLOAT = 2, 3  # sample formats


class Tiff(NamedTuple):
    """The tags of a TIFF that matter here, and the number of its pages without reduced copies."""

    tags: dict[str, tuple[int, ...]]
    pages: int

    def first(self, name: str, default: int) -> int:
        return next(iter(self.tags[name]), default)

    @property
    def photometric(self) -> int:
        return self.first("photometric", 0)

    @property
    def samples(self) -> int:
        old_jpeg = self.first("compression", 1) == 6  # may leave the number out
        return self.first("samples", COLOURS.get(self.photometric, 1) if old_jpeg else 1)

    @property
    def bits(self) -> int:
        return self.first("bits", 1)

    @property
    def unused(self) -> int:
        """Channels beyond colour and alpha, which Pillow drops."""
        extra = self.tags["extra samples"]
        has_alpha = any(one not in (0,) for one in extra) or (
            not extra and self.samples == 4 and self.photometric == 2  # read as RGBA
        )
        return max(0, self.samples - COLOURS.get(self.photometric, 1) - has_alpha)

    @property
    def of_integers(self) -> bool:
        """Whether it holds one whole number of 16 or 32 bits per pixel."""
        one = self.samples == 1 and self.photometric in (0, 1)
        return one and self.bits in (16, 32) and self.first("sample format", 1) != FLOAT

    @property
    def for_opencv(self) -> bool:
        """Whether only OpenCV decodes it right. Pillow swaps the bytes of big-endian signed integers that are
        compressed, and takes unsigned ones of 32 bits for signed or does not open them.
        """
        return self.of_integers and (self.bits == 32 or self.first("sample format", 1) == SIGNED)

    @property
    def raw_by_opencv(self) -> bool:
        """Whether OpenCV gives four channels as they are stored, where Pillow drops the fourth or divides by
        it.
        """
        return (
            (self.samples, self.photometric) == (4, 2)
            and set(self.tags["bits"]) == {8}
            and self.tags["extra samples"] in ((0,), (1,))
        )

    @property
    def words(self) -> str:
        kind = PHOTOMETRIC.get(self.photometric, f"photometric interpretation {self.photometric}")
        code = self.first("compression", 1)
        compression = (LOSSLESS | LOSSY).get(code, str(code))
        form = " floating point" if self.first("sample format", 1) == FLOAT else ""
        return (
            f"a TIFF of {self.samples} {'channel' if self.samples == 1 else 'channels'} of {self.bits} bits"
            f"{form}, {kind}, compression {compression}"
        )


def tiff_of(file: BinaryIO, start: bytes) -> Tiff:
    """The first page's tags. The pages of a file are a chain of tables, at offsets that the file gives."""
    tables: list[dict[str, tuple[int, ...]]] = []
    seen: set[int] = set()
    if start.startswith(b"MM\0+"):
        raise ValueError("not a readable image: a BigTIFF of big-endian byte order")
    head = start[:16] if start.startswith(b"II+\0") else start[:8]
    offset = ImageFileDirectory_v2(head).next
    while offset and offset not in seen and offset < 1 << 63:
        seen.add(offset)
        file.seek(offset)
        table = ImageFileDirectory_v2(head)
        table.load(file)
        if not len(table):
            break  # beyond the end of the file, or damaged
        tables.append({name: integers(table.get(tag)) for name, tag in TAGS.items()})
        if len(tables) > MOST_PAGES:  # a file of 2 MB can have 100,000 tables, which take 8 s
            raise ValueError(f"a TIFF of more than {MOST_PAGES} pages is not read")
        offset = table.next
    if not tables:
        raise ValueError("not a readable image: it is a TIFF without a table of tags")
    full = [one for one in tables if not is_reduced(one)]
    if full and is_reduced(tables[0]):
        raise ValueError(f"its first page is a reduced copy of another page ({len(tables)} pages)")
    return Tiff(tables[0], max(1, len(full)))


def is_reduced(tags: dict[str, tuple[int, ...]]) -> bool:
    """Whether a page is a reduced copy of another, as the overviews of a GeoTIFF are."""
    return bool(sum(tags["subfile"][:1]) & 1) or tags["old subfile"][:1] == (2,)


def integers(value: object) -> tuple[int, ...]:
    values = value if isinstance(value, tuple) else (value,)
    return tuple(one for one in values if isinstance(one, int))


# --- other formats ------------------------------------------------------------------------------------------

SPACE = rb"(?:\s|#[^\r\n]*[\r\n])+"  # a comment counts as space
NETPBM = re.compile(
    rb"\s*P(?:(4)|([56]))" + SPACE + rb"(\d{1,9})" + SPACE + rb"(\d{1,9})(?(1)|" + SPACE + rb"(\d{1,9}))\s"
)


def webp_is_lossy(file: BinaryIO) -> bool:
    """Whether the image of a WebP, or a frame of it, is stored as lossy `VP8 `, not as `VP8L`."""
    file.seek(12)
    for name, offset, length in riff_chunks(file):
        if name == b"VP8 ":
            return True
        if name == b"ANMF":  # 16 bytes of the frame's position, then chunks
            file.seek(offset + 16)
            if any(inner == b"VP8 " for inner, *_ in riff_chunks(file, end=offset + length)):
                return True
            file.seek(offset + length + length % 2)
    return False


def riff_chunks(file: BinaryIO, *, end: int | None = None) -> Iterator[tuple[bytes, int, int]]:
    """Name, offset and length of each chunk from here on."""
    while (end is None or file.tell() < end) and len(head := file.read(8)) == 8:
        name, length = struct.unpack("<4sI", head)
        offset = file.tell()
        yield name, offset, length
        file.seek(offset + length + length % 2)


def bitmap_bits(start: bytes) -> int:
    """Bits per pixel of a BMP."""
    return int.from_bytes(start[24:26] if start[14] == 12 else start[28:30], "little")


def netpbm_images(file: BinaryIO) -> int:
    """How many images a binary PBM, PGM or PPM holds, one behind the other, as netpbm's tools write them."""
    count, offset = 0, 0
    while True:
        file.seek(offset)
        found = NETPBM.match(file.read(1024))
        if found is None:
            return max(1, count)
        kind, width, height = found[1] or found[2], int(found[3]), int(found[4])
        channels = 3 if kind == b"6" else 1
        row = (width + 7) // 8 if kind == b"4" else width * channels * (1 if int(found[5]) < 256 else 2)
        count, offset = count + 1, offset + found.end() + row * height


# --- all formats --------------------------------------------------------------------------------------------


class Header(NamedTuple):
    """size: width and height as stored, before the EXIF orientation turns them. bits: of a grey sample, or of
    each channel. maximum: the largest grey sample; viewers show it as white.
    """

    format: str
    mode: str  # Pillow's; I of a TIFF that OpenCV decodes
    size: tuple[int, int]
    orientation: int = 1  # EXIF's: 1 to 8
    pages: int = 1
    bits: int = 8
    maximum: int = 255
    inverted: bool = False  # 0 is white
    lossy: str = ""  # the name of a compression that changes pixels
    tiff: Tiff | None = None


def header_of_tiff(tiff: Tiff, mode: str) -> Header:
    code = tiff.first("compression", 1)
    lossy = f"{LOSSY[code]}-compressed TIFF" if code in LOSSY else f"TIFF of compression {code}"
    orientation = tiff.first("orientation", 1)
    return Header(
        "TIFF",
        mode,
        (tiff.first("width", 0), tiff.first("height", 0)),
        orientation=orientation if 1 <= orientation <= 8 else 1,
        pages=tiff.pages,
        bits=tiff.bits,
        maximum=2**tiff.bits - 1,
        inverted=tiff.photometric == 0,
        lossy="" if code in LOSSLESS else lossy,
        tiff=tiff,
    )


def header_of_image(image: ImageFile.ImageFile, file: BinaryIO, start: bytes) -> Header:
    """The header of an opened image that is no TIFF. Raises ValueError for what Pillow would read wrong."""
    bits, maximum, pages, lossy = 8, 255, int(getattr(image, "n_frames", 1)), ""
    form = str(image.format)
    if form == "PNG":
        bits = start[24]
        maximum = 2**bits - 1
    elif form == "PPM":
        decoder, _, _, arguments = image.tile[0]
        maximum = {"1": 1, "I": 65535}.get(image.mode, 255)
        if decoder.startswith("ppm") and isinstance(arguments, tuple):  # it scales samples to 255 or 65535
            maximum = int(arguments[1])
        bits, pages = maximum.bit_length(), netpbm_images(file)
    elif form == "BMP":
        bits = bitmap_bits(start)
        if {"1": 1, "L": 8}.get(image.mode, bits) != bits:  # which Pillow would unpack as if it were
            raise ValueError(f"a BMP of {bits} bits with a palette of greys cannot be read; save it as PNG")
        bits = 1 if image.mode == "1" else 8
        maximum = 2**bits - 1
    elif form in ("JPEG", "MPO"):
        lossy = "JPEG"
    elif form == "WEBP" and webp_is_lossy(file):
        lossy = "lossy WebP"
    return Header(
        form,
        image.mode,
        image.size,
        orientation=orientation_of(image),
        pages=pages,
        bits=bits,
        maximum=maximum,
        lossy=lossy,
    )


def orientation_of(image: Image.Image) -> int:
    """EXIF's orientation. A PNG may state it after its pixels; then it is known when they are decoded."""
    if not any(name in image.info for name in EXIF_IN):
        return 1
    value = Image.Image.getexif(image).get(ORIENTATION, 1)  # a PNG's own getexif decodes the pixels
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def foreign_words(start: bytes) -> str:
    """What a file is that is no image, where its beginning shows that."""
    return next((words for beginning, words in FOREIGN if re.match(beginning, start, re.DOTALL)), "")
