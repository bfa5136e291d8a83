"""What importers say of a network, as it is typed on the command line; and that no file is two programs'."""

import json
from functools import partial

import pytest
import torch

from deeplabx.run.build import meta_network, model_of
from deeplabx.weights.contract import Imported
from deeplabx.weights.importers import IMPORTERS
from tests.conftest import Compose
from tests.model.peers import golden
from tests.weights.foreign import imported, without_values
from tests.weights.importers import (
    kazuto1011_deeplab,
    torchvision_classification,
    torchvision_segmentation,
    vainf_deeplab,
)

PEERS: dict[str, partial[Imported | None]] = {
    "torchvision_deeplabv3_resnet50": torchvision_segmentation,
    "torchvision_deeplabv3_mobilenet_v3_large": torchvision_segmentation,
    "torchvision_lraspp_mobilenet_v3_large": torchvision_segmentation,
    "torchvision_resnet18": torchvision_classification,
    "torchvision_mobilenet_v2": torchvision_classification,
    "vainf_deeplabv3_resnet50": vainf_deeplab,
    "vainf_deeplabv3plus_resnet50": vainf_deeplab,
    "kazuto1011_deeplabv1_resnet101": kazuto1011_deeplab,
    "kazuto1011_deeplabv2_resnet101_msc": kazuto1011_deeplab,
}
# Settings of each kind.
SEGMENTATION = [name for name in PEERS if "deeplab" in name and name != "vainf_deeplabv3_resnet50"]


@pytest.mark.parametrize("name", SEGMENTATION)
def test_typed_settings_build_the_network_of_the_tensors(name: str, compose: Compose) -> None:
    found = imported(PEERS[name], without_values(golden(name).shapes))
    number = next(len(tensor) for key, tensor in found.tensors.items() if key.endswith("classify.weight"))
    config = compose(
        *(
            f"{key}={value if isinstance(value, str) else json.dumps(value)}"
            for key, value in found.settings.items()
        )
    )
    with torch.device("meta"):
        expected = model_of(config, num_classes=number, in_channels=3).state_dict()
    assert {key: tensor.shape for key, tensor in expected.items()} == {
        key: tensor.shape for key, tensor in found.tensors.items()
    }


@pytest.mark.parametrize("name", PEERS)
def test_a_file_is_of_one_program(name: str) -> None:
    table = without_values(golden(name).shapes)
    takers = [importer for importer in IMPORTERS.values() if importer(table, meta_network) is not None]
    assert takers == [PEERS[name].func]
