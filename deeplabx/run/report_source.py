"""Of what a report is: a run, or an evaluation outside one, with its config and its weights."""

import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deeplabx.config import schema, stored
from deeplabx.engine import durable
from deeplabx.engine.checkpoint import fingerprint
from deeplabx.engine.checkpoint_folder import MANIFEST, read_json
from deeplabx.engine.record.record import IMAGES
from deeplabx.errors import CheckpointError, ConfigError
from deeplabx.report.run_page.folder import EVALUATION
from deeplabx.run import plugins
from deeplabx.run.description import StoredModel, config_from_plain
from deeplabx.run.environment import environment_of
from deeplabx.run.folder import config_of, overrides_of
from deeplabx.run.paths import with_absolute_paths

Change = Callable[[schema.TrainConfig], schema.TrainConfig]


def write_source(folder: Path, found: StoredModel, overrides: Sequence[str], *, device: Any) -> None:
    """Write evaluation.json: what `deeplabx eval` has evaluated, for its report and for comparisons."""
    path = found.checkpoint.path.resolve()
    source = {
        "checkpoint": str(path),
        "sha256": model_sha256(path),
        "overrides": [one for one in overrides if one.partition("=")[0] != "ckpt"],
        "environment": environment_of(found.config, device, workers=0),
        "config": stored.to_plain(with_absolute_paths(found.config)),
    }
    durable.replace(folder / EVALUATION, json.dumps(source, indent=2) + "\n")


def model_sha256(checkpoint: Path) -> str | None:
    """Of the weights, by the checkpoint's manifest, or of an exported file; None where there is none."""
    if checkpoint.is_file():
        return str(fingerprint(checkpoint)["sha256"])
    if not (checkpoint / MANIFEST).is_file():
        return None
    entry = read_json(checkpoint / MANIFEST).get("model.safetensors")
    return str(entry.get("sha256")) if isinstance(entry, dict) else None


@dataclass
class Source:
    """A run, or an evaluation outside one. config: None where it cannot be used, which `problems` says.

    target: what eval and predict are given: a run's folder, or the checkpoint or file that was evaluated.
    """

    folder: Path
    is_run: bool
    config: schema.TrainConfig | None
    stored: schema.TrainConfig | None  # as it is in the folder
    problems: list[str]
    target: Path | None
    again: str
    text: str  # of the config
    overrides: Sequence[str]
    environment: Mapping[str, Any]
    sha256: str | None = None

    @classmethod
    def of(cls, folder: Path, *, change: Change | None = None) -> "Source":
        if (folder / "config.yaml").is_file():
            return cls.of_run(folder, change)
        if any((folder / name).is_file() for name in (EVALUATION, IMAGES)):
            return cls.of_evaluation(folder, change)
        raise CheckpointError(
            f"{folder} is neither the folder of a run nor of an evaluation: it has no config.yaml, and no "
            f"{IMAGES}",
            hint="give the folder that train or eval printed, such as outputs/train/NAME/STAMP",
        )

    @classmethod
    def of_run(cls, folder: Path, change: Change | None) -> "Source":
        problems: list[str] = []
        config = before = None
        try:
            before = config_of(folder)
            config = before if change is None else change(before)
        except CheckpointError as error:
            problems.append(str(error).replace("\n", "; "))
        try:
            overrides = overrides_of(folder)
        except CheckpointError as error:
            problems.append(error.message)
            overrides = []
        text = (folder / "config.yaml").read_text(encoding="utf-8", errors="replace")
        again = f"deeplabx train {shell_words(overrides)}".strip() + plugins.as_overrides()
        return cls(folder, True, config, before, problems, folder, again, text[:100_000], overrides, {})

    @classmethod
    def of_evaluation(cls, folder: Path, change: Change | None) -> "Source":
        problems: list[str] = []
        plain: dict[str, Any] = {}
        config = before = None
        try:
            if (folder / EVALUATION).is_file():
                plain = read_json(folder / EVALUATION)
        except CheckpointError as error:
            problems.append(error.message)
        table = plain.get("environment")
        environment = table if isinstance(table, dict) else {}
        if "config" in plain:
            try:
                plugins.refuse_absent(environment.get("plugins", []), source=folder)
                before = config_from_plain(plain["config"])
                config = before if change is None else change(before)
            except (CheckpointError, ConfigError) as error:
                problems.append(f"{folder / EVALUATION}: {str(error).splitlines()[0]}")
        path, sha256, given = plain.get("checkpoint"), plain.get("sha256"), plain.get("overrides")
        target = Path(path) if isinstance(path, str) else None
        overrides = [str(one) for one in given] if isinstance(given, list) else []
        again = (
            ""
            if target is None
            else f"deeplabx eval {shlex.quote(str(target))} {shell_words(overrides)}".strip()
        )
        text = "" if before is None else json.dumps(plain["config"], indent=2)
        return cls(
            folder,
            False,
            config,
            before,
            problems,
            target,
            again + (plugins.as_overrides() if again else ""),
            text[:100_000],
            overrides,
            environment,
            sha256 if isinstance(sha256, str) else None,
        )


def shell_words(overrides: Sequence[str]) -> str:
    """Overrides for a shell. The quotes that Hydra needs around a plain value are added again by deeplabx."""
    return shlex.join(re.sub(r"^([\w.+-]+=)'([^'\\]*)'$", r"\1\2", one) for one in overrides)
