"""Loading weights by name and shape, with a list of what was left out."""

import pickle
import struct
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

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
LONGEST_LIST = 20_000  # characters of a list of tensors; the names in a stranger's file may be of any length


class Loaded(NamedTuple):
    used: list[str]
    inflated: list[str]  # of those used: fitted to another number of bands
    not_in_model: list[str]  # in the file, no place for them
    other_shape: list[str]
    not_in_file: list[str]  # in the model, keep their initial values

    def report(self, source: object) -> str:
        """One line for the log, and one for each kind of tensor that was left out."""
        lines = [f"{source}: {len(self.used)} tensors loaded"]
        kinds = {
            "fitted to the number of bands": self.inflated,
            "not in the model": self.not_in_model,
            "of another shape": self.other_shape,
            "not in the file, as initialised": self.not_in_file,
        }
        lines += [f"  {len(names)} {kind}: {printable(', '.join(names), LONGEST_LIST)}" for kind, names in kinds.items() if names]
        return "\n".join(lines)


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or PyTorch file. No code in the file can run: pickles are read with weights_only."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist", hint="leave it unset to start from random weights")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except READERS_RAISE as error:
        raise CheckpointError(
            f"{path} cannot be read as weights: {str(error)[:200].partition(chr(10))[0] or type(error).__name__}"
        ) from None
    except pickle.UnpicklingError:
        raise CheckpointError(f"{path} is not a plain file of weights; it was not loaded, because it could run code") from None
    content = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(content, dict) or not all(is_plain_entry(name, value) for name, value in content.items()):
        raise CheckpointError(f"{path} is not a table of tensors")
    return content


def is_plain_entry(name: object, value: object) -> bool:
    return isinstance(name, str) and isinstance(value, Tensor) and value.layout == torch.strided and not value.is_quantized


def load_matching(model: nn.Module, tensors: dict[str, Tensor], *, source: object) -> Loaded:
    """Copy each tensor whose name and shape the model has; the first convolution also from pictures of another number of bands.

    Raises CheckpointError when there is none.
    """
    own = model.state_dict()
    first = next((name for name, value in own.items() if value.ndim == 4), "")  # the first convolution's kernel
    inflated = [name for name in tensors if name == first and takes_other_bands(own[name], tensors[name])]
    tensors = {name: inflate(value, own[name].shape[1]) if name in inflated else value for name, value in tensors.items()}
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
        other_shape=[name for name, value in tensors.items() if name in own and own[name].shape != value.shape],
        not_in_file=[name for name in own if name not in tensors],
    )


def takes_other_bands(own: Tensor, kernel: Tensor) -> bool:
    """Whether two kernels differ in nothing but the number of bands, and the file's is of RGB."""
    return kernel.ndim == own.ndim == 4 and kernel.shape[1] == 3 != own.shape[1] and own[:, 0].shape == kernel[:, 0].shape


def inflate(kernel: Tensor, bands: int) -> Tensor:
    """An RGB kernel O x 3 x k x k for pictures of another number of bands, such that one whose bands are all equal gives what it gave in RGB.

    The first three bands keep the kernels of red, green and blue, each further one gets their mean; fewer than three get the mean each.
    """
    mean = kernel.mean(dim=1, keepdim=True)
    parts = [kernel, mean.expand(-1, bands - 3, -1, -1)] if bands > 3 else [mean.expand(-1, bands, -1, -1)]
    return torch.cat(parts, dim=1) * 3 / bands
