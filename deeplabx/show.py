"""deeplabx show and list: what models and backbones cost, from networks without memory."""

from itertools import groupby
from typing import NamedTuple

import torch

from deeplabx import config as schema
from deeplabx.backbone import BACKBONES
from deeplabx.build import model_of, network
from deeplabx.model import DeepLab
from deeplabx.model.size import Convolution, Stage, billions, convolutions, parameter_count, stages

SIZE = 513  # of the images for which `list` counts
ANY_OF_TIMM = "any of timm's: backbone.model=convnext_tiny; needs pip install 'deeplabx[timm]'; `show` counts"


class Measured(NamedTuple):
    model: DeepLab
    ran: list[Convolution]
    of_backbone: list[Convolution]


def measured(model: DeepLab, size: int) -> Measured:
    ran = convolutions(model, height=size, width=size)
    return Measured(
        model, ran, [convolution for convolution in ran if convolution.name.startswith("backbone.")]
    )


def show(config: schema.ShowConfig) -> str:
    """Parameters, multiply-adds (convolutions; resizes and pooling count 0), channels, strides and rates of a
    model, as text.
    """
    with torch.device("meta"):
        model = model_of(config, num_classes=config.num_classes).eval()
    found = measured(model, config.size)
    once = list({convolution.name: convolution for convolution in reversed(found.ran)}.values())[
        ::-1
    ]  # of several scales the first
    of_backbone = [convolution for convolution in once if convolution.name.startswith("backbone.")]
    head = [
        convolution for convolution in once if convolution not in of_backbone and convolution.kernel_size > 1
    ]
    backbone = model.backbone
    rows = {
        "model": config.model.name,
        "backbone": getattr(config.backbone, "model", config.backbone.name),  # of timm's, which one
        "parameters": f"{parameter_count(model):,} (backbone {parameter_count(backbone):,})",
        "multiply-adds": f"{billions(found.ran):.2f} billion at {config.size} x {config.size} (backbone "
        f"{billions(found.of_backbone):.2f})",
        "padded": f"{billions(found.ran, padded=True):.2f} billion, as the papers count: atrous grids "
        "rounded up to a multiple of the rate",
        "output stride": backbone.output_stride,
        "features": f"{backbone.channels} channels at stride {backbone.output_stride}, "
        f"{backbone.low_level_channels} at stride 4",
        "head": ", ".join(f"{side}x{side} at rates {', '.join(rates)}" for side, rates in kernels(head))
        or "no 3x3",
        "classes": config.num_classes,
    }
    lines = [f"{name:<14} {value}" for name, value in rows.items()]
    return "\n".join([*lines, "", *stage_table(stages(of_backbone, height=config.size))])


def kernels(ran: list[Convolution]) -> list[tuple[int, list[str]]]:
    """The rates of consecutive convolutions of one kernel size, with that size."""
    return [
        (side, [str(convolution.rate) for convolution in same])
        for side, same in groupby(ran, key=lambda convolution: convolution.kernel_size)
    ]


def stage_table(rows: list[Stage]) -> list[str]:
    """The backbone's convolutions wider than 1x1, in order."""
    header = f"{'stride':>6} {'rate':>5} {'channels':>9} {'convolutions wider than 1x1':>28}"
    return [header, *(f"{row.stride:>6} {row.rate:>5} {row.channels:>9} {row.members:>28}" for row in rows)]


def backbone_table() -> str:
    """Every backbone at output stride 16, and what DeepLabv3+ with 21 classes costs on it."""
    header = (
        f"{'backbone':<20} {'parameters':>12} {'channels':>9} {'low level':>10} "
        f"{'v3+ parameters':>15} {'v3+ multiply-adds at 513':>25}"
    )
    lines = [header]
    for name in BACKBONES:
        if name == "timm":
            lines.append(f"{name:<20} {ANY_OF_TIMM}")
            continue
        with torch.device("meta"):
            model = network("deeplabv3plus", name, num_classes=21, of_backbone={}, of_model={}).eval()
        backbone = model.backbone
        cost = f"{billions(measured(model, SIZE).ran):.2f} billion"
        lines.append(
            f"{name:<20} {parameter_count(backbone):>12,} {backbone.channels:>9} "
            f"{backbone.low_level_channels:>10} "
            f"{parameter_count(model):>15,} {cost:>25}"
        )
    return "\n".join(lines)
