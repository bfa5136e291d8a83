"""Which images set the ranges of int8, and what correcting biases does."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from deeplabx.backbone.normalization import IMAGENET
from deeplabx.export import latency, quantization
from deeplabx.export.deployed import deployed, traced
from deeplabx.export.onnx_file import OnnxNetwork, onnx_model


def test_calibration_images_are_drawn_by_the_seed() -> None:
    drawn = quantization.calibration_indices(5, of=100, seed=3)
    assert drawn == quantization.calibration_indices(5, of=100, seed=3) == sorted(set(drawn))
    assert drawn != quantization.calibration_indices(5, of=100, seed=4)
    assert quantization.calibration_indices(5, of=2, seed=3) == [0, 1]


@pytest.mark.slow
def test_a_corrected_bias_takes_the_mean_error_of_rounded_weights_off(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 3, groups=3), nn.ReLU(), nn.Conv2d(6, 2, 1))
    program = traced(deployed(model, IMAGENET, preprocess=False, ids=False, num_classes=2))
    graph = onnx_model(program)
    images = [np.random.default_rng(seed).normal(2, 1, (1, 3, 64, 64)).astype(np.float32) for seed in (0, 1)]
    convolutions = [node for node in graph.graph.node if node.op_type == "Conv"]

    def mean_error(corrected: bool) -> float:
        changed = onnx.ModelProto()
        changed.CopyFrom(graph)
        if corrected:
            quantization.correct_biases(changed, convolutions[:1], images)
        tensors = {one.name: one for one in changed.graph.initializer}
        weights = onnx.numpy_helper.to_array(tensors[convolutions[0].input[1]])
        scale = np.abs(weights).max(axis=(1, 2, 3), keepdims=True) / quantization.LEVELS
        rounded = (np.round(weights / scale) * scale).astype(np.float32)
        tensors[convolutions[0].input[1]].CopyFrom(
            onnx.numpy_helper.from_array(rounded, convolutions[0].input[1])
        )
        del changed.graph.output[:]
        changed.graph.output.append(onnx.ValueInfoProto(name=convolutions[0].output[0]))
        path = tmp_path / f"{corrected}.onnx"
        path.write_bytes(changed.SerializeToString())
        network = OnnxNetwork(path)
        with torch.no_grad():
            found = [network(torch.from_numpy(one)) - model[0](torch.from_numpy(one)) for one in images]
        return float(torch.cat(found).mean(dim=(0, 2, 3)).abs().max())

    before = mean_error(corrected=False)
    assert before > 1e-3
    assert mean_error(corrected=True) < 0.1 * before


def test_medians_are_of_runs_that_take_turns() -> None:
    ran: list[str] = []
    found = latency.medians({"a": lambda: ran.append("a"), "b": lambda: ran.append("b")})
    assert set(found) == {"a", "b"}
    counted = ran[2 * latency.WARM_UP :]
    assert counted == ["a", "b"] * (len(counted) // 2)
    words = latency.table({"torch": (100, 0.2), "model.onnx": (50, 0.1)}, first="torch")
    assert words.splitlines()[-1].split() == ["model.onnx", "0.00", "0.50x", "100.0", "0.50x"]
