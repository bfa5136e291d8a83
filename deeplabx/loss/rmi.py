"""Region Mutual Information (1910.12037): of neighbourhoods in the labels and in the prediction."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from deeplabx.loss.composite import Composite
from deeplabx.loss.contract import Loss
from deeplabx.loss.one_hot import classes_to_compute, of_classes, one_hot

ALPHA = 5e-4  # on the diagonal of the covariances, whose sums are not divided: as in the released code


class RMI(Composite):
    """cross_entropy_weight of the binary cross-entropy, and the rest of the region term, as in the paper's
    released code, which has a half of each. The first is divided by pixels, the second by images.

    Every class is a sigmoid of its own, so that probabilities of a pixel do not add up to 1. The largest
    logit is still the prediction.
    """

    def __init__(self, *, cross_entropy_weight: float = 0.5, radius: int = 3, downsampling: int = 3) -> None:
        region = Region(radius=radius, downsampling=downsampling)
        super().__init__(
            parts=[(cross_entropy_weight, BinaryCrossEntropy()), (1.0 - cross_entropy_weight, region)]
        )


class BinaryCrossEntropy(Loss):
    """Sum over valid pixels and classes of the cross-entropy of the class's sigmoid."""

    def forward(self, logits: Tensor, labels: Tensor, *, ignore_index: int) -> Tensor:
        # Of class c with logit x: softplus(x), less x where the pixel is of it.
        truth = one_hot(labels, logits.shape[1], ignore_index=ignore_index)
        losses = F.softplus(logits).sum(dim=1) - torch.where(truth, logits, 0).sum(dim=1)
        return torch.where(labels != ignore_index, losses, 0).sum()


class Region(Loss):
    """Half the log determinant of the part of the labels' covariance that the prediction does not explain,
    summed over classes and images: the negative of the paper's lower bound of the mutual information.

    A pixel and those beside it, radius x radius of the downsampled image, are one vector y of the labels and
    p of the prediction. With their covariances over the image, M = cov(y) - cov(y, p) cov(p)^-1 cov(p, y);
    the loss is log det(I + M / alpha) / (2 d), d = radius^2. The released code has log det(M + alpha I), a
    constant less: here a class that is not in the labels gives 0. An ignored pixel is
    of no class in labels and prediction. An image that is smaller than the region has a smaller region.

    Everything after the average pooling is float64, image by image, and is computed once more in the backward
    instead of being kept. Cholesky factors are of matrices with alpha on their diagonal: they exist.

    Memory: a copy of the logits (gradient), and about seven times one image's pooled logits in float64 for
    each of radius^2 positions, one image at a time.
    """

    per = "image"

    def __init__(self, *, radius: int, downsampling: int) -> None:
        super().__init__()
        self.radius, self.downsampling = radius, downsampling

    def forward(self, logits: Tensor, labels: Tensor, *, ignore_index: int) -> Tensor:
        losses = [
            checkpoint(
                self.of_image, scores, label, ignore_index, use_reentrant=False, preserve_rng_state=False
            )
            for scores, label in zip(logits.split(1), labels.split(1), strict=True)
        ]
        return torch.stack(losses).sum()

    def of_image(self, logits: Tensor, labels: Tensor, ignore_index: int) -> Tensor:
        """The loss of one image, logits 1 x C x H x W, labels 1 x H x W; 0-d."""
        truth = one_hot(labels, logits.shape[1], ignore_index=ignore_index)[0]
        chosen = classes_to_compute(truth.any(dim=2).any(dim=1))
        truth, scores = of_classes(truth, chosen), of_classes(logits[0], chosen)
        shares = torch.where(labels != ignore_index, scores.sigmoid(), 0)
        y, p = self.vectors(truth.to(shares.dtype)), self.vectors(shares)  # classes x d x points
        unit = torch.eye(y.shape[1], dtype=y.dtype, device=y.device)
        factor = torch.linalg.cholesky_ex(p @ p.mT + ALPHA * unit).L
        explained = torch.linalg.solve_triangular(factor, p @ y.mT, upper=False)
        rest = y @ y.mT - explained.mT @ explained
        pivots = torch.linalg.cholesky_ex(rest / ALPHA + unit).L.diagonal(dim1=1, dim2=2)
        return (pivots.log().sum() / y.shape[1]).to(logits.dtype)

    def vectors(self, maps: Tensor) -> Tensor:
        """The centred vectors of all positions, C x H x W to float64 C x d x points."""
        size = self.downsampling
        planes = maps[:, None].contiguous()  # each a batch's image: there may be no class
        pooled = F.avg_pool2d(planes, size, stride=size, padding=size // 2)[:, 0] if size > 1 else maps
        height, width = pooled.shape[1:]
        rows, columns = min(self.radius, height), min(self.radius, width)
        down, across = height - rows + 1, width - columns + 1
        shifted = [
            pooled[:, row : row + down, column : column + across].flatten(1)
            for row in range(rows)
            for column in range(columns)
        ]
        found = torch.stack(shifted, dim=1).double()
        return found - found.mean(dim=2, keepdim=True)
