"""TensorFlow.js models as tables of tensors: a model.json, and shards of little-endian numbers. Nothing in
them is run.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deeplabx.errors import CheckpointError, printable

TYPES = {"float32": np.dtype("<f4"), "int32": np.dtype("<i4"), "bool": np.dtype("?")}
LARGEST = 2**32  # bytes of one shard; TensorFlow.js writes 4 MiB
MOST_DIMENSIONS = 6  # of a tensor in TensorFlow.js


def read_tfjs(path: Path) -> dict[str, Tensor]:
    """The weights of the model.json at `path` by name, in the layout of TensorFlow: kernels height x width x
    in x out.

    Raises CheckpointError for weights that are damaged, truncated, quantized or of an unknown type.
    """
    tensors: dict[str, Tensor] = {}
    for group in manifest(path):
        content = b"".join(shard(path, name) for name in group["paths"])
        place = 0
        for entry in group["weights"]:
            name, shape, kind = described(entry, path=path)
            count = math.prod(shape) * kind.itemsize
            if place + count > len(content):
                raise CheckpointError(
                    f"{path}: its shards end in the middle of {printable(name)}: truncated, or of another "
                    "model's"
                )
            array = np.frombuffer(content, dtype=kind, count=math.prod(shape), offset=place).reshape(shape)
            tensors[name] = torch.from_numpy(array.astype(kind.newbyteorder("=")))
            place += count
        if place != len(content):
            raise CheckpointError(
                f"{path}: its shards have {len(content)} bytes, but its weights need {place}: "
                "the shards are of another model"
            )
    return tensors


def manifest(path: Path) -> list[dict[str, Any]]:
    """The groups of weights that a model.json lists, each a table with `paths` and `weights`."""
    try:
        groups = json.loads(path.read_text(encoding="utf-8"))["weightsManifest"]
        sound = isinstance(groups, list) and all(
            isinstance(group[part], list) for group in groups for part in ("paths", "weights")
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"{path} cannot be read as a TensorFlow.js model: {type(error).__name__}: "
            f"{printable(str(error), 100)}"
        ) from None
    if not sound:
        raise CheckpointError(
            f"{path} is not a TensorFlow.js model: its weightsManifest is not a list of paths and weights"
        )
    return groups


def shard(path: Path, name: object) -> bytes:
    """A file beside model.json: a path that leads elsewhere is refused."""
    if not isinstance(name, str) or Path(name).name != name:
        raise CheckpointError(f"{path} names a shard that is not beside it: {printable(str(name), 100)}")
    file = path.parent / name
    try:
        if not file.is_file():
            raise CheckpointError(
                f"{path}: its shard {printable(name, 100)} is missing",
                hint="put all files of the model into one folder",
            )
        if file.stat().st_size > LARGEST:
            raise CheckpointError(f"{file} is larger than any network's shard")
        return file.read_bytes()
    except OSError as error:  # a name that is too long, a file that may not be read
        raise CheckpointError(
            f"{path}: its shard {printable(name, 100)} cannot be read: {error.strerror}"
        ) from None


def described(entry: Any, *, path: Path) -> tuple[str, tuple[int, ...], np.dtype]:
    """Name, shape and type of one weight as the manifest states them."""
    try:
        name, shape, kind = entry["name"], tuple(entry["shape"]), entry["dtype"]
    except (KeyError, TypeError):
        raise CheckpointError(f"{path}: a weight in its manifest has no name, shape and dtype") from None
    if "quantization" in entry:
        raise CheckpointError(
            f"{path}: {printable(str(name), 100)} is quantized", hint="only float32 models are read"
        )
    if (
        not isinstance(name, str)
        or not isinstance(kind, str)
        or kind not in TYPES
        or not is_sound(shape, kind=TYPES[kind])
    ):
        raise CheckpointError(f"{path}: {printable(str(name), 100)} is not a tensor of {', '.join(TYPES)}")
    return name, shape, TYPES[kind]


def is_sound(shape: tuple[Any, ...], *, kind: np.dtype) -> bool:
    """Whether a tensor of this shape fits into a shard, counting sides of 0 as 1."""
    sides = all(type(side) is int and side >= 0 for side in shape)
    return (
        sides
        and len(shape) <= MOST_DIMENSIONS
        and math.prod(max(side, 1) for side in shape) * kind.itemsize <= LARGEST
    )


def in_our_layout(kernel: Tensor) -> Tensor:
    """TensorFlow's kernels in PyTorch's layout: height x width x in x out to out x in x height x width, in x
    out to out x in.
    """
    if kernel.ndim not in (2, 4):
        raise CheckpointError(
            f"a tensor of shape {list(kernel.shape)} was found instead of a kernel",
            hint="the file is of another network",
        )
    return kernel.permute(3, 2, 0, 1) if kernel.ndim == 4 else kernel.t()


def depthwise_in_our_layout(kernel: Tensor) -> Tensor:
    """height x width x channels x 1 to channels x 1 x height x width."""
    if kernel.ndim != 4:
        raise CheckpointError(
            f"a tensor of shape {list(kernel.shape)} was found instead of a depthwise kernel",
            hint="the file is of another network",
        )
    return kernel.permute(2, 3, 0, 1)
