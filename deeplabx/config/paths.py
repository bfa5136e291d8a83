"""Paths as they are typed: ~ is the home folder, in every setting that holds a path. $NAME is the shell's."""

import os
from typing import Any

from deeplabx.errors import ConfigError


def expanded(key: str, path: str) -> str:
    """A path with its ~ or ~user as the home folder; an unknown ~name is the name of a file.

    Raises ConfigError where there is no home folder.
    """
    whole = os.path.expanduser(path)  # noqa: PTH111 - pathlib raises for an unknown user
    if whole.split("/", 1)[0] == "~":
        raise ConfigError(f"{key}={path}: there is no home folder", hint="set HOME, or give the whole path")
    return whole


def expanded_paths(key: str, value: Any) -> Any:
    """The value of a path setting, one path or a list of them, each expanded; anything else as it is."""
    if isinstance(value, list):
        return [expanded_paths(key, one) for one in value]
    return expanded(key, value) if isinstance(value, str) else value
