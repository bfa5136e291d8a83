"""The fully connected CRF (Kraehenbuehl and Koltun, 1210.5644) that refines the predictions of DeepLabv1
(section 3.2) and v2 (section 3.3).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from deeplabx.errors import ConfigError

# Lattice values that are filtered at once. For larger blocks, glibc's malloc asks the system for memory every
# time, which takes longer than the blur itself.
BYTES_AT_A_TIME = 2**25
FINEST = 1e-3  # smallest standard deviation: an image's lattice coordinates are still exact in float32


@dataclass(frozen=True)
class DenseCRF:
    """Mean-field inference with Potts compatibility. The defaults are those released with v2. v1 uses
    position_weight 3 and position_xy 3, and searches bilateral_weight in 5..10, bilateral_xy in 50..100 and
    bilateral_rgb in 3..10.
    """

    iterations: int = 10
    position_weight: float = 3.0  # w2
    position_xy: float = 1.0  # sigma_gamma, pixels
    bilateral_weight: float = 4.0  # w1
    bilateral_xy: float = 67.0  # sigma_alpha, pixels
    bilateral_rgb: float = 3.0  # sigma_beta, grey levels

    def __post_init__(self) -> None:
        for name in ("position_xy", "bilateral_xy", "bilateral_rgb"):
            if not getattr(self, name) >= FINEST:
                raise ValueError(
                    f"{name}={getattr(self, name)} is a standard deviation: it must be at least {FINEST}"
                )

    @torch.no_grad()
    def __call__(self, image: Tensor, probabilities: Tensor) -> Tensor:
        """A uint8 image H x W x 3 and probabilities C x H x W to float32 marginals C x H x W, on the device
        of the probabilities.
        """
        check_input(image, probabilities)
        # A probability may underflow to 0, and no message could outweigh its log of -inf. The log of the
        # smallest normal number is finite.
        smallest = torch.finfo(torch.float32).tiny
        # HW C, contiguous: the classes of a pixel are adjacent in memory
        scores = probabilities.float().clamp(min=smallest).log().flatten(1).T.contiguous()
        position, bilateral = self.filters(image.to(scores.device))
        marginals = scores.softmax(dim=1)
        for _ in range(self.iterations):
            messages = self.position_weight * position(marginals) + self.bilateral_weight * bilateral(
                marginals
            )
            marginals = (scores + messages).softmax(dim=1)
        return marginals.T.reshape(probabilities.shape)

    def filters(self, image: Tensor) -> tuple["NormalizedFilter", "NormalizedFilter"]:
        """The two kernels of v2's equation 3: of position, and of position and colour."""
        y, x = torch.meshgrid(
            *(torch.arange(size, device=image.device) for size in image.shape[:2]), indexing="ij"
        )
        xy = torch.stack([x, y], dim=-1)
        bilateral = torch.cat([xy / self.bilateral_xy, image / self.bilateral_rgb], dim=-1)
        return NormalizedFilter((xy / self.position_xy).flatten(0, 1)), NormalizedFilter(
            bilateral.flatten(0, 1)
        )


def check_input(image: Tensor, probabilities: Tensor) -> None:
    if image.dtype != torch.uint8:
        raise ValueError(f"the image is {image.dtype}: the CRF needs torch.uint8, with values from 0 to 255")
    if probabilities.ndim != 3 or image.shape != (*probabilities.shape[1:], 3):
        found = f"image {tuple(image.shape)} and probabilities {tuple(probabilities.shape)}"
        raise ValueError(f"{found} do not match: the CRF needs H x W x 3 and C x H x W")


class NormalizedFilter:
    """Gaussian filter of unit variance over the points `features` N x d, its kernel k(i, j) divided by
    sqrt(sum_i k * sum_j k).
    """

    def __init__(self, features: Tensor) -> None:
        self.splat, self.blurs, self.slice = permutohedral_filter(features)
        # The overall scale of the kernel cancels in this normalisation: the lattice may ignore it.
        self.norm = self.unnormalized(features.new_ones(len(features), 1)).rsqrt()  # N 1

    def __call__(self, values: Tensor) -> Tensor:
        lattice_bytes = len(self.blurs[0].rows) * values.shape[1] * values.element_size()
        parts = (self.norm * values).chunk(math.ceil(lattice_bytes / BYTES_AT_A_TIME), dim=1)
        return self.norm * torch.cat([self.unnormalized(part.contiguous()) for part in parts], dim=1)  # N C

    def unnormalized(self, values: Tensor) -> Tensor:
        values = self.splat(values)
        for blur in self.blurs:
            values = blur(values)
        return self.slice(values)


@dataclass(frozen=True)
class WeightedSums:
    """A sparse matrix: for each row of the result, the input rows to add up and their weights. Both are
    n x k, or flat, with the first index of each result row in `starts`.
    """

    rows: Tensor  # int32: half the memory of int64
    weights: Tensor
    starts: Tensor | None = None

    def __call__(self, values: Tensor) -> Tensor:
        # A gather writes each row once and adds in a fixed order: it is faster than a scatter, and
        # deterministic.
        return F.embedding_bag(self.rows, values, self.starts, mode="sum", per_sample_weights=self.weights)


def permutohedral_filter(features: Tensor) -> tuple[WeightedSums, list[WeightedSums], WeightedSums]:
    """Splat, blur along each of d+1 directions and slice: Gaussian filtering on the permutohedral lattice
    (Adams et al. 2010).
    """
    n, d = features.shape
    origins, ranks, weights = enclosing_simplex(elevate(features))
    vertices, strides = pack(origins, ranks)
    in_order, source = vertices.flatten().sort(stable=True)
    points, index, counts = torch.unique_consecutive(in_order, return_inverse=True, return_counts=True)
    splat = WeightedSums(
        (source // (d + 1)).int(), weights.flatten()[source], (counts.cumsum(0) - counts).int()
    )
    blurs = [blur_along(points, stride) for stride in strides]
    slice_rows = torch.empty_like(index).scatter_(0, source, index).view(n, d + 1)
    return splat, blurs, WeightedSums(slice_rows.int(), weights)


def elevate(features: Tensor) -> Tensor:
    """Map N x d points onto the plane of d+1 coordinates that sum to 0, scaled so that splat, blur and slice
    together have unit variance.
    """
    d = features.shape[1]
    axis = torch.arange(1, d + 1, device=features.device)
    scaled = features * ((d + 1) * math.sqrt(2 / 3) / (axis * (axis + 1)).sqrt())
    later = scaled.flip(1).cumsum(1).flip(1)  # the sum over this axis and those after it
    return F.pad(later, (0, 1)) - F.pad(axis * scaled, (1, 0))


def enclosing_simplex(elevated: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The simplex around each point: its remainder-0 vertex in units of d+1, the ranks of the point's offsets
    from that vertex (0 for the largest), and the barycentric weights of the vertices of remainder 0 to d. All
    are N x (d+1).
    """
    size = elevated.shape[1]
    origins = (elevated / size).round().long()
    order = (elevated - size * origins).argsort(dim=1, descending=True, stable=True)
    ranks = torch.empty_like(order).scatter_(
        1, order, torch.arange(size, device=order.device).expand_as(order)
    )
    # Rounding each coordinate may leave the plane. Move as many coordinates as the sum is off, those with the
    # largest rounding error, to the next multiple.
    ranks += origins.sum(dim=1, keepdim=True)
    moved = (ranks < 0).long() - (ranks >= size).long()
    origins, ranks = origins + moved, ranks + size * moved
    offsets = elevated / size - origins
    by_rank = torch.empty_like(offsets).scatter_(1, ranks, offsets)
    gaps = by_rank - by_rank.roll(-1, dims=1)
    gaps[:, -1] += 1
    return origins, ranks, gaps.flip(1)


def pack(origins: Tensor, ranks: Tensor) -> tuple[Tensor, list[int]]:
    """Encode the vertices of each simplex, N x (d+1), as one integer each; also return the difference between
    the integers of neighbours along each of d+1 directions.
    """
    d = origins.shape[1] - 1
    lowest, highest = origins[:, :d].aminmax(dim=0)
    # base of each digit, with room on both sides for a vertex and its neighbour
    digits = ((d + 1) * (highest - lowest + 4) + 1).tolist()
    if math.prod(digits) >= 2**63:
        raise ConfigError(
            "the standard deviations of the CRF are too small for this image",
            hint="set larger ones, for example eval.crf_position=[3,1] eval.crf_bilateral=[4,67,3]",
        )
    places = [math.prod(digits[:axis]) for axis in range(d)]
    place = torch.tensor(places, device=origins.device)
    first = ((d + 1) * (origins[:, :d] - lowest + 2) * place).sum(dim=1)
    # The vertex of remainder k adds k to every coordinate and subtracts d+1 from the k that rank last.
    vertices = [
        first + k * sum(places) - (d + 1) * ((ranks[:, :d] > d - k) * place).sum(dim=1) for k in range(d + 1)
    ]
    return torch.stack(vertices, dim=1), [(d + 1) * along - sum(places) for along in (*places, 0)]


def blur_along(points: Tensor, stride: int) -> WeightedSums:
    """Weights 1/2, 1, 1/2 for a lattice point and its neighbours on both sides; a neighbour that is not in
    `points` counts as 0.
    """
    rows = torch.arange(len(points), dtype=torch.int32, device=points.device)[:, None].repeat(1, 3)
    weights = torch.tensor([0.0, 1.0, 0.0], device=points.device).repeat(len(points), 1)
    found = torch.searchsorted(points, points + stride).clamp_(max=len(points) - 1)
    here = (points[found] == points + stride).nonzero()[:, 0]
    there = found[here]
    for center, neighbour, side in ((here, there, 2), (there, here, 0)):
        rows[center, side] = neighbour.int()
        weights[center, side] = 0.5
    return WeightedSums(rows, weights)
