"""An ONNX file as a network."""

from typing import Any

import pytest
import torch
from torch import nn

from deeplabx.errors import PreemptedError
from deeplabx.export.onnx_file import OnnxNetwork


class Session:
    """Raises what it holds."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def run(self, *arguments: Any) -> Any:
        raise self.error


@pytest.mark.parametrize(
    ("error", "kind"), [(PreemptedError("SIGTERM received"), PreemptedError), (ValueError("x"), RuntimeError)]
)
def test_a_signal_while_it_computes_is_not_its_own_error(error: Exception, kind: type[Exception]) -> None:
    network = OnnxNetwork.__new__(OnnxNetwork)
    nn.Module.__init__(network)
    network.session, network.input = Session(error), "image"
    with pytest.raises(kind):
        network(torch.zeros(1, 3, 2, 2))
