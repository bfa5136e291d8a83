"""The input normalisation of every network with known weights. torch is not imported, because the table of
known weights uses this too.
"""

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Normalization(NamedTuple):
    """(pixel - mean) / std of each channel, pixels in 0..255."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, images: "Tensor") -> "Tensor":
        """Decoded uint8 images N x H x W x C to float32 N x C x H x W, channels_last in memory."""
        mean, std = (on_device(tuple(values), images.device) for values in (self.mean, self.std))
        return ((images.float() - mean) / std).permute(0, 3, 1, 2)

    @property
    def pad_pixel(self) -> tuple[int, ...]:
        """The rounded mean pixel, used to pad images: about zero once normalised."""
        return tuple(round(channel) for channel in self.mean)


@lru_cache(maxsize=32)
def on_device(values: tuple[float, ...], device: "torch.device") -> "Tensor":
    """A float32 tensor of these values. Kept, because a copy to a GPU would wait for all that it does."""
    import torch

    with torch.inference_mode(False):  # one made in evaluation is used in training too
        return torch.tensor(values, device=device)


# torchvision's ImageNet training
IMAGENET = Normalization(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
# the Caffe networks published with v1 and v2, here in RGB order
CAFFE = Normalization(mean=(122.675, 116.669, 104.008), std=(1.0, 1.0, 1.0))
# TensorFlow's MobileNet and Xception
MINUS_ONE_TO_ONE = Normalization(mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5))
# Keras's ResNet-50, here in RGB order
KERAS = Normalization(mean=(123.68, 116.779, 103.939), std=(1.0, 1.0, 1.0))
# TensorFlow's EfficientNet-Lite
EFFICIENTNET_LITE = Normalization(mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0))
