"""Checkpoints: a folder of safetensors and JSON that exists whole or not at all.

    checkpoints/step-00001000/
        model.safetensors  optimizer.safetensors  state.json  config.json  MANIFEST.json
    checkpoints/best.json  checkpoints/last.json  {"checkpoint": "step-00001000", "step": 1000, "miou": 0.7}

model.safetensors holds the weights for evaluation and prediction. With EMA or SWA, raw.safetensors holds the
trained weights.

Everything is read as data: no pickle, and no code is looked up by a name in a file.
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
from deeplabx.engine.durable import arriving, remove, replace, tidy, utf8_name, write_words
from deeplabx.engine.state import TrainState
from deeplabx.errors import CheckpointError, DivergedError
from deeplabx.process.distributed import broadcast

SCHEMA_VERSION = 7
RAW = "raw.safetensors"
REPORT = "import.txt"  # for imported weights: the source of each tensor
LONGEST_NAME = 255  # of a file
STATE_TYPES = {
    "step": int,
    "evaluated": int,
    "skipped_in_a_row": int,
    "average_updates": int,
    "without_better": int,
    "best": dict,
    "scaler": dict,
}
MOST = 2**31 - 1  # largest step number
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

    def refuse_other_version(self) -> dict[str, Any]:
        """What `state.json` holds. Raises CheckpointError if another version of deeplabx wrote it."""
        state = read_json(self.path / "state.json")
        if state.get("schema_version") != SCHEMA_VERSION:
            raise CheckpointError(
                f"{self.path} has schema version {state.get('schema_version')}, this deeplabx reads "
                f"{SCHEMA_VERSION}"
            )
        return state

    @property
    def state(self) -> dict[str, Any]:
        state = self.refuse_other_version()
        best = state.get("best")
        best_types = {"step": int, "miou": float} if best else {}
        for table, types in ((state, STATE_TYPES), (best, best_types)):
            for name, kind in types.items():
                if (
                    not isinstance(table, dict)
                    or type(table.get(name)) is not kind
                    or (kind is int and not 0 <= table[name] <= MOST)
                ):
                    raise CheckpointError(f"{self.path}/state.json: {name} is missing or invalid")
        return state

    def model_tensors(self) -> dict[str, Tensor]:
        return load_tensors(self.path / "model.safetensors")

    def optimizer_tensors(self) -> dict[str, Tensor]:
        return load_tensors(self.path / "optimizer.safetensors")

    def raw_tensors(self) -> dict[str, Tensor] | None:
        """The trained weights if `model_tensors` are their average, else None."""
        path = self.path / RAW
        return load_tensors(path) if path.name in read_json(self.path / MANIFEST) else None


# --- save ---------------------------------------------------------------------------------------------------


def save(state: TrainState, folder: Path, *, description: dict[str, Any]) -> Path:
    """Write `folder`/step-... and return its path. Raises DivergedError if a weight is not finite.

    The reports of all steps must have been read: one of them may say that the run has diverged.
    """
    assert not state.pending, "a checkpoint was to be saved before all steps were reported"
    models = {"model.safetensors": on_cpu(state.evaluated_model.state_dict())}
    if state.average:
        models[RAW] = on_cpu(state.model.state_dict())
    for tensors in models.values():
        refuse_nonfinite(tensors)
    final = folder / f"step-{state.step:08d}"
    try:
        with arriving(final, over=True) as unfinished:  # may replace the same step, saved before a resume
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
    """Write the files of a checkpoint: the tensors of each file, and a text report if there is one."""
    for name, table in tensors.items():
        save_file(table, folder / name)
    (folder / "state.json").write_text(as_json({"schema_version": SCHEMA_VERSION, **state}), encoding="utf-8")
    (folder / "config.json").write_text(as_json(description), encoding="utf-8")
    if report:
        write_words(folder / REPORT, report)
    manifest = {path.name: fingerprint(path) for path in sorted(folder.iterdir())}
    (folder / MANIFEST).write_text(as_json(manifest), encoding="utf-8")


def write_untrained(
    final: Path, model: dict[str, Tensor], *, description: dict[str, Any], report: str
) -> None:
    """Write a checkpoint of weights that no run has trained, into a new or empty folder."""
    state = {name: kind() for name, kind in STATE_TYPES.items()}
    tensors = {"model.safetensors": model, "optimizer.safetensors": {}}
    with arriving(final, over=False) as unfinished:
        write(unfinished, tensors, state=state, description=description, report=report)


def on_cpu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}


def keep(state: TrainState, folder: Path, *, description: dict[str, Any]) -> None:
    """Save, point `last` (and `best`, if this is the best) to the new checkpoint, then remove older ones."""
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
    """Point `folder`/name.json (best, last) to a checkpoint."""
    replace(folder / f"{name}.json", as_json({"checkpoint": checkpoint.name, "step": step, "miou": miou}))


def prune(folder: Path) -> None:
    """Keep the best and the newest two."""
    best = pointed(folder, "best")
    steps = sorted(folder.glob("step-*"))
    for path in steps[:-KEEP_NEWEST]:
        if path != best:
            remove(path)


def repair(folder: Path, state: TrainState) -> None:
    """Before a run continues: remove what a killed save left, and point `best` to the best step of `state`,
    in case the process was killed before it did.
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
    """The checkpoint at the path given as `ckpt=` (or another `key`): a run (best, else last) or a step-…
    folder.

    Raises CheckpointError.
    """
    return verified(place(ckpt, key=key))


def newest(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint that verifies, or None if there are no checkpoints; and a line for each newer one
    that does not verify.

    Raises CheckpointError if there are checkpoints but none verifies: a fresh start would overwrite them.
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
    """The checkpoint at `path`, after checking the size and sha256 of each file against its manifest."""
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
                f"{path} is damaged: {name} does not match {MANIFEST} (size or sha256 differs)"
            )
    return Checkpoint(path)


def load_tensors(path: Path) -> dict[str, Tensor]:
    try:
        with utf8_name(path) as name:
            return load_file(name)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read as safetensors: {error}") from None


def fill(model: nn.Module, tensors: dict[str, Tensor], *, source: Path) -> None:
    """Load all tensors of a checkpoint into the model. Raises CheckpointError if they do not match."""
    absent = sorted(set(model.state_dict()) - set(tensors))  # torch ignores a missing num_batches_tracked
    try:
        if absent:
            raise RuntimeError(f"{len(absent)} tensors are missing, the first: {absent[0]}")
        model.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        raise CheckpointError(
            f"{source} does not match the model in its config: {' '.join(str(error).split())[:200]}"
        ) from None


class Content(NamedTuple):
    """The content of a checkpoint that a run continues from."""

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
    """Restore a run from `checkpoint`, one of its own; None leaves it unchanged.

    The main process reads and broadcasts: the folder need not be on every machine. Raises CheckpointError if
    the checkpoint does not match the run.
    """
    content = broadcast(None if checkpoint is None else read(checkpoint))
    if content is None:
        return
    path = content.path
    if (content.raw is None) != (state.average is None):
        raise CheckpointError(
            f"{path} does not match its run: {RAW} and trainer.ema_decay (or trainer.swa_start) belong "
            "together, but one of them is missing"
        )
    fill(state.evaluated_model, content.model, source=path)
    if content.raw is not None:
        fill(state.model, content.raw, source=path)
    try:
        state.load_optimizer_tensors(content.optimizer)
        state.load_state_dict(content.scalars)
    except (RuntimeError, KeyError, ValueError, TypeError) as error:  # what torch raises on a mismatch
        raise CheckpointError(
            f"{path} does not match its run: {' '.join(str(error).split())[:200]}"
        ) from None
