"""Reference outputs, to check an import: what other programs computed with their own weights on a generated
image.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from deeplabx.backbone.normalization import Normalization
from deeplabx.weights.contract import Imported

FOLDER = Path(__file__).parent / "outputs"
KEPT = {"Google's DeepLabv3 on MobileNetV2": "google_deeplabv3_mobilenetv2.json"}  # by Imported.source
TOLERANCE = 1e-3  # of the largest logit: float32 on another machine, in another order


class Truth(NamedTuple):
    program: str  # the program that ran the original, and the output that was recorded
    size: tuple[int, int]  # of the image
    padded: int  # side of the square that it is padded to, right and below, with the mean
    every: int  # pixels from one position to the next
    positions: list[tuple[int, int]]  # row, column
    logits: list[list[float]]  # of each position

    def difference(self, model: nn.Module, normalization: Normalization) -> float:
        """The largest difference between a model's logits, in eval mode, and these, relative to the largest
        of these.
        """
        height, width = self.size
        images = torch.zeros(1, 3, self.padded, self.padded)
        images[:, :, :height, :width] = normalization(torch.from_numpy(drawn(height, width))[None])
        with torch.no_grad():
            logits: Tensor = model(images)[0, :, :: self.every, :: self.every]
        ours = torch.stack([logits[:, row, column] for row, column in self.positions])
        theirs = torch.tensor(self.logits)
        return float((ours - theirs).abs().max() / theirs.abs().max())


def drawn(height: int, width: int) -> np.ndarray:
    """A uint8 RGB image of stripes and blocks, the same everywhere."""
    y, x, channel = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    return ((3 * x + 5 * y + 40 * channel + x * y // 64) % 256).astype(np.uint8)


def truth_of(found: Imported) -> Truth | None:
    """The reference outputs for these weights, None if there are none."""
    if found.source not in KEPT:
        return None
    kept = json.loads((FOLDER / KEPT[found.source]).read_text(encoding="utf-8"))
    positions = [(row, column) for row, column in kept["positions"]]
    return Truth(
        kept["program"],
        (kept["size"][0], kept["size"][1]),
        kept["padded"],
        kept["every"],
        positions,
        kept["logits"],
    )
