"""Paths in Hydra's quotes: its grammar would trip over ( ) , = ~ [ ] and letters beyond ASCII in them."""

import re
from collections.abc import Collection

HYDRA_PATHS = ("hydra.run.dir", "hydra.sweep.dir")


def quoted(setting: str, *, paths: Collection[str], sweep: bool) -> str:
    """`setting` with the value of a path key in quotes. paths: those keys; in a sweep a comma separates
    values.
    """
    key, _, value = setting.partition("=")
    if key.lstrip("+~") not in (*paths, *HYDRA_PATHS) or value in ("", "null", "none"):
        return setting
    if value[0] == value[-1] and value[0] in "'\"" and len(value) > 1:
        return setting
    parts = value.split(",") if sweep else [value]
    return f"{key}=" + ",".join(in_quotes(part) for part in parts)


def in_quotes(text: str) -> str:
    """`text` in single quotes as Hydra reads them: a backslash is doubled only where a quote follows."""
    return "'" + re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), text) + "'"
