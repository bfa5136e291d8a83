"""Checkpoints: a folder of safetensors and JSON that exists whole or not at all.

    checkpoints/step-00001000/
        model.safetensors  optimizer.safetensors  state.json  config.json  MANIFEST.json
    checkpoints/best.json  checkpoints/last.json  {"checkpoint": "step-00001000", "step": 1000, "miou": 0.7}

model.safetensors is the model that is evaluated and predicts. Where that has EMA weights, raw.safetensors
beside it is the model that is trained.

Everything is read as data: nothing is unpickled, nothing is built from a name in a file.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from deeplabx.engine.checkpoint_folder import MANIFEST, place, pointed, read_json
from deeplabx.engine.durable import arriving, remove, replace, tidy
from deeplabx.engine.state import TrainState
from deeplabx.errors import CheckpointError, DivergedError
from deeplabx.process.distributed import broadcast

SCHEMA_VERSION = 5
RAW = "raw.safetensors"
REPORT = "import.txt"  # of imported weights: where each tensor comes from
LONGEST_NAME = 255  # of a file
STATE_TYPES = {
    "step": int,
    "evaluated": int,
    "skipped_in_a_row": int,
    "ema_updates": int,
    "best": dict,
    "scaler": dict,
}
MOST = 2**31 - 1  # of a step
KEEP_NEWEST = 2


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files were verified against its manifest."""

    path: Path

    @property
    def description(self) -> dict[str, Any]:
        """What `config.json` holds: the run's config, the data set's classes and palette, and the
        preprocessing.
        """
        return read_json(self.path / "config.json")

    @property
    def state(self) -> dict[str, Any]:
        state = read_json(self.path / "state.json")
        if state.get("schema_version") != SCHEMA_VERSION:
            raise CheckpointError(
                f"{self.path} has schema version {state.get('schema_version')}, this deeplabx reads "
                f"{SCHEMA_VERSION}"
            )
        best = state.get("best")
        best_types = {"step": int, "miou": float} if best else {}
        for table, types in ((state, STATE_TYPES), (best, best_types)):
            for name, kind in types.items():
                if (
                    not isinstance(table, dict)
                    or type(table.get(name)) is not kind
                    or (kind is int and not 0 <= table[name] <= MOST)
                ):
                    raise CheckpointError(f"{self.path}/state.json: {name} is not what a run writes there")
        return state

    def model_tensors(self) -> dict[str, Tensor]:
        return load_tensors(self.path / "model.safetensors")

    def optimizer_tensors(self) -> dict[str, Tensor]:
        return load_tensors(self.path / "optimizer.safetensors")

    def raw_tensors(self) -> dict[str, Tensor] | None:
        """Of the model that learns, where the one that predicts is its average."""
        path = self.path / RAW
        return load_tensors(path) if path.name in read_json(self.path / MANIFEST) else None


# --- save ---------------------------------------------------------------------------------------------------


def save(state: TrainState, folder: Path, *, description: dict[str, Any]) -> Path:
    """Write `folder`/step-...; the path. Raises DivergedError for weights that are not finite."""
    models = {"model.safetensors": on_cpu(state.evaluated_model.state_dict())}
    if state.ema:
        models[RAW] = on_cpu(state.model.state_dict())
    for tensors in models.values():
        refuse_nonfinite(tensors)
    final = folder / f"step-{state.step:08d}"
    try:
        with arriving(final, over=True) as unfinished:  # over the same step, saved before a resume
            models["optimizer.safetensors"] = on_cpu(state.optimizer_tensors())
            write(unfinished, models, state=state.state_dict(), description=description)
    finally:
        tidy(folder)
    return final


def write(
    folder: Path,
    tensors: dict[str, dict[str, Tensor]],
    *,
    state: dict[str, Any],
    description: dict[str, Any],
    report: str = "",
) -> None:
    """Write the files of a checkpoint: tables of tensors by file, and a report for people, where there is
    one.
    """
    for name, table in tensors.items():
        save_file(table, folder / name)
    (folder / "state.json").write_text(as_json({"schema_version": SCHEMA_VERSION, **state}))
    (folder / "config.json").write_text(as_json(description))
    if report:
        (folder / REPORT).write_text(report)
    manifest = {path.name: fingerprint(path) for path in sorted(folder.iterdir())}
    (folder / MANIFEST).write_text(as_json(manifest))


def write_untrained(
    final: Path, model: dict[str, Tensor], *, description: dict[str, Any], report: str
) -> None:
    """Write a checkpoint of weights that no run has trained, where there is nothing yet."""
    state = {name: kind() for name, kind in STATE_TYPES.items()}
    tensors = {"model.safetensors": model, "optimizer.safetensors": {}}
    with arriving(final, over=False) as unfinished:
        write(unfinished, tensors, state=state, description=description, report=report)


def on_cpu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}


def keep(state: TrainState, folder: Path, *, description: dict[str, Any]) -> None:
    """Save, let `last` (and `best`, where it is) name the new checkpoint, and only then remove older ones."""
    path = save(state, folder, description=description)
    for name in ("last", "best") if state.is_best else ("last",):
        point(folder, name, path, step=state.step, miou=state.best_miou if state.is_best else None)
    prune(folder)


def refuse_nonfinite(model: dict[str, Tensor]) -> None:
    floating = {name: tensor for name, tensor in model.items() if tensor.is_floating_point()}
    bad = [name for name, tensor in floating.items() if not torch.isfinite(tensor).all()]
    if bad:
        raise DivergedError(
            f"{len(bad)} tensors are not finite, the first: {bad[0]}; not saved",
            hint="try a smaller optimizer.lr",
        )


def point(folder: Path, name: str, checkpoint: Path, *, step: int, miou: float | None) -> None:
    """Let `folder`/name.json (best, last) name a checkpoint."""
    replace(folder / f"{name}.json", as_json({"checkpoint": checkpoint.name, "step": step, "miou": miou}))


def prune(folder: Path) -> None:
    """Keep the best and the newest two."""
    best = pointed(folder, "best")
    steps = sorted(folder.glob("step-*"))
    for path in steps[:-KEEP_NEWEST]:
        if path != best:
            remove(path)


def repair(folder: Path, state: TrainState) -> None:
    """Before a run goes on: remove what a killed save left, and let `best` name the best of `state`, also
    where the process died between save and pointer.
    """
    if not folder.is_dir():
        return
    tidy(folder)
    best = folder / f"step-{state.best.get('step', 0):08d}"
    if not state.best:
        (folder / "best.json").unlink(missing_ok=True)
    elif best.is_dir() and pointed(folder, "best") != best:
        point(folder, "best", best, step=state.best["step"], miou=state.best_miou)


def as_json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2) + "\n"


def fingerprint(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"size": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


# --- load ---------------------------------------------------------------------------------------------------


def find(ckpt: str, *, key: str = "ckpt") -> Checkpoint:
    """The checkpoint of `ckpt=` (or of another `key`): a run folder (its best, else its last) or a step-….

    Raises CheckpointError saying what is wrong.
    """
    return verified(place(ckpt, key=key))


def newest(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint that verifies, None where there is none yet; and a line for each newer one that
    did not.

    Raises CheckpointError where there are some and none verifies: a new start would overwrite what is left of
    them.
    """
    complaints: list[str] = []
    for path in sorted(folder.glob("step-*"), reverse=True):
        try:
            return verified(path), complaints
        except CheckpointError as error:
            complaints.append(error.message)
    if complaints:
        raise CheckpointError(
            f"none of {len(complaints)} checkpoints can be used: {complaints[0]}",
            hint="restore one from a backup",
        )
    return None, []


def verified(path: Path) -> Checkpoint:
    """The checkpoint at `path`, each file's size and sha256 being as its manifest says."""
    manifest = read_json(path / MANIFEST)
    for name in sorted(
        {"model.safetensors", "optimizer.safetensors", "state.json", "config.json"} - set(manifest)
    ):
        raise CheckpointError(f"{path} is damaged: {MANIFEST} does not list {name}")
    for name, expected in manifest.items():
        file = path / name
        if Path(name).name != name or len(name) > LONGEST_NAME or not file.is_file():
            raise CheckpointError(f"{path} is damaged: {name} is missing")
        if fingerprint(file) != expected:
            raise CheckpointError(
                f"{path} is damaged: {name} is not what {MANIFEST} says (size or sha256 differs)"
            )
    return Checkpoint(path)


def load_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read as safetensors: {error}") from None


def fill(model: nn.Module, tensors: dict[str, Tensor], *, source: Path) -> None:
    """Load all of a checkpoint's tensors into the model it names. Raises CheckpointError when they are not
    the model's.
    """
    absent = sorted(set(model.state_dict()) - set(tensors))  # torch would pass over a batch norm's counter
    try:
        if absent:
            raise RuntimeError(f"{len(absent)} tensors are missing, the first: {absent[0]}")
        model.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        raise CheckpointError(
            f"{source} does not fit the model it names: {' '.join(str(error).split())[:200]}"
        ) from None


class Content(NamedTuple):
    """What a run continues from."""

    path: Path
    model: dict[str, Tensor]
    raw: dict[str, Tensor] | None
    optimizer: dict[str, Tensor]
    scalars: dict[str, Any]


def read(checkpoint: Checkpoint) -> Content:
    return Content(
        checkpoint.path,
        checkpoint.model_tensors(),
        checkpoint.raw_tensors(),
        checkpoint.optimizer_tensors(),
        checkpoint.state,
    )


def restore(state: TrainState, checkpoint: Checkpoint | None) -> None:
    """Put a run back where `checkpoint`, one of its own, was saved; None leaves it as it is.

    All processes take what the main one read: the folder need not be on every machine. Raises CheckpointError
    when it does not fit the run.
    """
    content = broadcast(None if checkpoint is None else read(checkpoint))
    if content is None:
        return
    path = content.path
    if (content.raw is None) != (state.ema is None):
        raise CheckpointError(
            f"{path} does not fit the run it is in: {RAW} goes with trainer.ema_decay, and one of the two "
            "is missing"
        )
    fill(state.evaluated_model, content.model, source=path)
    if content.raw is not None:
        fill(state.model, content.raw, source=path)
    try:
        state.load_optimizer_tensors(content.optimizer)
        state.load_state_dict(content.scalars)
    except (RuntimeError, KeyError, ValueError, TypeError) as error:  # as torch raises for what does not fit
        raise CheckpointError(
            f"{path} does not fit the run it is in: {' '.join(str(error).split())[:200]}"
        ) from None
