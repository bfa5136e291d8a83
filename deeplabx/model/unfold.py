"""Statistics for folded batch norms, measured on images: after that they train as any others."""

from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor, nn

from deeplabx.model.norm import folded_norms


class Moments:
    """Number, mean and sum of squared deviations of each channel's values, in float64. Images are merged as
    pairs of samples are (Chan, Golub, LeVeque 1979): a sum of squares would lose the variance of a channel
    whose mean is large.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = self.deviations = torch.zeros((), dtype=torch.float64)

    def add(self, values: Tensor) -> None:
        """values: N x C x H x W."""
        rows = values.detach().permute(0, 2, 3, 1).flatten(0, 2)  # values x C: several times as fast
        count, mean = len(rows), rows.mean(0)
        deviations, mean = (rows - mean).square().sum(0).double(), mean.double()
        if self.count == 0:
            self.count, self.mean, self.deviations = count, mean, deviations
            return
        total, apart = self.count + count, mean - self.mean
        self.deviations = self.deviations + deviations + apart.square() * (self.count * count / total)
        self.mean = self.mean + apart * (count / total)
        self.count = total

    @property
    def variance(self) -> Tensor:
        """Unbiased, as batch norm keeps it; 0 of a single value."""
        return self.deviations / max(1, self.count - 1)


def unfold_norm(model: nn.Module, images: Iterable[Tensor]) -> list[str]:
    """Give each folded batch norm of `model` the statistics of its inputs over `images`, in place; the names
    of those that have them now. In evaluation mode the model computes what it did before.

    images: normalised, each N x C x H x W, of any sizes. All norms are measured in the same pass, in
    evaluation mode, because the inputs of one do not change with the statistics of another. A norm that the
    model does not use in evaluation mode stays as it is.
    """
    norms = folded_norms(model)
    moments = {name: Moments() for name in norms}
    hooks = [
        norm.register_forward_pre_hook(partial(add_input, moments=moments[name]))
        for name, norm in norms.items()
    ]
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            for some in images:
                model(some)
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes.items():
            module.training = training
    measured = {name: norm for name, norm in norms.items() if moments[name].count}
    for name, norm in measured.items():
        set_statistics(norm, mean=moments[name].mean, variance=moments[name].variance)
    return list(measured)


def add_input(module: nn.Module, inputs: tuple[Tensor, ...], *, moments: Moments) -> None:
    moments.add(inputs[0])


@torch.no_grad()
def set_statistics(norm: nn.BatchNorm2d, *, mean: Tensor, variance: Tensor) -> None:
    """Change the statistics of a batch norm, and its affine parameters so that in evaluation mode it computes
    the same. A channel of variance 0 keeps a finite scale, because eps is added to the variance.
    """
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    norm.bias.copy_(norm.bias.double() + scale * (mean - norm.running_mean.double()))
    norm.weight.copy_(scale * (variance + norm.eps).sqrt())
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
