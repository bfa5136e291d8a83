"""ONNX: written by torch's exporter, run by onnxruntime."""

import contextlib
import io
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from deeplabx.errors import CheckpointError, DeeplabxError, needed
from deeplabx.export.deployed import INPUT
from deeplabx.export.metadata import Metadata

# The oldest that torch's exporter writes itself (others are converted from it), so what most programs read:
# onnxruntime from 1.14, OpenVINO, TensorRT from 8.6.
OPSET = 18
EXTRA = "onnx"


def onnx_model(program: ExportedProgram) -> Any:
    """The onnx.ModelProto of a traced network with logits as its output."""
    onnx = needed("onnx", extra=EXTRA)
    needed("onnxscript", extra=EXTRA)  # which torch's exporter imports
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's and onnxscript's own code
        exported = torch.onnx.export(
            program,
            (),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=["logits"],
            verbose=False,
        )
    assert exported is not None
    model = exported.model_proto
    without_traces(model)
    name_sizes(model.graph)
    onnx.checker.check_model(model)
    return model


def without_traces(model: Any) -> None:
    """Remove what torch notes of the source code of each node: paths of the machine, and half of the file of
    a small model.
    """
    graph = model.graph
    del graph.value_info[:]
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    for function in model.functions:
        for part in (function, *function.node):
            del part.metadata_props[:]
            part.doc_string = ""


def name_sizes(graph: Any) -> None:
    """Name the free sizes of input and output, which torch numbers."""
    uint8 = graph.input[0].type.tensor_type.elem_type == 2
    free = (0, 1, 2) if uint8 else (0, 2, 3)
    for value, dimensions in ((graph.input[0], free), (graph.output[0], (0, 2, 3))):
        for dimension, name in zip(dimensions, ("batch", "height", "width"), strict=True):
            value.type.tensor_type.shape.dim[dimension].dim_param = name


def with_ids(model: Any, *, num_classes: int) -> Any:
    """A copy of a model of logits whose output is the ids: N x H x W, uint8 of up to 256 classes, else
    int32.
    """
    onnx = needed("onnx", extra=EXTRA)
    found = onnx.ModelProto()
    found.CopyFrom(model)
    kind = onnx.TensorProto.UINT8 if num_classes <= 256 else onnx.TensorProto.INT32
    logits = found.graph.output[0].name
    found.graph.node.append(onnx.helper.make_node("ArgMax", [logits], ["largest"], axis=1, keepdims=0))
    found.graph.node.append(onnx.helper.make_node("Cast", ["largest"], ["ids"], to=kind))
    del found.graph.output[:]
    ids = onnx.helper.make_tensor_value_info("ids", kind, ["batch", "height", "width"])
    found.graph.output.append(ids)
    onnx.checker.check_model(found)
    return found


def write_onnx(model: Any, path: Path, metadata: Metadata) -> None:
    """Write a model with its metadata into it."""
    onnx = needed("onnx", extra=EXTRA)
    onnx.helper.set_model_props(model, metadata.to_texts())
    model.producer_name = "deeplabx"
    path.write_bytes(model.SerializeToString())


def onnx_texts(path: Path) -> dict[str, str]:
    """The metadata of an ONNX file, as texts."""
    session = OnnxNetwork(path).session
    return dict(session.get_modelmeta().custom_metadata_map)


class OnnxNetwork(nn.Module):
    """An ONNX file in onnxruntime, called as the model that it was exported from. Ids are N x 1 x H x W.

    device: a GPU is used where onnxruntime was built with CUDA. threads: None for torch's number.
    """

    def __init__(self, path: Path, *, device: str = "cpu", threads: int | None = None) -> None:
        super().__init__()
        runtime = needed("onnxruntime", extra=EXTRA)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads or torch.get_num_threads()
        options.log_severity_level = 3  # errors; a warning for each Resize of a free size is none of ours
        cuda = device == "cuda" and "CUDAExecutionProvider" in runtime.get_available_providers()
        providers = ["CUDAExecutionProvider", "CPUExecutionProvider"] if cuda else ["CPUExecutionProvider"]
        try:
            self.session = runtime.InferenceSession(path, options, providers=providers)
        except Exception as error:  # noqa: BLE001 - onnxruntime's own kinds have no common one but this
            raise CheckpointError(f"{path} cannot be read as ONNX: {one_line(error)}") from None
        self.input = self.session.get_inputs()[0].name
        self.runs_in = (
            f"onnxruntime {runtime.__version__}, {self.session.get_providers()[0]}, "
            f"{options.intra_op_num_threads} threads"
        )

    def forward(self, images: Tensor) -> Tensor:
        try:
            (found,) = self.session.run(None, {self.input: images.contiguous().cpu().numpy()})
        except DeeplabxError:  # a signal that stops the command
            raise
        except Exception as error:  # noqa: BLE001 - as above
            if size := re.search(r"Failed to allocate memory for requested buffer of size (\d+)", str(error)):
                raise MemoryError(f"Failed to allocate {size[1]} bytes") from None
            raise RuntimeError(f"onnxruntime: {one_line(error)}") from None
        output = torch.from_numpy(found)
        return output if output.ndim == 4 else output[:, None]


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
