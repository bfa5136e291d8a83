"""Dice loss (1606.04797; 1707.03237)."""

from deeplabx.loss.tversky import Tversky


class Dice(Tversky):
    """1 - D of each image, the mean over the classes in its labels, summed over the images, with

    D = (2 TP + smooth) / (sum of the probabilities + pixels of the class + smooth)

    over the valid pixels: of each class as 1707.03237 has it for two (its DL2), without the squares
    of 1606.04797. That is Tversky's loss with alpha and beta of a half.
    """

    def __init__(self, *, smooth: float = 1.0) -> None:
        super().__init__(alpha=0.5, beta=0.5, smooth=smooth / 2)
