"""Files of weights, read as data, and loading by name and shape with a list of what was left out."""

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

from deeplabx.backbone.contract import Normalization
from deeplabx.errors import CheckpointError, printable

# on damaged files, by fuzzing; `weights_only` refuses what could run code with an UnpicklingError
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
# Under which programs keep a model's tensors beside those of their optimizer.
NESTED = ("state_dict", "model_state", "model")
# Of a score that lies beside them.
NUMBERS: list[Any] = [np.float64(0).__reduce__()[0], np.dtype, np.dtypes.Float64DType, np.dtypes.Float32DType]
BACKBONE_FILE = "backbone.safetensors"  # what `weights import` writes for a classification network
LONGEST_LIST = 20_000  # characters of a list of tensors; the names in a stranger's file may be of any length


class Loaded(NamedTuple):
    used: list[str]
    inflated: list[str]  # of those used: fitted to another number of bands
    not_in_model: list[str]  # in the file, no place for them
    other_shape: list[str]
    not_in_file: list[str]  # in the model, keep their initial values

    def report(self, source: object) -> str:
        """One line for the log, and one for each kind of tensor that was left out; `module.*` where it is
        every tensor of a module.
        """
        others = [*self.used, *self.not_in_model, *self.other_shape, *self.not_in_file]
        lines = [f"{source}: {len(self.used)} tensors loaded"]
        kinds = {
            "fitted to the number of bands": self.inflated,
            "not in the model": self.not_in_model,
            "of another shape": self.other_shape,
            "not in the file, as initialised": self.not_in_file,
        }
        for kind, names in kinds.items():
            if names:
                lines.append(
                    f"  {len(names)} {kind}: {printable(', '.join(by_module(names, others)), LONGEST_LIST)}"
                )
        return "\n".join(lines)


def by_module(names: list[str], others: list[str]) -> list[str]:
    """Names of tensors, shorter: `module.*` for each largest module, of several tensors, with no tensor among
    the rest of `others`.
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
    """`a.b.c` gives `a` and `a.b`: the modules that hold a tensor."""
    return accumulate(name.split(".")[:-1], "{}.{}".format)


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or PyTorch file. No code in the file can run: pickles are read with
    weights_only.

    Of a training's file only the model's are read; the prefix `module.`, which DataParallel puts before all
    names, is taken away.
    """
    path = Path(path)
    if path.is_dir():
        raise CheckpointError(
            f"{path} is a folder, and holds no weights that are known",
            hint="give a file of weights, or model.json's folder",
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
            f"{path} is not a plain file of weights; it was not loaded, because it could run code",
            hint="the program that made it can write a plain one: torch.save(model.state_dict(), FILE)",
        ) from None
    return named_tensors(content, path=path)


def named_tensors(content: Any, *, path: Path) -> dict[str, Tensor]:
    """What a PyTorch file holds as a table of tensors. Raises CheckpointError when there is none in it."""
    for key in NESTED:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict) or not all(
        is_plain_entry(name, value) for name, value in content.items()
    ):
        raise CheckpointError(f"{path} is not a table of tensors")
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
    """Copy each tensor whose name and shape the model has; the first convolution also from images of another
    number of bands.

    Raises CheckpointError when there is none.
    """
    own = model.state_dict()
    # The first convolution's kernel.
    first = next((name for name, value in own.items() if value.ndim == 4), "")
    inflated = [name for name in tensors if name == first and takes_other_bands(own[name], tensors[name])]
    tensors = {
        name: inflate(value, own[name].shape[1]) if name in inflated else value
        for name, value in tensors.items()
    }
    used = [name for name, value in tensors.items() if name in own and own[name].shape == value.shape]
    if not used:
        example = next(iter(tensors), "nothing")
        raise CheckpointError(
            f"{source} fits no tensor of the model: it has {len(tensors)}, such as {example}",
            hint=f"the model's are named like {next(iter(own))}",
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


def takes_other_bands(own: Tensor, kernel: Tensor) -> bool:
    """Whether two kernels differ in nothing but the number of bands, and the file's is of RGB."""
    return (
        kernel.ndim == own.ndim == 4
        and kernel.shape[1] == 3 != own.shape[1]
        and own[:, 0].shape == kernel[:, 0].shape
    )


def inflate(kernel: Tensor, bands: int) -> Tensor:
    """An RGB kernel O x 3 x k x k for images of another number of bands, such that one whose bands are all
    equal gives what it gave in RGB.

    The first three bands keep the kernels of red, green and blue, each further one gets their mean; fewer
    than three get the mean each.
    """
    mean = kernel.mean(dim=1, keepdim=True)
    parts = [kernel, mean.expand(-1, bands - 3, -1, -1)] if bands > 3 else [mean.expand(-1, bands, -1, -1)]
    return torch.cat(parts, dim=1) * 3 / bands


# --- what `weights import` writes for a backbone ------------------------------------------------------------


class BackboneFile(NamedTuple):
    """A backbone's tensors in our names, with what they mean: whose backbone, and what it expects of its
    input.
    """

    tensors: dict[str, Tensor]
    backbone: str
    normalization: Normalization
    source: str


def save_backbone(content: BackboneFile, folder: Path) -> Path:
    path = folder / BACKBONE_FILE
    words = {
        "backbone": content.backbone,
        "mean": json.dumps(content.normalization.mean),
        "std": json.dumps(content.normalization.std),
        "source": content.source,
    }
    save_file(content.tensors, path, metadata=words)
    return path


def is_backbone_file(path: Path) -> bool:
    """Whether a folder or file is one that `save_backbone` wrote; others of tensors may have its name."""
    return (path / BACKBONE_FILE).is_file() or "backbone" in words_in(path)


def words_in(path: Path) -> dict[str, str]:
    """What a .safetensors file says beside its tensors; nothing where it cannot be read, which is told when
    the tensors are.
    """
    if path.suffix != ".safetensors" or not path.is_file():
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError):
        return {}


def read_backbone(path: Path) -> BackboneFile:
    """The inverse of `save_backbone`, of the file or of its folder. Raises CheckpointError."""
    path = path / BACKBONE_FILE if path.is_dir() else path
    tensors, words = read_tensors(path), words_in(path)
    try:
        mean, std = (tuple(float(number) for number in json.loads(words[name])) for name in ("mean", "std"))
        if (
            len(mean) != 3
            or len(std) != 3
            or min(std) <= 0
            or not all(math.isfinite(number) for number in (*mean, *std))
        ):
            raise ValueError("mean and std are not of three channels")
        return BackboneFile(tensors, words["backbone"], Normalization(mean, std), words["source"])
    except (KeyError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"{path} does not say whose weights it holds: {printable(repr(error), 120)}"
        ) from None
