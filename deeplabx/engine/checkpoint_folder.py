"""Find the folder of a checkpoint. torch is not imported, so a wrong path is reported immediately."""

import json
from pathlib import Path
from typing import Any

from deeplabx.dataset.listing import IMAGE_SUFFIXES
from deeplabx.engine.stage_folders import stage_folders
from deeplabx.errors import CheckpointError

MANIFEST = "MANIFEST.json"
EXPORT = "export.json"  # beside an exported file
EXPORTED = {".onnx": "onnx", ".pt2": "torch_export", ".xml": "openvino", ".safetensors": "safetensors"}
HOW_TO_GIVE = "give the folder of a run (outputs/train/NAME/STAMP) or of a checkpoint (step-...)"


def place(ckpt: str, *, key: str = "ckpt") -> Path:
    """The checkpoint folder for `ckpt=` (or another `key`): of a run (best, else last), or a step-… folder.

    Raises CheckpointError.
    """
    path = Path(ckpt)
    if not path.exists():
        raise CheckpointError(f"{key}={ckpt} does not exist", hint=HOW_TO_GIVE)
    if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
        raise CheckpointError(f"{key}={ckpt} is an image, not a checkpoint", hint=HOW_TO_GIVE)
    exported = exported_file(ckpt)
    if exported is not None:
        raise CheckpointError(
            f"{key}={ckpt} is an exported file, which {key} does not take",
            hint="give the run or checkpoint that it was exported from"
            + (f"; or the weights alone: {key}={exported}" if exported.suffix == ".safetensors" else ""),
        )
    if path.is_file():
        beside = chosen_in(path.parent) == path.parent
        hint = (
            f"set {key}={path.parent}"
            if beside
            else f"{HOW_TO_GIVE}; to convert another program's file: "
            f"deeplabx weights import source={ckpt} out=DIR"
        )
        raise CheckpointError(f"{key}={ckpt} is a file; checkpoints are folders", hint=hint)
    chosen = chosen_in(path)
    if chosen is None:
        raise CheckpointError(f"{key}={ckpt} contains {other_content(path)}", hint=HOW_TO_GIVE)
    return chosen


def exported_file(ckpt: str) -> Path | None:
    """The exported file that `ckpt` is, or that is in the folder `ckpt`; None for anything else.

    Raises CheckpointError for a folder of several. Weights alone are an exported file where export.json is
    beside them: checkpoints and other programs have such files too.
    """
    path = Path(ckpt)
    if path.is_file():
        beside = (path.parent / EXPORT).is_file() or path.suffix in (".onnx", ".pt2")
        model = beside or (path.suffix == ".xml" and path.with_suffix(".bin").is_file())
        return path if path.suffix in EXPORTED and model else None
    if not (path / EXPORT).is_file():
        return None
    found = sorted(one for one in path.iterdir() if one.suffix in EXPORTED)
    if len(found) > 1:
        names = ", ".join(one.name for one in found)
        raise CheckpointError(
            f"{ckpt} holds {len(found)} exported files: {names}", hint=f"give one of them: {found[0]}"
        )
    if not found:
        raise CheckpointError(f"{ckpt} is damaged: its exported file is missing")
    return found[0]


def other_content(folder: Path) -> str:
    """What a folder contains instead of a checkpoint, for an error message."""
    names = sorted(one.name for one in folder.iterdir())
    if any(Path(name).suffix.lower() in IMAGE_SUFFIXES for name in names):
        return "images, not a checkpoint"
    if "sweep.json" in names:
        return f"a sweep, whose jobs are the runs: `deeplabx sweep show {folder}` names the best"
    if "config.yaml" in names:
        return "a run that has saved no checkpoint yet"
    return f"no checkpoint (found: {', '.join(names[:4]) or 'nothing'}{', ...' if len(names) > 4 else ''})"


def chosen_in(folder: Path) -> Path | None:
    """`folder` itself if it is a checkpoint, else the one that its run points to (best, else last), else
    None.
    """
    if (folder / "model.safetensors").is_file() or (folder / MANIFEST).is_file():
        return folder
    runs = stage_folders(folder)[::-1] or [folder]  # of a staged run, its newest stage that has a checkpoint
    places = (place for run in runs for place in (run / "checkpoints", run))
    pointers = (pointed(one, name) for one in places for name in ("best", "last"))
    return next((target for target in pointers if target is not None), None)


def pointed(folder: Path, name: str) -> Path | None:
    """The checkpoint that `folder`/name.json names, or None when there is no such pointer."""
    pointer = folder / f"{name}.json"
    if not pointer.is_file():
        return None
    target = str(read_json(pointer).get("checkpoint", ""))
    if Path(target).name != target or not target.startswith("step-"):
        raise CheckpointError(f"{pointer} does not name a checkpoint beside it: {target!r}")
    return folder / target


def read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path.parent} is damaged: {path.name} is missing") from None
    except (ValueError, OSError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is not a JSON table")
    return content
