import torch
from torch import nn

from deeplabx.model.decoder import Decoder


def test_two_3x3_of_256_follow_the_concatenation() -> None:
    decoder = Decoder(256, 128, separable=False, align_corners=True)
    kernels = [tuple(module.weight.shape) for module in decoder.modules() if isinstance(module, nn.Conv2d)]
    assert kernels == [(48, 128, 1, 1), (256, 304, 3, 3), (256, 256, 3, 3)]  # 1802.02611, tables 1 and 2


def test_the_separable_form_is_depthwise_then_1x1() -> None:
    decoder = Decoder(256, 24, separable=True, align_corners=True)
    kernels = [
        tuple(module.weight.shape) for module in decoder.refine.modules() if isinstance(module, nn.Conv2d)
    ]
    assert kernels == [(304, 1, 3, 3), (256, 304, 1, 1), (256, 1, 3, 3), (256, 256, 1, 1)]


def test_the_output_has_the_low_level_size() -> None:
    decoder = Decoder(256, 24, separable=True, align_corners=True).eval()
    assert decoder(torch.zeros(1, 256, 3, 5), torch.zeros(1, 24, 9, 17)).shape == (1, 256, 9, 17)
