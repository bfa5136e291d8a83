"""The estimate of a network's memory, against a count of what torch really allocates."""

import gc

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from deeplabx.engine.footprint import UNKNOWN, bytes_per_pixel, fitting
from deeplabx.errors import PreemptedError
from deeplabx.process.memory import Free


class Branches(nn.Module):
    """A wide layer, at half the size, whose features are needed until the end."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Conv2d(3, 32, 3, padding=1, stride=2), nn.Conv2d(32, 4, 1)
        self.join = nn.Conv2d(36, 5, 1)

    def forward(self, images: Tensor) -> Tensor:
        features = self.wide(images).relu_()
        logits = self.join(torch.cat([features, self.narrow(features)], dim=1))
        return nn.functional.interpolate(logits, images.shape[-2:], mode="bilinear")


def allocated(model: nn.Module, side: int) -> int:
    """The most bytes that torch's allocator held at once, as its profiler noted them."""
    image = torch.zeros(1, 3, side, side)
    gc.collect()
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        model(image)
    sizes = [event.nbytes() for event in memory_events(found)]
    live = peak = 0
    for size in sizes:
        live += size
        peak = max(peak, live)
    return peak + image.nbytes


def memory_events(found: profile) -> list:
    assert found.profiler is not None
    assert found.profiler.kineto_results is not None
    return [event for event in found.profiler.kineto_results.events() if event.name() == "[memory]"]


def test_the_bytes_that_are_counted_without_computing_are_those_that_torch_allocates() -> None:
    model = Branches().eval()
    estimate = bytes_per_pixel(model, channels=3)
    for side in (256, 384):
        assert 0.9 < allocated(model, side) / side**2 / estimate < 1.6


def test_features_that_are_let_go_are_not_counted() -> None:
    layers = [nn.Conv2d(3, 8, 1), *(nn.Conv2d(8, 8, 1) for _ in range(20))]
    # at most an input and an output of 8 channels, beside the image (which is counted twice)
    assert bytes_per_pixel(nn.Sequential(*layers), channels=3) <= 4 * (8 + 8 + 3 + 3)


def test_a_network_that_needs_values_counts_as_needing_more_than_any() -> None:
    class Looks(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images if images.mean().item() > 0 else -images

    assert bytes_per_pixel(Looks(), channels=3) == UNKNOWN


def test_a_part_of_the_free_memory_is_used() -> None:
    free = Free(1000, 2000, "this machine")
    assert [fitting(needed, free) for needed in (100, 350, 700, 701)] == [7, 2, 1, 0]
    assert fitting(10**12, None) == 1


class Stopped(nn.Module):
    """A signal comes while its bytes are counted."""

    def forward(self, images: Tensor) -> Tensor:
        raise PreemptedError("SIGTERM received")


def test_a_signal_while_bytes_are_counted_is_not_lost() -> None:
    with pytest.raises(PreemptedError):
        bytes_per_pixel(Stopped(), channels=3)
