"""Foreign tables of tensors for the tests of importers, and the network that an import builds."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

import deeplabx
from deeplabx.errors import CheckpointError
from deeplabx.model.contract import DeepLab
from deeplabx.registry import build
from deeplabx.weights.contract import Imported
from deeplabx.weights.importers import read_foreign
from tests.model.peers import EVERY, fill, golden, image

SAME = 1e-9  # relative, in float64
ROUNDED = 1e-6  # the same, where the kept numbers have fewer digits
Shapes = dict[str, list[int]]
Importer = Callable[[Mapping[str, Tensor]], Imported | None]  # with its networks: see tests.weights.importers


# --- names and shapes ---------------------------------------------------------------------------------------


def deeper(shapes: Shapes, counts: Sequence[int], *, layer: str = "layer{}.", first: int = 1) -> Shapes:
    """The names and shapes of a ResNet with those of more units: each further one is as the second of its
    block.
    """
    more = dict(shapes)
    for block, count in enumerate(counts, start=1):
        second = layer.format(block) + f"{first}."
        for name, shape in shapes.items():
            if second in name:
                more |= {
                    name.replace(second, layer.format(block) + f"{unit}."): shape
                    for unit in range(first + 1, first + count - 1)
                }
    return more


def linear(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}.weight": [outputs, inputs], f"{name}.bias": [outputs]}


def norm(name: str, channels: int) -> Shapes:
    return {
        **{f"{name}.{part}": [channels] for part in ("weight", "bias", "running_mean", "running_var")},
        f"{name}.num_batches_tracked": [],
    }


def renumbered(shapes: Shapes, pattern: str, numbers: Mapping[int, int]) -> Shapes:
    """`shapes` with the number that `pattern` finds replaced; those without a new number are left out."""
    new: Shapes = {}
    for name, shape in shapes.items():
        found = re.match(pattern, name)
        if found is None:
            new[name] = shape
        elif int(found[1]) in numbers:
            new[name[: found.start(1)] + str(numbers[int(found[1])]) + name[found.end(1) :]] = shape
    return new


def without_values(shapes: Shapes) -> dict[str, Tensor]:
    """A table that only has names and shapes."""
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


# --- the network --------------------------------------------------------------------------------------------


def imported(importer: Importer, table: Mapping[str, Tensor]) -> Imported:
    found = importer(table)
    assert found is not None
    assert {*found.left_out} | {origin.theirs for origin in found.origins.values()} >= set(table)
    return found


def of_group(settings: Mapping[str, Any], group: str) -> dict[str, Any]:
    return {name.removeprefix(group): value for name, value in settings.items() if name.startswith(group)}


def network(found: Imported) -> DeepLab:
    """The model that `build_model` makes of the settings, filled with exactly the tensors."""
    with torch.device("meta"):
        model = deeplabx.build_model(
            found.settings["model"],
            backbone=found.settings["backbone"],
            num_classes=next(
                len(tensor) for name, tensor in found.tensors.items() if name.endswith("classify.weight")
            ),
            backbone_settings=of_group(found.settings, "backbone."),
            **of_group(found.settings, "model."),
        )
    fill_exactly(model, found.tensors)
    return model.eval()


def backbone(found: Imported, **settings: Any) -> nn.Module:
    """The backbone of the settings, filled with the tensors less the classifier's."""
    with torch.device("meta"):
        model = build(
            "backbone",
            found.settings["backbone"],
            **{"output_stride": 32, **of_group(found.settings, "backbone."), **settings},
        )
    own = model.state_dict()
    fill_exactly(model, {name: tensor for name, tensor in found.tensors.items() if name in own})
    return model.eval()


def fill_exactly(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    own = model.state_dict()
    assert {name: tensor.shape for name, tensor in tensors.items()} == {
        name: tensor.shape for name, tensor in own.items()
    }
    model.load_state_dict(tensors, strict=True, assign=True)


# --- what tests state ---------------------------------------------------------------------------------------


def from_disk(folder: Path, table: Mapping[str, Tensor], *, under: str | None = None) -> dict[str, Tensor]:
    """What is read of the table after PyTorch wrote it, where `under` is given beside other things."""
    torch.save({under: dict(table), "cur_itrs": 30000} if under else dict(table), folder / "file.pth")
    return read_foreign(folder / "file.pth")


def relative(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max() / theirs.abs().max())


def difference(importer: Importer, name: str) -> float:
    """The largest difference of an imported model's logits from those kept of the peer `name`, relative to
    its largest.
    """
    expected = golden(name)
    model = network(imported(importer, fill(expected.shapes)))
    with torch.no_grad():
        logits = cast(Tensor, model(image(*expected.size)))
    return relative(logits[:, :, ::EVERY, ::EVERY], expected.logits)


def assert_a_cut_file_is_refused(importer: Importer, shapes: Shapes, *, but: Iterable[str] = ()) -> None:
    """That the absence of a tensor (two are tried) is an error that names it. but: those by which a network
    is known.
    """
    table = without_values(shapes)
    names = [name for name in shapes if not name.endswith("num_batches_tracked") and name not in but]
    for name in (names[len(names) // 2], names[-1]):
        with pytest.raises(CheckpointError, match=rf"lacks {re.escape(name)}\n"):
            importer({other: tensor for other, tensor in table.items() if other != name})


def assert_another_shape_is_refused(importer: Importer, shapes: Shapes, name: str) -> None:
    other = [2 * side for side in shapes[name]]
    with pytest.raises(CheckpointError, match=rf"but {re.escape(name)} is {re.escape(str(other))}"):
        importer(without_values({**shapes, name: other}))
