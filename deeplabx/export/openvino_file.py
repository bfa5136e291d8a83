"""OpenVINO: read from the ONNX file, kept in float32, run by OpenVINO."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deeplabx.errors import CheckpointError, needed
from deeplabx.export.metadata import PREFIX, Metadata
from deeplabx.export.onnx_file import one_line

EXTRA = "openvino"
SECTION = "deeplabx"  # of rt_info


def openvino_model(onnx_path: Path) -> Any:
    """The openvino.Model of an ONNX file."""
    return needed("openvino", extra=EXTRA).Core().read_model(onnx_path)


def write_openvino(model: Any, path: Path, metadata: Metadata) -> None:
    """Write NAME.xml and, beside it, NAME.bin with the weights, in float32."""
    openvino = needed("openvino", extra=EXTRA)
    for key, text in metadata.to_texts().items():
        model.set_rt_info(text, [SECTION, key.removeprefix(PREFIX)])
    openvino.save_model(model, path, compress_to_fp16=False)


def read_openvino(path: Path) -> Any:
    """The openvino.Model of NAME.xml. Raises CheckpointError."""
    core = needed("openvino", extra=EXTRA).Core()
    with path.open("rb") as file:  # of another file, OpenVINO asks the readers of six other formats
        if not re.match(rb"<\?xml[^>]*>\s*<net ", file.read(200)):
            raise CheckpointError(f"{path} is not an OpenVINO file: it does not begin with <net")
    try:
        return core.read_model(path)
    except RuntimeError as error:
        raise CheckpointError(f"{path} cannot be read by OpenVINO: {one_line(error)}") from None


def openvino_texts(path: Path) -> dict[str, str]:
    """The metadata of an OpenVINO file, as texts."""
    model = read_openvino(path)
    if not model.has_rt_info([SECTION]):
        return {}
    return {f"{PREFIX}{key}": str(value) for key, value in model.get_rt_info([SECTION]).value.items()}


class OpenvinoNetwork(nn.Module):
    """An OpenVINO file on the CPU, called as the model that it was exported from. Ids are N x 1 x H x W.

    threads: None for torch's number.
    """

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        super().__init__()
        openvino = needed("openvino", extra=EXTRA)
        count = threads or torch.get_num_threads()
        # float32: on processors with bf16, OpenVINO would compute in that
        settings = {"INFERENCE_NUM_THREADS": count, "INFERENCE_PRECISION_HINT": "f32"}
        self.compiled = openvino.Core().compile_model(read_openvino(path), "CPU", settings)
        self.runs_in = f"OpenVINO {openvino.__version__.partition('-')[0]}, CPU, {count} threads"

    def forward(self, images: Tensor) -> Tensor:
        found = self.compiled(images.contiguous().cpu().numpy())[0]
        output = torch.from_numpy(np.array(found))  # a copy: OpenVINO reuses its own memory
        return output if output.ndim == 4 else output[:, None]
