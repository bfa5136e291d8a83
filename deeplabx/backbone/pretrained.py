"""Reading weights files without running code from them, and loading tensors by name and shape, listing those
left out.
"""

import json
import math
import pickle
import struct
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from deeplabx.backbone.normalization import Normalization
from deeplabx.errors import CheckpointError, printable

# raised by the readers on damaged files, found by fuzzing; a pickle that could run code raises
# UnpicklingError instead, because of `weights_only`
READERS_RAISE = (
    SafetensorError,
    RuntimeError,
    OSError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    LookupError,
    EOFError,
    ArithmeticError,
    struct.error,
)
# keys of training checkpoints that hold the model's tensors, beside those of the optimizer
NESTED = ("state_dict", "model_state", "model")
# globals that unpickle a NumPy number, such as a score stored beside the tensors
NUMBERS: list[Any] = [
    np.float64(0).__reduce__()[0],
    np.dtype,
    np.dtypes.Float64DType,
    np.dtypes.Float32DType,
]
BACKBONE_FILE = "backbone.safetensors"  # written by `weights import` for a classification network
LONGEST_LIST = 20_000  # characters of a printed list of tensors: names in a file may be of any length


class Loaded(NamedTuple):
    used: list[str]
    inflated: list[str]  # of those used: adapted to another number of input channels
    not_in_model: list[str]
    other_shape: list[str]
    not_in_file: list[str]  # these keep their initial values

    def report(self, source: object) -> str:
        """One line for the log, then one for each kind of tensor that was adapted or left out; `module.*`
        stands for every tensor of a module.
        """
        others = [*self.used, *self.not_in_model, *self.other_shape, *self.not_in_file]
        lines = [f"{source}: {len(self.used)} tensors loaded"]
        kinds = {
            "adapted to the number of input channels": self.inflated,
            "not in the model": self.not_in_model,
            "of another shape": self.other_shape,
            "not in the file, kept as initialised": self.not_in_file,
        }
        for kind, names in kinds.items():
            if names:
                lines.append(
                    f"  {len(names)} {kind}: {printable(', '.join(by_module(names, others)), LONGEST_LIST)}"
                )
        return "\n".join(lines)


def by_module(names: list[str], others: list[str]) -> list[str]:
    """Shorten a list of tensor names: `module.*` replaces the names of a whole module, the largest one to
    which no other tensor in `others` belongs.
    """
    rest = {prefix for name in set(others) - set(names) for prefix in prefixes(name)}
    largest = [next((prefix for prefix in prefixes(name) if prefix not in rest), name) for name in names]
    counts = Counter(largest)
    return list(
        dict.fromkeys(
            f"{module}.*" if counts[module] > 1 else name for name, module in zip(names, largest, strict=True)
        )
    )


def prefixes(name: str) -> Iterator[str]:
    """The modules that contain a tensor: `a.b.c` gives `a` and `a.b`."""
    return accumulate(name.split(".")[:-1], "{}.{}".format)


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or PyTorch file. Pickles are read with weights_only, so no code in the
    file can run.

    Of a training checkpoint only the model's tensors are returned, without DataParallel's prefix `module.`.
    """
    path = Path(path)
    if path.is_dir():
        raise CheckpointError(
            f"{path} is a folder without known weights",
            hint="set a weights file, or a folder with a model.json",
        )
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist", hint="leave it unset to start from random weights")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals(NUMBERS):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except READERS_RAISE as error:
        raise CheckpointError(
            f"{path} cannot be read as weights: "
            f"{str(error)[:200].partition(chr(10))[0] or type(error).__name__}"
        ) from None
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"{path} contains more than tensors and could run code; not loaded",
            hint="in the program that wrote it, save only the tensors: torch.save(model.state_dict(), FILE)",
        ) from None
    return named_tensors(content, path=path)


def named_tensors(content: Any, *, path: Path) -> dict[str, Tensor]:
    """The state dict in the content of a PyTorch file. Raises CheckpointError if there is none."""
    for key in NESTED:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict) or not all(
        is_plain_entry(name, value) for name, value in content.items()
    ):
        raise CheckpointError(f"{path} contains no state dict (names and dense tensors)")
    parallel = content and all(name.startswith("module.") for name in content)
    return (
        {name.removeprefix("module."): value for name, value in content.items()}
        if parallel
        else dict(content)
    )


def is_plain_entry(name: object, value: object) -> bool:
    return (
        isinstance(name, str)
        and isinstance(value, Tensor)
        and value.layout == torch.strided
        and not value.is_quantized
    )


def load_matching(model: nn.Module, tensors: dict[str, Tensor], *, source: object) -> Loaded:
    """Load each tensor that matches one of the model in name and shape. An RGB kernel of the first
    convolution is adapted to the model's number of input channels.

    Raises CheckpointError if no tensor matches.
    """
    own = model.state_dict()
    first_kernel = next((name for name, value in own.items() if value.ndim == 4), "")
    inflated = [name for name in tensors if name == first_kernel and can_inflate(tensors[name], own[name])]
    tensors = {
        name: inflate(value, own[name].shape[1]) if name in inflated else value
        for name, value in tensors.items()
    }
    used = [name for name, value in tensors.items() if name in own and own[name].shape == value.shape]
    if not used:
        example = next(iter(tensors), "nothing")
        raise CheckpointError(
            f"{source}: none of its {len(tensors)} tensors, such as {example}, matches the model",
            hint=f"the model's tensors have names such as {next(iter(own))}",
        )
    model.load_state_dict({name: tensors[name] for name in used}, strict=False)
    return Loaded(
        used=used,
        inflated=inflated,
        not_in_model=[name for name in tensors if name not in own],
        other_shape=[
            name for name, value in tensors.items() if name in own and own[name].shape != value.shape
        ],
        not_in_file=[name for name in own if name not in tensors],
    )


def can_inflate(kernel: Tensor, own: Tensor) -> bool:
    """Whether `kernel` is for RGB and differs from the model's own only in the number of input channels."""
    return (
        kernel.ndim == own.ndim == 4
        and kernel.shape[1] == 3 != own.shape[1]
        and own[:, 0].shape == kernel[:, 0].shape
    )


def inflate(kernel: Tensor, channels: int) -> Tensor:
    """An RGB kernel O x 3 x k x k as O x channels x k x k. An image with equal channels gives the same output
    as in RGB.

    From four channels up, the first three keep the kernels of red, green and blue and the others get their
    mean; with fewer than three channels, each gets the mean.
    """
    mean = kernel.mean(dim=1, keepdim=True)
    kept = kernel if channels > 3 else kernel[:, :0]
    others = mean.expand(-1, channels - kept.shape[1], -1, -1)
    return torch.cat([kept, others], dim=1) * 3 / channels


# --- the file that `weights import` writes for a backbone ---------------------------------------------------


class BackboneFile(NamedTuple):
    """The tensors of a backbone under our names, with its name and input normalisation."""

    tensors: dict[str, Tensor]
    backbone: str
    normalization: Normalization
    source: str


def save_backbone(content: BackboneFile, folder: Path) -> Path:
    path = folder / BACKBONE_FILE
    metadata = {
        "backbone": content.backbone,
        "mean": json.dumps(content.normalization.mean),
        "std": json.dumps(content.normalization.std),
        "source": content.source,
    }
    save_file(content.tensors, path, metadata=metadata)
    return path


def is_backbone_file(path: Path) -> bool:
    """Whether `save_backbone` wrote this file or folder. A file is recognised by its metadata, because other
    files may have the same name.
    """
    return (path / BACKBONE_FILE).is_file() or "backbone" in metadata_of(path)


def metadata_of(path: Path) -> dict[str, str]:
    """The metadata of a .safetensors file; empty if it cannot be read, which is an error only when its
    tensors are read.
    """
    if path.suffix != ".safetensors" or not path.is_file():
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError):
        return {}


def read_backbone(path: Path) -> BackboneFile:
    """The inverse of `save_backbone`, from the file or its folder. Raises CheckpointError."""
    path = path / BACKBONE_FILE if path.is_dir() else path
    tensors, metadata = read_tensors(path), metadata_of(path)
    try:
        mean, std = (
            tuple(float(number) for number in json.loads(metadata[name])) for name in ("mean", "std")
        )
        if (
            len(mean) != 3
            or len(std) != 3
            or min(std) <= 0
            or not all(math.isfinite(number) for number in (*mean, *std))
        ):
            raise ValueError("mean and std must be three numbers each, std positive")
        return BackboneFile(tensors, metadata["backbone"], Normalization(mean, std), metadata["source"])
    except (KeyError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"{path} has no valid backbone metadata: {printable(repr(error), 120)}"
        ) from None
