"""The input and output of an importer."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from deeplabx.backbone.normalization import Normalization
from deeplabx.errors import CheckpointError

BATCH_NORM_EPS = 1e-5  # of imported batch norms, unless another is given
BATCH_NORM = (
    "weight",
    "bias",
    "running_mean",
    "running_var",
)  # what each holds, besides the counter of batches
COUNTER = "num_batches_tracked"


class Origin(NamedTuple):
    """Where one of our tensors comes from."""

    theirs: str | None  # the foreign name; None: created by the importer
    words: str = ""  # how it was converted, or why it was created

    @property
    def kind(self) -> str:
        return "made" if self.theirs is None else "changed" if self.words else "taken"

    def __str__(self) -> str:
        if self.theirs is None:
            return self.words
        return f"{self.theirs} ({self.words})" if self.words else self.theirs


class Imported(NamedTuple):
    """A foreign file, converted to our names. `settings`: those of `deeplabx train` that build its network;
    without `model`, they build a backbone only.
    """

    source: str  # for example "torchvision's DeepLabv3"
    settings: dict[str, Any]  # {"model": "deeplabv3", "backbone": "resnet50", "model.aspp": False, ...}
    normalization: Normalization  # what the weights were trained with
    tensors: dict[str, Tensor]  # by our names: of the model, or of the backbone and its classifier
    origins: dict[str, Origin]  # by our names
    left_out: dict[str, str]  # reason, by foreign name
    note: str = ""  # a caveat for training with it

    @property
    def num_classes(self) -> int:
        """The number of outputs of a model's classifier."""
        return next(len(tensor) for name, tensor in self.tensors.items() if name.endswith("classify.weight"))

    @property
    def published_dataset(self) -> str | None:
        """The data set of a model's classes, guessed from their number: files seldom name them."""
        return {21: "voc", 19: "cityscapes"}.get(self.num_classes)


# The network that an importer's settings describe, without memory (on the meta device): names and shapes.
# With a model its num_classes can be given; without one it is the backbone.
Build = Callable[..., nn.Module]
# Converts another program's tensors; returns None if it does not recognise their names.
Importer = Callable[[Mapping[str, Tensor], Build], Imported | None]


class Conversion:
    """Converts a foreign table of tensors to ours. A missing tensor is an error that names it, and no tensor
    is silently ignored.
    """

    def __init__(self, foreign: Mapping[str, Tensor], *, source: str) -> None:
        self.foreign, self.source = foreign, source
        self.tensors: dict[str, Tensor] = {}
        self.origins: dict[str, Origin] = {}
        self.left_out: dict[str, str] = {}
        self.used: set[str] = set()

    def read(self, theirs: str) -> Tensor:
        """A foreign tensor, from now on marked as used. Raises CheckpointError if it is missing."""
        if theirs not in self.foreign:
            raise CheckpointError(
                f"this looks like {self.source}, but lacks {theirs}",
                hint="the file is truncated, or of another network",
            )
        self.used.add(theirs)
        return self.foreign[theirs]

    def take(
        self, ours: str, theirs: str, change: Callable[[Tensor], Tensor] | None = None, *, words: str = ""
    ) -> None:
        """Set `ours` to `theirs`, or to the result of `change`, which `words` describes."""
        tensor = self.read(theirs)
        self.tensors[ours] = (change(tensor) if change else tensor).contiguous()
        self.origins[ours] = Origin(theirs, words)

    def put(self, ours: str, tensor: Tensor, *, words: str) -> None:
        """Set `ours` to a tensor that has no counterpart in the foreign file."""
        self.tensors[ours], self.origins[ours] = tensor.contiguous(), Origin(None, words)

    def take_norm(self, ours: str, theirs: str) -> None:
        """Take a batch norm with PyTorch's names. A missing num_batches_tracked becomes 0."""
        for part in BATCH_NORM:
            self.take(f"{ours}.{part}", f"{theirs}.{part}")
        self.take_counter(f"{ours}.{COUNTER}", f"{theirs}.{COUNTER}")

    def take_counter(self, ours: str, theirs: str) -> None:
        if theirs in self.foreign:
            self.take(ours, theirs)
        else:
            self.put(ours, torch.tensor(0), words="not in the file: 0")

    def take_network(self, network: nn.Module, theirs: Callable[[str], str]) -> None:
        """Take every tensor of `network`, which is ours; `theirs` gives the foreign names. Raises
        CheckpointError if one is missing or has another shape.
        """
        for ours, expected in network.state_dict().items():
            name = theirs(ours)
            if ours.endswith(COUNTER):
                self.take_counter(ours, name)
            else:
                self.take(ours, name)
            if (shape := self.tensors[ours].shape) != expected.shape:
                raise CheckpointError(
                    f"this looks like {self.source}, but {name} is {list(shape)} and not "
                    f"{list(expected.shape)}",
                    hint="it is another network with the same tensor names",
                )

    def num_classes(self, kernel: str) -> int:
        """The number of outputs of a classifier, by the name of its kernel."""
        shape = self.read(kernel).shape
        if len(shape) != 4 or 0 in shape:
            raise CheckpointError(
                f"this looks like {self.source}, but {kernel} is {list(shape)}, not the kernel of a "
                "convolution"
            )
        return shape[0]

    def refuse_others(self, *prefixes: str) -> None:
        """Raise CheckpointError if tensors with these prefixes were neither used nor left out: then the
        network differs from ours.
        """
        for name in self.foreign:
            if name.startswith(prefixes) and name not in self.used and name not in self.left_out:
                raise CheckpointError(
                    f"this looks like {self.source}, which has no {name}",
                    hint="it is another network with similar tensor names",
                )

    def put_folded_norm(self, ours: str, bias: str, *, scale: str | None = None) -> None:
        """A batch norm whose statistics are folded into its bias and, if it has one, its scale: (x - 0) / 1 x
        scale + bias.
        """
        self.take(f"{ours}.bias", bias)
        if scale is None:
            self.put(f"{ours}.weight", torch.ones_like(self.foreign[bias]), words="folded into the kernel: 1")
        else:
            self.take(f"{ours}.weight", scale)
        self.put(f"{ours}.running_mean", torch.zeros_like(self.foreign[bias]), words="folded: 0")
        self.put(
            f"{ours}.running_var",
            torch.full_like(self.foreign[bias], 1 - BATCH_NORM_EPS),
            words="folded: 1 - eps",
        )
        self.put(f"{ours}.num_batches_tracked", torch.tensor(0), words="folded: 0")

    def leave_out(self, theirs: str, why: str) -> None:
        self.left_out[theirs] = why

    def done(self, settings: dict[str, Any], normalization: Normalization, *, note: str = "") -> Imported:
        """The result. Tensors that were neither used nor left out are listed as not in our model."""
        for theirs in self.foreign:
            if theirs not in self.used and theirs not in self.left_out:
                self.leave_out(theirs, "not in our model")
        return Imported(self.source, settings, normalization, self.tensors, self.origins, self.left_out, note)


def renamed(name: str, prefixes: Mapping[str, str]) -> str:
    """`name` with the first matching prefix replaced, or unchanged if none matches."""
    for ours, theirs in prefixes.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name
