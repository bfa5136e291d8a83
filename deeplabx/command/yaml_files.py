"""The YAML files of conf/: where they are, which options they are, and what they hold, without Hydra."""

import functools
from pathlib import Path
from typing import Any

from deeplabx import registry
from deeplabx.errors import ConfigError


@functools.cache
def conf_dir() -> Path:
    """The folder of YAML files: in the package in a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "train.yaml").is_file():
            return folder
    raise ConfigError(
        f"no conf/ folder in {package} or beside it", hint="reinstall deeplabx: its YAML files are missing"
    )


def choices(group: str) -> list[str]:
    """The options of a group, recipes included, sorted by name."""
    files = {path.stem for path in (conf_dir() / group).glob("*.yaml")}
    return sorted(files | set(registry.OPTIONS.get(group, ())))


def groups_of(option: str) -> list[str]:
    """The groups that have an option of this name."""
    return [group for group in registry.GROUPS if option in choices(group)]


@functools.cache
def contents(name: str) -> dict[str, Any]:
    """What conf/<name>.yaml holds, interpolations as they are; nothing where there is no such file."""
    import yaml  # here, because the help of a command without settings needs none

    path = conf_dir() / f"{name}.yaml"
    if not path.is_file():
        return {}
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(path.read_text(encoding="utf-8"), Loader=loader) or {}


def head_comments(name: str) -> list[str]:
    """The comments at the head of conf/<name>.yaml, the one for Hydra apart."""
    lines = []
    for line in (conf_dir() / f"{name}.yaml").read_text(encoding="utf-8").splitlines():
        if not line.startswith("# "):
            break
        if not line.startswith("# @"):
            lines.append(line[2:])
    return lines
