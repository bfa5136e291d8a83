"""What a checkpoint says of the data that its weights depend on, beside the classes."""

from typing import Any, NamedTuple

from deeplabx.dataset.fingerprint import Images, RawValues


class DataRecord(NamedTuple):
    """What of the data the weights depend on, beside the classes and the ignore index."""

    given_root: str | None  # dataset.root as it was typed; the config has it absolute
    raw_values: RawValues | None
    training: Images
    evaluated: Images
    accepted: list[dict[str, int]]  # changes of the training images that the user accepted, by step

    def to_plain(self) -> dict[str, Any]:
        return {
            **self._asdict(),
            "raw_values": None if self.raw_values is None else self.raw_values._asdict(),
            "training": self.training._asdict(),
            "evaluated": self.evaluated._asdict(),
        }

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> "DataRecord":
        """The inverse of `to_plain`. Raises KeyError, TypeError or ValueError for anything else."""
        raw, root = plain["raw_values"], plain["given_root"]
        if not (root is None or isinstance(root, str)):
            raise ValueError("data.given_root is not a path")
        return cls(
            given_root=root,
            raw_values=None if raw is None else RawValues(texts(raw["of_classes"]), str(raw["ignored"])),
            training=images_from(plain["training"]),
            evaluated=images_from(plain["evaluated"]),
            accepted=[{str(name): int(value) for name, value in one.items()} for one in plain["accepted"]],
        )


def texts(values: Any) -> list[str]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError("data.raw_values is not a list of texts")
    return values


def images_from(plain: dict[str, Any]) -> Images:
    sha256 = plain["sha256"]
    if not (sha256 is None or (isinstance(sha256, str) and len(sha256) == 64 and sha256.isalnum())):
        raise ValueError("data: a sha256 is not one")
    return Images(str(plain["split"]), int(plain["number"]), sha256)
