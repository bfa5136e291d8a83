"""Values that well-known programs and data sets put into masks, so that a cause can be named."""

from collections.abc import Iterable
from math import gcd

from deeplabx.dataset import camvid, coco_stuff, pascal_context, voc
from deeplabx.dataset.ade20k import ADE20K
from deeplabx.dataset.cityscapes import Cityscapes
from deeplabx.dataset.contract import IGNORE_INDEX, Colour
from deeplabx.dataset.labels import packed, voc_palette
from deeplabx.dataset.writing import UNUSED_COLOUR

# Of void: index 255 of VOC's palette, and the colour that unused indices have in files that are written here.
VOID_COLOURS = ((224, 224, 192), UNUSED_COLOUR)
PALETTE = voc_palette(256)
INDEX_OF = {packed(colour): index for index, colour in reversed(list(enumerate(PALETTE)))}
INSTANCES = 1000  # Cityscapes' instanceIds are class id * 1000 + number
PUBLISHED: dict[str, tuple[list[str], list[Colour]]] = {
    "voc": (voc.CLASSES, PALETTE[: len(voc.CLASSES)]),
    "cityscapes": (Cityscapes.classes, Cityscapes.palette),
    "camvid": (camvid.CLASSES, camvid.PALETTE),
    "ade20k": (ADE20K.classes, ADE20K.palette),
    "coco_stuff164k": (coco_stuff.CLASSES, coco_stuff.PALETTE),
    "pascal_context": (pascal_context.CLASSES, pascal_context.PALETTE[1:]),
}


def luminance(colour: Colour) -> int:
    """As Pillow and OpenCV convert a colour to grey (ITU-R 601)."""
    red, green, blue = colour
    return (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16


def palette_indices_of_greys(classes: int) -> dict[int, int]:
    """Indices of VOC's palette by the grey of their colour, of `classes` indices and of void (255). A grey
    of two indices is left out.
    """
    greys: dict[int, list[int]] = {}
    for index in [*range(classes), IGNORE_INDEX]:
        greys.setdefault(luminance(PALETTE[index]), []).append(index)
    return {grey: found[0] for grey, found in greys.items() if len(found) == 1}


def step_of(ids: Iterable[int], *, classes: int) -> dict[int, int]:
    """Ids by the values that they were stretched to, where `ids` are 0 and multiples of a step, or even
    parts of 255, as programs stretch ids to make them visible. Empty where they are not.
    """
    values = sorted(set(ids))
    step = gcd(*values)
    enough = 2 * len(values) >= classes  # a few values of many classes say nothing
    if step > 1 and enough and values[-1] // step < max(classes, len(values)):
        return {value: value // step for value in values}
    last = classes - 1
    for rounded in (lambda part: round(255 * part / last), lambda part: 255 * part // last):
        parts = {rounded(part): part for part in range(classes)} if last > 0 else {}
        if len(values) > 2 and enough and set(values) <= set(parts):
            return {value: parts[value] for value in values}
    return {}


def published_order(names: Iterable[str]) -> tuple[str, list[str]] | None:
    """A known data set that has exactly these classes, lower case, and its order."""
    own = sorted(names)
    for name, (classes, _) in PUBLISHED.items():
        if own == sorted(one.lower() for one in classes):
            return name, [one.lower() for one in classes]
    return None
