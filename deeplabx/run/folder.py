"""What a run leaves in its folder, and what is read back when it is resumed."""

import contextlib
import json
import re
from pathlib import Path
from typing import Any

import yaml

from deeplabx.config import schema, stored
from deeplabx.config.fields import walk
from deeplabx.engine import checkpoint as checkpoints
from deeplabx.engine import durable
from deeplabx.engine.checkpoint_folder import read_json
from deeplabx.engine.stage_folders import newest_stage, run_of
from deeplabx.engine.state import TrainState
from deeplabx.errors import CheckpointError, ConfigError
from deeplabx.run import plugins
from deeplabx.run.description import Description, config_from_plain

EXTENSIONS = "extensions.json"


# --- read ---------------------------------------------------------------------------------------------------


def refuse_or_find_finished(folder: Path, *, resume: bool) -> float | None:
    """The best mIoU of a finished run, None when there is work to do. Raises ConfigError for a run without
    `resume`.
    """
    started = any((folder / "checkpoints").glob("step-*"))
    if started and not resume:
        raise ConfigError(
            f"{folder} already holds checkpoints",
            hint=f"deeplabx resume {folder} (or resume=true) continues it; or set hydra.run.dir=FOLDER",
        )
    if started and (folder / "DONE").is_file() and (folder / "result.json").is_file():
        miou = read_json(folder / "result.json").get("miou")
        if not isinstance(miou, float):
            raise CheckpointError(
                f"{folder}/result.json holds no mIoU", hint="remove it, and the run will write it again"
            )
        return miou
    return None


def refuse_changed(
    config: schema.TrainConfig, found: checkpoints.Checkpoint, extensions: list[dict[str, Any]]
) -> None:
    """Raise ConfigError when the run in the folder was made with other settings than the ones given now. It
    may have been extended since.
    """
    made_with = Description.of(found).config
    before = {key: value for key, value, _ in walk(made_with)}
    now = {key: value for key, value, _ in walk(config)}
    if extensions and extensions[-1]["to"] == now["schedule.max_iters"]:
        before["schedule.max_iters"] = now["schedule.max_iters"]
    for words in plugins.changes(found.description.get("plugins"), source=found.path):
        raise ConfigError(
            words, hint="restore it, or start from these weights in another folder: init_from=RUN"
        )
    changed = [key for key in now if not schema.is_free_on_resume(key) and now[key] != before.get(key)]
    if changed:
        shown = ", ".join(f"{key} was {before.get(key)}, now {now[key]}" for key in changed[:3])
        raise ConfigError(
            f"this run was made with other settings: {shown}",
            hint="resume it with its own, or train in another folder",
        )


def config_of(folder: Path) -> schema.TrainConfig:
    """The config of a run. Raises CheckpointError, for a plug-in that is not loaded too."""
    path = folder / "environment.json"
    environment = read_json(path) if path.is_file() else {}
    plugins.refuse_absent(environment.get("plugins", []), source=folder)
    try:
        return config_from_plain(read_yaml(folder / "config.yaml"))
    except ConfigError as error:
        raise CheckpointError(f"{folder}/config.yaml cannot be used: {error}") from None


def newest_root(checkpoint: Path) -> str | None:
    """dataset.root in the config of the run that has this checkpoint: its data set may have moved since. None
    for a checkpoint outside a run, and where that config cannot be read.
    """
    if checkpoint.parent.name != "checkpoints":
        return None
    try:
        config = read_yaml(checkpoint.parent.parent / "config.yaml")
    except CheckpointError:  # the checkpoint has a config of its own; this one only improves a hint
        return None
    dataset = config.get("dataset") if isinstance(config, dict) else None
    root = dataset.get("root") if isinstance(dataset, dict) else None
    return root if isinstance(root, str) else None


def overrides_of(folder: Path) -> list[str]:
    path = folder / "overrides.yaml"
    overrides = read_yaml(path) if path.is_file() else []
    return (
        [override for override in overrides if isinstance(override, str)]
        if isinstance(overrides, list)
        else []
    )


def read_yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read: {' '.join(str(error).split())[:200]}") from None


def extensions_of(folder: Path) -> list[dict[str, Any]]:
    """When the run was extended, and from how many steps to how many."""
    path = folder / EXTENSIONS
    if not path.is_file():
        return []
    try:
        return [
            {name: int(one[name]) for name in ("at_step", "from", "to")}
            for one in json.loads(path.read_text(encoding="utf-8"))
        ]
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read: {error!r}") from None


def beginning(folder: Path) -> object:
    """What changes whenever the run in `folder` begins or continues."""
    path = folder / "environment.json"
    return (path.stat().st_ino, path.stat().st_mtime_ns) if path.is_file() else None


def logged_step(folder: Path) -> int:
    """The last step that metrics.jsonl has."""
    path = folder / "metrics.jsonl"
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    steps = re.findall(r'^{"step": (\d+)', text, re.M)
    return max(map(int, steps), default=0)


def killed_words(folder: Path, found: checkpoints.Checkpoint | None) -> list[str]:
    """A line for the log of a run that continues, if its process before this one was killed from outside: it
    began, and left no mark of its end.
    """
    began = (folder / "config.yaml").is_file()
    if not began or any((folder / name).is_file() for name in ("DONE", "FAILED", "INTERRUPTED")):
        return []
    reached, step = logged_step(folder), int(found.state["step"]) if found else 0
    if found and reached <= step and was_complete(folder, found):
        return []  # and is extended
    where = f"continuing from {found.path.name}" if found else "it had saved no checkpoint: starting again"
    return [
        "the process before this one was killed, or its machine stopped (memory, a time limit, power): its "
        f"log ends at step {reached}; {where}"
    ]


def was_complete(folder: Path, found: checkpoints.Checkpoint) -> bool:
    """Whether a run had ended with its newest checkpoint, at its last step or, stopped early, before it."""
    step = int(found.state["step"])
    extended = [one["at_step"] for one in extensions_of(folder)][-1:] == [step]
    return extended or step == Description.of(found).config.schedule.max_iters


def leads_into(link: Path, home: Path) -> bool:
    try:
        return link.resolve().is_relative_to(home)
    except (OSError, RuntimeError):  # links in a circle
        return False


def refuse_links_out(folder: Path) -> None:
    """Raise CheckpointError for a link that leads out of a run's folder: resuming the run would
    write there.
    """
    home = folder.resolve()
    for path in folder.rglob("*"):
        if path.is_symlink() and not leads_into(path, home):
            raise CheckpointError(
                f"{path} is a link that points out of the run's folder",
                hint="replace the link by what it points to",
            )


# --- written ------------------------------------------------------------------------------------------------


def write_run_files(
    config: schema.TrainConfig, folder: Path, overrides: list[str], environment: dict[str, Any]
) -> None:
    """Write config, overrides and environment of a run that begins. Marks of an earlier end are removed."""
    durable.tidy(folder)
    for name in ("FAILED", "INTERRUPTED"):
        (folder / name).unlink(missing_ok=True)
    write_config(folder, config)
    durable.replace(folder / "overrides.yaml", yaml.safe_dump(overrides))
    durable.replace(folder / "environment.json", json.dumps(environment, indent=2) + "\n")


def write_config(folder: Path, config: schema.TrainConfig) -> None:
    durable.replace(folder / "config.yaml", yaml.safe_dump(stored.to_plain(config), sort_keys=False))


def write_extensions(folder: Path, record: list[dict[str, Any]]) -> None:
    durable.replace(folder / EXTENSIONS, json.dumps(record, indent=2) + "\n")


def mark(folder: Path, name: str, words: str, *, before: object) -> None:
    """Leave FAILED or INTERRUPTED in a run that began; one that did not leaves nothing, and one that could
    not be continued stays as it was.

    before: its `beginning` before it was started.
    """
    if beginning(folder) != before:
        with contextlib.suppress(OSError):  # a full disk must not hide what happened
            durable.write_words(folder / name, f"{words}\n")


def next_command(folder: Path) -> str:
    """What to type after a run was stopped."""
    run = run_of(folder)  # a stage is continued with the run that it belongs to
    if not (newest_stage(run) / "config.yaml").is_file():
        return "the run had not begun: start it again"
    return f"deeplabx resume {run}{plugins.as_overrides()}"


def write_result(folder: Path, state: TrainState) -> None:
    """result.json: the metrics of the best evaluation, at its step. The same run gives the same bytes: how
    long it took is in cost.json.
    """
    durable.replace(folder / "result.json", json.dumps(state.best, indent=2) + "\n")
