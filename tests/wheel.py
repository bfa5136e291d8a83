"""The wheel that is built from this checkout, for the tests that need it installed."""

import contextlib
import functools
import zipfile
from pathlib import Path

from hatchling.build import build_wheel

ROOT = Path(__file__).parents[1]


@functools.cache
def installed_in(folder: Path) -> Path:
    """Build the wheel into `folder` and unpack it, as pip does with a wheel of pure Python; where it is."""
    with contextlib.chdir(ROOT):
        wheel = build_wheel(str(folder))
    with zipfile.ZipFile(folder / wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"
