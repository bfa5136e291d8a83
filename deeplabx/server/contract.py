"""What the server is given, what it allows, and how it refuses."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from deeplabx.dataset.contract import Palette
from deeplabx.process.signals import StopRequest


class Segmentation(NamedTuple):
    """The ids of an image, H x W, and how probable each is, from 0 to 255; None where that is not known."""

    ids: np.ndarray
    probability: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """A model as the server uses it.

    segment: of a uint8 image H x W x 3, with or without probabilities, until it is stopped, for which it may
    raise InterruptedPredictionError; one thread calls it. overlay: an image with the colours of its ids laid
    over it, at an opacity. channels: dataset.channels.
    """

    name: str
    classes: list[str]
    palette: Palette
    segment: Callable[[np.ndarray, bool, StopRequest], Segmentation]
    overlay: Callable[[np.ndarray, np.ndarray, float], np.ndarray]
    channels: list[int] | None = None


@dataclass(frozen=True, kw_only=True)
class Limits:
    """max_bytes, max_pixels: of an image. queue: images that are accepted at a time. timeout: in seconds, of
    sending an image, of waiting for the answer, and of receiving it.
    """

    max_bytes: int
    max_pixels: int
    queue: int
    timeout: float


class RefusedError(Exception):
    """A request that is answered with an error. retry_after: seconds after which it may succeed."""

    def __init__(self, status: int, message: str, *, hint: str = "", retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.hint, self.retry_after = status, message, hint, retry_after


class ClientGoneError(Exception):
    """The client has closed the connection before it was answered."""
