"""deeplabx show: a model's size."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from deeplabx import config as schema
from deeplabx.build import model_of


def show(config: schema.ShowConfig) -> str:
    """Parameters, channels, strides and multiply-adds (convolutions; resizes and pooling count 0) of a model, as text."""
    with torch.device("meta"):
        model = model_of(config, num_classes=config.num_classes).eval()
        images = torch.zeros(1, 3, config.size, config.size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(images)
    backbone = model.backbone
    with torch.no_grad():
        low_level, high = backbone(images)
    rows = {
        "model": config.model.name,
        "backbone": config.backbone.name,
        "parameters": f"{count(model):,} (backbone {count(backbone):,})",
        "multiply-adds": f"{counter.get_total_flops() / 2e9:.2f} billion at {config.size} x {config.size}",
        "output stride": config.backbone.output_stride,
        "features": f"{high.shape[1]} x {high.shape[2]} x {high.shape[3]}",
        "low level": f"{low_level.shape[1]} x {low_level.shape[2]} x {low_level.shape[3]}",
        "classes": config.num_classes,
    }
    return "\n".join(f"{name:<14} {value}" for name, value in rows.items())


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
