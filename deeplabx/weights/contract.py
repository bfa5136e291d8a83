"""What an importer is given, and what it gives."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from deeplabx.backbone.normalization import Normalization
from deeplabx.errors import CheckpointError

BATCH_NORM_EPS = 1e-5  # of the batch norms that an importer fills, unless it is given another
BATCH_NORM = (
    "weight",
    "bias",
    "running_mean",
    "running_var",
)  # what each holds, besides the counter of batches
COUNTER = "num_batches_tracked"


class Origin(NamedTuple):
    """Where one of our tensors comes from."""

    theirs: str | None  # the foreign name; None: made by the importer
    words: str = ""  # what was done to it, or why it was made

    @property
    def kind(self) -> str:
        return "made" if self.theirs is None else "changed" if self.words else "taken"

    def __str__(self) -> str:
        if self.theirs is None:
            return self.words
        return f"{self.theirs} ({self.words})" if self.words else self.theirs


class Imported(NamedTuple):
    """A foreign file in our names. `settings` are those of `deeplabx train` that build its network; without a
    model they build a backbone only.
    """

    source: str  # whose it is and what: "torchvision's DeepLabv3"
    settings: dict[str, Any]  # {"model": "deeplabv3", "backbone": "resnet50", "model.aspp": False, ...}
    normalization: Normalization  # what the weights were trained with
    tensors: dict[str, Tensor]  # by our names: of the model; without one, of the backbone and its classifier
    origins: dict[str, Origin]  # by our names
    left_out: dict[str, str]  # by the foreign names: why
    note: str = ""  # what to know before training with it

    @property
    def num_classes(self) -> int:
        """Of a model: how many outputs its classifier has."""
        return next(len(tensor) for name, tensor in self.tensors.items() if name.endswith("classify.weight"))

    @property
    def published_dataset(self) -> str | None:
        """Of a model: the data set whose classes it has, by their number; models seldom name them."""
        return {21: "voc", 19: "cityscapes"}.get(self.num_classes)


# The network that an importer's settings describe, without memory (on the meta device): names and shapes.
# With a model its num_classes can be given; without one it is the backbone.
Build = Callable[..., nn.Module]
# Of another program's tensors: None where the names are not those that the importer knows.
Importer = Callable[[Mapping[str, Tensor], Build], Imported | None]


class Conversion:
    """A foreign table of tensors on its way to ours. What is asked for and is not there is an error that
    names it; nothing is forgotten.
    """

    def __init__(self, foreign: Mapping[str, Tensor], *, source: str) -> None:
        self.foreign, self.source = foreign, source
        self.tensors: dict[str, Tensor] = {}
        self.origins: dict[str, Origin] = {}
        self.left_out: dict[str, str] = {}
        self.used: set[str] = set()

    def read(self, theirs: str) -> Tensor:
        """One of their tensors, which counts as used from now on. Raises CheckpointError where it is not
        there.
        """
        if theirs not in self.foreign:
            raise CheckpointError(
                f"this looks like {self.source}, but lacks {theirs}", hint="it is cut, or another network's"
            )
        self.used.add(theirs)
        return self.foreign[theirs]

    def take(
        self, ours: str, theirs: str, change: Callable[[Tensor], Tensor] | None = None, *, words: str = ""
    ) -> None:
        """Let ours be theirs, or what `change`, in `words`, makes of it."""
        tensor = self.read(theirs)
        self.tensors[ours] = (change(tensor) if change else tensor).contiguous()
        self.origins[ours] = Origin(theirs, words)

    def put(self, ours: str, tensor: Tensor, *, words: str) -> None:
        """Let ours be a tensor that stands in no foreign place of its own."""
        self.tensors[ours], self.origins[ours] = tensor.contiguous(), Origin(None, words)

    def take_norm(self, ours: str, theirs: str) -> None:
        """A batch norm whose parts are named as PyTorch names them. A counter of batches that is absent is
        0.
        """
        for part in BATCH_NORM:
            self.take(f"{ours}.{part}", f"{theirs}.{part}")
        self.take_counter(f"{ours}.{COUNTER}", f"{theirs}.{COUNTER}")

    def take_counter(self, ours: str, theirs: str) -> None:
        if theirs in self.foreign:
            self.take(ours, theirs)
        else:
            self.put(ours, torch.tensor(0), words="not in the file: 0")

    def take_network(self, network: nn.Module, theirs: Callable[[str], str]) -> None:
        """Every tensor of a network of ours; `theirs` gives the foreign name. Raises CheckpointError where
        one is absent or of another shape.
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
                    hint="it is another network's, of the same names",
                )

    def num_classes(self, kernel: str) -> int:
        """The outputs of a classifier, by the name of its kernel."""
        shape = self.read(kernel).shape
        if len(shape) != 4 or 0 in shape:
            raise CheckpointError(
                f"this looks like {self.source}, but {kernel} is {list(shape)}, not the kernel of a "
                "convolution"
            )
        return shape[0]

    def refuse_others(self, *prefixes: str) -> None:
        """Raise CheckpointError where tensors of these prefixes were neither used nor left out: the network
        is not the one that ours is.
        """
        for name in self.foreign:
            if name.startswith(prefixes) and name not in self.used and name not in self.left_out:
                raise CheckpointError(
                    f"this looks like {self.source}, which has no {name}",
                    hint="it is another network's, of similar names",
                )

    def put_folded_norm(self, ours: str, bias: str, *, scale: str | None = None) -> None:
        """A batch norm whose statistics are folded into its bias and, where there is one, its scale: (x - 0)
        / 1 x scale + bias.
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
        """The whole. What was neither used nor left out with a reason is left out as unknown."""
        for theirs in self.foreign:
            if theirs not in self.used and theirs not in self.left_out:
                self.leave_out(theirs, "not in our model")
        return Imported(self.source, settings, normalization, self.tensors, self.origins, self.left_out, note)


def renamed(name: str, prefixes: Mapping[str, str]) -> str:
    """`name` with the first prefix that it has replaced; as it is where it has none."""
    for ours, theirs in prefixes.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name
