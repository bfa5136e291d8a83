"""Masks that were resized with interpolation, drawn with anti-aliasing, or compressed with losses: each mask
shows it by itself.
"""

from collections.abc import Iterator, Sequence

from deeplabx.dataset.check.facts import Facts
from deeplabx.dataset.check.finding import Finding, number
from deeplabx.dataset.check.stated import Stated
from deeplabx.dataset.check.value_table import Raw, distance, finding

# Shares of label maps that were neither resized nor compressed stay below a fifth of these: 1,163 masks of
# VOC, CamVid, Cityscapes, COCO-Stuff and ADE20K.
SMOOTH = 0.15  # of the changes along rows, those that are part of a ramp
STRONG = 0.3  # the same, where only a few masks are smooth
A_FEW = 0.1
NOISY = 0.03  # of all pixels, those that differ from all their neighbours
FEW_CHANGES = 40  # a mask with fewer says nothing about its edges
PEAK = 0.005  # share of all pixels, from which on a value in damaged masks is one of a class
# Grey levels between the values of two classes: compression noise does not reach from one to the other.
APART = 16


def damaged_edges(facts: Sequence[Facts], stated: Stated) -> Iterator[Finding]:
    """Masks that were resized with interpolation, drawn with anti-aliasing, or compressed with losses."""
    lossy, noisy, smooth, rest = (list[Facts]() for _ in range(4))
    for one in facts:
        is_lossy = any(problem.kind == "lossy_mask" for problem in one.problems)
        kind = lossy if is_lossy else noisy if is_noisy(one, stated) else smooth if is_smooth(one) else rest
        kind.append(one)
    if len(smooth) < A_FEW * len(facts):  # areas side by side look like ramps by chance
        smooth, less = [
            [one for one in smooth if is_smooth(one, share=STRONG) == own] for own in (True, False)
        ]
        rest += less
    if 2 * len(noisy + smooth) >= len(facts):  # the others were made in the same way, with fewer traces of it
        known = stated.train_ids.keys()
        more = [one for one in rest if one.raw.keys() - known]
        (noisy if len(noisy) > len(smooth) else smooth).extend(more)
    repair = "pixels whose class is certain keep it, the others become void"
    if lossy:
        yield finding(
            "lossy_mask",
            lossy,
            f"{number(lossy, 'mask')} in a format with lossy compression (JPEG), which changes ids",
            "export the masks again, as PNG",
            repair=repair,
            stated=stated,
        )
    if noisy:
        yield finding(
            "compressed_mask",
            noisy,
            f"{number(noisy, 'mask')} with compression noise: they were a JPEG before",
            "export the masks again from what they were before, as PNG",
            repair=repair,
            stated=stated,
        )
    if smooth:
        yield finding(
            "smooth_edges",
            smooth,
            f"{number(smooth, 'mask')} with smooth edges: values between two classes, from resizing with "
            "interpolation or from anti-aliasing",
            "export the masks again without anti-aliasing, and resize masks with nearest neighbour",
            repair=repair,
            stated=stated,
        )


def is_noisy(one: Facts, stated: Stated) -> bool:
    """Not so a map whose regions are as small as pixels: its values are those of classes."""
    assert one.edges is not None
    pixels = sum(one.raw.values())
    many = one.values > 8 and 2 * len(one.solid) < one.values + len(stated.names)
    return one.edges.alone > NOISY * pixels and many and bool(one.raw.keys() - stated.train_ids.keys())


def is_smooth(one: Facts, *, share: float = SMOOTH) -> bool:
    """Interpolation leaves ramps, along rows and along columns, and few lines of a single pixel; in noise and
    in regions as small as pixels there are more of these. share: of the changes, that are part of a ramp.
    """
    assert one.edges is not None
    ways = [way for way in (one.edges.across, one.edges.down) if way.changes >= FEW_CHANGES]
    return bool(ways) and all(way.ramps > max(share * way.changes, way.lines) for way in ways)


def peaks(facts: Sequence[Facts], stated: Stated, *, by_colour: bool) -> dict[Raw, int]:
    """The values that most pixels of damaged masks hold: each stands for those around it, and a stated value
    for all that are near.
    """
    pixels: dict[Raw, int] = {}
    for one in facts:
        for raw, count in one.solid.items() if one.by_colour == by_colour else ():
            pixels[raw] = pixels.get(raw, 0) + count
    chosen: dict[Raw, int] = {}
    known = list(stated.train_ids) if stated.by_colour == by_colour else []
    for raw, count in sorted(pixels.items(), key=lambda item: -item[1]):
        if count < PEAK * sum(pixels.values()):
            break
        near = [other for other in known if distance(raw, other, by_colour=by_colour) <= APART]
        raw = near[0] if near else raw
        if all(distance(raw, other, by_colour=by_colour) > APART for other in chosen):
            chosen[raw] = count
    return chosen
