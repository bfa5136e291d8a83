"""Random numbers by name: those of one operator do not depend on which others are switched on."""

import functools
import zlib

import numpy as np


class Draws:
    """Generators that are derived from a sample's, each by its name. Nothing is drawn from that one."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    @functools.cached_property
    def seed(self) -> np.random.SeedSequence:
        (child,) = self.rng.bit_generator.seed_seq.spawn(1)  # type: ignore[attr-defined]
        return child

    def of(self, name: str) -> np.random.Generator:
        key = (*self.seed.spawn_key, zlib.crc32(name.encode()))
        return np.random.default_rng(np.random.SeedSequence(self.seed.entropy, spawn_key=key))
