"""deeplabx show: what a model costs, from a network without memory."""

from itertools import groupby

import torch

from deeplabx.command.job import Job
from deeplabx.config import schema
from deeplabx.model.size import Convolution, Stage, billions, convolutions, parameter_count, stages
from deeplabx.run.build import model_of


def main(job: Job) -> None:
    print(show(job.config))


def show(config: schema.ShowConfig) -> str:
    """Parameters, multiply-adds (convolutions; resizes and pooling count 0), channels, strides and rates of a
    model, as text.
    """
    with torch.device("meta"):
        model = model_of(config, num_classes=config.num_classes, in_channels=config.in_channels).eval()
    ran = convolutions(model, height=config.size, width=config.size)
    backbones = [one for one in ran if one.name.startswith("backbone.")]
    once = list({one.name: one for one in reversed(ran)}.values())[::-1]  # of several scales the first
    of_backbone = [one for one in once if one.name.startswith("backbone.")]
    head = [one for one in once if one not in of_backbone and one.kernel_size > 1]
    backbone = model.backbone
    rows = {
        "model": config.model.name,
        "backbone": getattr(config.backbone, "model", config.backbone.name),  # of timm's, which one
        "parameters": f"{parameter_count(model):,} (backbone {parameter_count(backbone):,})",
        "multiply-adds": f"{billions(ran):.2f} billion at {config.size} x {config.size} (backbone "
        f"{billions(backbones):.2f})",
        "padded": f"{billions(ran, padded=True):.2f} billion, as the papers count: atrous grids "
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
