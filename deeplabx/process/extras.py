"""Packages that only some commands need."""

import importlib
from types import ModuleType

from deeplabx.errors import ConfigError


def needed(module: str, *, extra: str) -> ModuleType:
    """A module of an extra. Raises ConfigError, with the command that installs it, where it is absent."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != module.partition(".")[0]:
            raise  # what is absent is a package that the module itself imports
        raise ConfigError(
            f"this needs the package {module.partition('.')[0]}, which is not installed",
            hint=f"pip install 'deeplabx[{extra}]'",
        ) from None
