"""Text in images: fonts, lines of a width, and names in any script."""

import functools
import importlib.util
from bisect import bisect_right
from pathlib import Path

from PIL import ImageFont

from deeplabx.errors import printable

Font = ImageFont.FreeTypeFont
ABSENT = "\U0010ffff"  # a letter that no font has: it is drawn as the font's box for those
# Fonts of machines for scripts that DejaVu Sans has no letters of. None of them is needed.
OTHER_FONTS = (
    "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/noto-cjk/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/google-noto-cjk/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/truetype/droid/DroidSansFallbackFull.ttf",
    "/usr/share/fonts/truetype/wqy/wqy-microhei.ttc",
    "/usr/share/fonts/truetype/noto/NotoSansDevanagari-Regular.ttf",
    "/usr/share/fonts/truetype/noto/NotoSansThai-Regular.ttf",
    "/System/Library/Fonts/Supplemental/Arial Unicode.ttf",
    "/Library/Fonts/Arial Unicode.ttf",
)


def font_of(size: int) -> Font:
    """DejaVu Sans, which matplotlib brings along. What it has no letter for is drawn as a box."""
    return opened(dejavu_path(), size)


@functools.cache
def dejavu_path() -> str:
    found = importlib.util.find_spec("matplotlib")  # importing it takes 0.2 s
    assert found is not None
    assert found.origin is not None
    return str(Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf")


@functools.lru_cache(maxsize=64)
def opened(path: str, size: int) -> Font:
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


@functools.lru_cache(maxsize=4096)
def has_letter(path: str, letter: str) -> bool:
    font = opened(path, 12)
    return letter.isspace() or bytes(font.getmask(letter)) != bytes(font.getmask(ABSENT))


def font_for(words: str, size: int) -> Font | None:
    """A font that has all letters of `words`: DejaVu Sans, else one of the machine's; None if there is
    none.
    """
    for path in (dejavu_path(), *OTHER_FONTS):
        if (path == dejavu_path() or Path(path).is_file()) and all(has_letter(path, one) for one in words):
            return opened(path, size)
    return None


def legible(name: str, index: int, size: int, *, width: float) -> tuple[str, Font]:
    """The name of class `index` in at most `width` pixels, and its font: "class 12" if no font has its
    letters.
    """
    name = printable(name)
    font = font_for(name, size)
    if font is None:
        return f"class {index}", font_of(size)
    return cut_end(name, font, width), font


def cut(words: str, font: Font, width: float) -> str:
    """One line of at most `width` pixels; of a longer one the end, where names of files differ, is kept."""
    words = printable(words)
    if font.getlength(words) <= width:
        return words
    kept = bisect_right(range(1, len(words)), width, key=lambda count: font.getlength(f"…{words[-count:]}"))
    return f"…{words[-kept:]}" if kept else "…"


def cut_end(words: str, font: Font, width: float) -> str:
    """One line of at most `width` pixels; of a longer one the beginning is kept."""
    words = printable(words)
    if font.getlength(words) <= width:
        return words
    kept = bisect_right(range(1, len(words)), width, key=lambda count: font.getlength(f"{words[:count]}…"))
    return f"{words[:kept]}…"


def wrapped(words: str, font: Font, width: float, *, most: int) -> list[str]:
    """At most `most` lines of at most `width` pixels, broken between words; "…" where more follows."""
    lines: list[str] = []
    for word in printable(words).split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(cut(word, font, width))
    if len(lines) <= most:
        return lines
    last = lines[most - 1]
    while last and font.getlength(f"{last} …") > width:
        last = last.rpartition(" ")[0]
    return [*lines[: most - 1], f"{last} …"]
