"""int8: the same file with 8-bit integers, its ranges set by images of the training split."""

import contextlib
import io
import logging
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deeplabx.errors import needed
from deeplabx.export.metadata import Metadata
from deeplabx.export.onnx_file import write_onnx
from deeplabx.export.openvino_file import read_openvino, write_openvino

# Weights of onnxruntime's int8 have 7 bits: on x86 without VNNI, a sum of two products of 8 bits overflows.
LEVELS = 64
FLOAT_LAYERS = ("Add", "Mul", "MatMul", "Concat", "Resize", "ReduceMean", "AveragePool", "MaxPool")


@dataclass(frozen=True)
class Attempt:
    """What stays in float beside what a format cannot quantise."""

    words: str
    stem: bool = False  # the first convolution
    head: int = 0  # the last convolutions


# In this order until one loses no more mIoU than max_loss.
ATTEMPTS = (
    Attempt("every convolution in int8"),
    Attempt("the first convolution and the last one in float", stem=True, head=1),
    Attempt("the first convolution and the last four in float", stem=True, head=4),
)


@dataclass
class Quantized:
    """An int8 model. left_in_float: its layers that still compute in float, by name."""

    model: Any
    left_in_float: list[str]
    layers: int  # in int8

    @property
    def words(self) -> str:
        return f"{self.layers} layers in int8, {len(self.left_in_float)} in float"

    def write(self, path: Path, metadata: Metadata) -> None:
        (write_onnx if path.suffix == ".onnx" else write_openvino)(self.model, path, metadata)


def calibration_indices(count: int, *, of: int, seed: int) -> list[int]:
    """Which images set the ranges: `count` of them, drawn by the run's seed."""
    return sorted(random.Random(f"calibration {seed}").sample(range(of), min(count, of)))


def quantized(path: Path, images: Sequence[np.ndarray], *, attempt: Attempt) -> Quantized:
    """The float model at `path` in int8. images: as the model takes them, one in each array."""
    return (quantized_onnx if path.suffix == ".onnx" else quantized_openvino)(path, images, attempt=attempt)


# --- onnxruntime --------------------------------------------------------------------------------------------


def quantized_onnx(path: Path, images: Sequence[np.ndarray], *, attempt: Attempt) -> Quantized:
    """Static, QDQ, symmetric weights per channel, activations per tensor in the mean range of the images."""
    onnx = needed("onnx", extra="onnx")
    quantization = needed("onnxruntime.quantization", extra="onnx")
    model = onnx.load(path)
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    kept = [*convolutions[: int(attempt.stem)], *convolutions[len(convolutions) - attempt.head :]]
    names = [node.name for node in kept]
    correct_biases(model, [node for node in convolutions if node.name not in names], images)
    target = path.with_name(".quantized.onnx")
    name = model.graph.input[0].name

    class Images(quantization.CalibrationDataReader):  # type: ignore[name-defined]
        def __init__(self) -> None:
            self.rest = iter(images)

        def get_next(self) -> dict[str, np.ndarray] | None:
            array = next(self.rest, None)
            return None if array is None else {name: array}

    try:
        with quiet():
            quantization.quantize_static(
                model,
                target,
                Images(),
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=["Conv"],
                per_channel=True,
                reduce_range=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                nodes_to_exclude=names,
                calibrate_method=quantization.CalibrationMethod.MinMax,
                extra_options={"CalibMovingAverage": True},
            )
        found = onnx.load(target)
    finally:
        target.unlink(missing_ok=True)
    layers, in_float = onnx_layers(found)
    return Quantized(found, in_float, layers)


def onnx_layers(model: Any) -> tuple[int, list[str]]:
    """The number of convolutions in int8, and the names of the layers in float: of a convolution that of its
    weights.
    """
    onnx = needed("onnx", extra="onnx")
    inferred = onnx.shape_inference.infer_shapes(model).graph.value_info
    floats = {one.name for one in inferred if one.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}
    floats.add(model.graph.output[0].name)
    dequantized = {
        output for node in model.graph.node if node.op_type == "DequantizeLinear" for output in node.output
    }
    count, in_float = 0, []
    for node in model.graph.node:
        if node.op_type == "Conv":
            if node.input[0] in dequantized and node.input[1] in dequantized:
                count += 1
            else:
                in_float.append(node.input[1].removeprefix("model.").removesuffix(".weight"))
        elif node.op_type in FLOAT_LAYERS and node.output[0] in floats:
            in_float.append(node.name)
    return count, in_float


def correct_biases(model: Any, nodes: Sequence[Any], images: Sequence[np.ndarray]) -> None:
    """Take the mean error that rounding a convolution's weights makes off its bias (1906.04721, section 4.2):
    depthwise kernels of 9 weights do not average it out.
    """
    onnx = needed("onnx", extra="onnx")
    tensors = {one.name: one for one in model.graph.initializer}
    means = input_means(model, nodes, images)
    for node in nodes:
        if len(node.input) < 3 or not {node.input[1], node.input[2]} <= set(tensors):
            continue
        weights = onnx.numpy_helper.to_array(tensors[node.input[1]])
        largest = np.abs(weights).max(axis=(1, 2, 3), keepdims=True)
        scale = np.where(largest > 0, largest / LEVELS, 1.0)
        error = (np.round(weights / scale) * scale - weights).sum(axis=(2, 3))  # outputs x inputs of a group
        outputs, inputs = error.shape
        groups = len(means[node.input[0]]) // inputs
        mean = means[node.input[0]].reshape(groups, 1, inputs)
        shift = (error.reshape(groups, outputs // groups, inputs) * mean).sum(axis=2).reshape(outputs)
        bias = onnx.numpy_helper.to_array(tensors[node.input[2]])
        corrected = onnx.numpy_helper.from_array((bias - shift).astype(np.float32), node.input[2])
        tensors[node.input[2]].CopyFrom(corrected)


def input_means(model: Any, nodes: Sequence[Any], images: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """The mean of each channel of what each convolution is given, over the images."""
    onnx, runtime = needed("onnx", extra="onnx"), needed("onnxruntime", extra="onnx")
    probed = onnx.ModelProto()
    probed.CopyFrom(model)
    graph, names = probed.graph, list(dict.fromkeys(node.input[0] for node in nodes))
    axes = onnx.numpy_helper.from_array(np.array([0, 2, 3], np.int64), "probed_axes")
    graph.initializer.append(axes)
    del graph.output[:]
    for number, name in enumerate(names):
        probe = onnx.helper.make_node("ReduceMean", [name, axes.name], [f"probed_{number}"], keepdims=0)
        graph.node.append(probe)
        graph.output.append(onnx.ValueInfoProto(name=f"probed_{number}"))
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    session = runtime.InferenceSession(
        probed.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    total: list[np.ndarray] = []
    for array in images:
        found = session.run(None, {graph.input[0].name: array})
        total = [one + other for one, other in zip(total, found, strict=True)] if total else found
    return {name: one / len(images) for name, one in zip(names, total, strict=True)}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the advice that onnxruntime's quantiser logs."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


# --- OpenVINO -----------------------------------------------------------------------------------------------


def quantized_openvino(path: Path, images: Sequence[np.ndarray], *, attempt: Attempt) -> Quantized:
    """NNCF's static quantisation: symmetric weights, activations with a zero point, biases corrected."""
    nncf = needed("nncf", extra="openvino")
    model = read_openvino(path)
    kinds = ("Convolution", "GroupConvolution")
    layers = [one for one in model.get_ordered_ops() if one.get_type_name() in kinds]
    kept = [*layers[: int(attempt.stem)], *layers[len(layers) - attempt.head :]]
    names = [one.get_friendly_name() for one in kept]
    with contextlib.redirect_stdout(io.StringIO()), quiet():  # its bars
        found = nncf.quantize(
            model,
            nncf.Dataset(images),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(images),
            fast_bias_correction=True,
            ignored_scope=nncf.IgnoredScope(names=names) if names else None,
        )
    count, in_float = openvino_layers(found)
    return Quantized(found, in_float, count)


def openvino_layers(model: Any) -> tuple[int, list[str]]:
    """As `onnx_layers`, by OpenVINO's names."""
    kinds = ("Convolution", "GroupConvolution", "MatMul", "Interpolate", "ReduceMean", "Concat", "Add")
    count, in_float = 0, []
    for one in model.get_ordered_ops():
        if one.get_type_name() not in kinds or one.get_output_element_type(0).to_string() != "f32":
            continue
        source = one.input_value(0).get_node().get_type_name()
        if source == "FakeQuantize":
            count += one.get_type_name() in kinds[:3]
        elif not (one.get_type_name() == "Add" and source in (*kinds[:3], "FakeQuantize")):  # not a bias
            in_float.append(one.get_friendly_name())
    return count, in_float
