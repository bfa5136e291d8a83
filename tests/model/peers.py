"""Models of other libraries, whose logits ours must give when both hold the same weights.

tests/model/data/*.json.gz hold the names and shapes of a library's tensors, and every 16th pixel of its
output in float64 on `image` after `model.double().eval()` with the weights of `fill`: {"library":
"torchvision 0.29.2", "shapes": ..., "size": [65, 97], "logits": ...}.
"""

import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import numpy as np
import torch
from torch import Tensor, nn

from deeplabx.backbone.contract import Backbone

DATA = Path(__file__).parent / "data"
EVERY = 16  # pixels from one kept logit to the next


class Golden(NamedTuple):
    shapes: dict[str, list[int]]  # by the library's names
    size: tuple[int, int]
    logits: Tensor


class LastFeatures(nn.Module):
    """A few channels of the last features, each value as often as `difference` passes over it."""

    def __init__(self, backbone: Backbone, *, every: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.every = every

    def forward(self, images: Tensor) -> Tensor:
        high = self.backbone(images).high[:, :: self.every]
        return high.repeat_interleave(EVERY, dim=2).repeat_interleave(EVERY, dim=3)


def golden(name: str) -> Golden:
    stored = json.loads(gzip.decompress((DATA / f"{name}.json.gz").read_bytes()))
    return Golden(
        stored["shapes"],
        (stored["size"][0], stored["size"][1]),
        torch.tensor(stored["logits"], dtype=torch.float64),
    )


def fill(shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """A tensor for every name, drawn from the name alone, in float64; large enough that logits depend on the
    image, small enough to stay finite.
    """
    return {name: drawn(name, tuple(shape)) for name, shape in shapes.items()}


def drawn(name: str, shape: tuple[int, ...]) -> Tensor:
    random = np.random.RandomState(
        crc32(name.encode())
    )  # whose numbers never change from one numpy to the next
    kind = name.rpartition(".")[2]
    if kind == "num_batches_tracked":
        return torch.tensor(0)
    if kind == "running_var":
        return torch.from_numpy(random.uniform(1.0, 2.0, shape))
    if kind == "weight" and len(shape) == 1:
        return torch.from_numpy(random.uniform(0.75, 1.5, shape))
    spread = 0.1 if len(shape) == 1 else (2 / np.prod(shape[1:])) ** 0.5  # He's, for kernels
    return torch.from_numpy(random.standard_normal(shape) * spread)


def image(height: int, width: int) -> Tensor:
    return torch.from_numpy(np.random.RandomState(0).standard_normal((1, 3, height, width)))


def difference(
    model: nn.Module,
    name: str,
    *,
    theirs: Callable[[str], str],
    order: Mapping[str, Sequence[int]] | None = None,
) -> float:
    """The largest difference of our logits from the library's, relative to its largest. `theirs` gives the
    library's name of a tensor of ours.

    order: by the library's name, in which order ours has the input channels. First all names and shapes are
    compared.
    """
    expected = golden(name)
    names = {ours: theirs(ours) for ours in model.state_dict()}
    assert {names[ours]: list(tensor.shape) for ours, tensor in model.state_dict().items()} == expected.shapes
    weights = fill(expected.shapes)
    weights |= {name: weights[name][:, list(channels)] for name, channels in (order or {}).items()}
    model.double().eval().load_state_dict({ours: weights[name] for ours, name in names.items()})
    with torch.no_grad():
        logits = model(image(*expected.size))[:, :, ::EVERY, ::EVERY]
    assert logits.shape == expected.logits.shape
    return float((logits - expected.logits).abs().max() / expected.logits.abs().max())
