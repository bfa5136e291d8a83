import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deeplabx.errors import CheckpointError
from deeplabx.weights.tfjs import depthwise_in_our_layout, in_our_layout, read_tfjs

ARRAYS: dict[str, np.ndarray] = {
    "stem/kernel": np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5) / 7,
    "stem/bias": np.array([-1.5, 0, 2.25], dtype=np.float32),
    "steps": np.array(-7, dtype=np.int32),
    "empty": np.zeros((0, 4), dtype=np.float32),
    "flags": np.array([[True], [False]]),
}


def write_tfjs(folder: Path, arrays: Mapping[str, np.ndarray], *, shard_bytes: int = 64) -> Path:
    """A TensorFlow.js model: a model.json and shards of little-endian numbers, which end wherever they are
    full.
    """
    content = b"".join(array.astype(array.dtype.newbyteorder("<")).tobytes() for array in arrays.values())
    cuts = range(0, len(content), shard_bytes)
    paths = [f"group1-shard{number}of{len(cuts)}" for number in range(1, len(cuts) + 1)]
    for path, start in zip(paths, cuts, strict=True):
        (folder / path).write_bytes(content[start : start + shard_bytes])
    weights = [
        {"name": name, "shape": list(array.shape), "dtype": str(array.dtype)}
        for name, array in arrays.items()
    ]
    model = {"modelTopology": {}, "weightsManifest": [{"paths": paths, "weights": weights}]}
    (folder / "model.json").write_text(json.dumps(model))
    return folder / "model.json"


@pytest.mark.parametrize("shard_bytes", [3, 64, 10_000])
def test_what_was_written_is_read(tmp_path: Path, shard_bytes: int) -> None:
    tensors = read_tfjs(write_tfjs(tmp_path, ARRAYS, shard_bytes=shard_bytes))
    assert list(tensors) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert torch.equal(tensors[name], torch.from_numpy(array))
        assert tensors[name].dtype == torch.from_numpy(array).dtype


def test_groups_of_weights_have_shards_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(np.float32(1).tobytes())
    (tmp_path / "b").write_bytes(np.float32(2).tobytes())
    groups = [
        {"paths": [name], "weights": [{"name": name, "shape": [], "dtype": "float32"}]} for name in "ab"
    ]
    (tmp_path / "model.json").write_text(json.dumps({"weightsManifest": groups}))
    assert read_tfjs(tmp_path / "model.json") == {"a": torch.tensor(1.0), "b": torch.tensor(2.0)}


def refused(path: Path, reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason) as error:
        read_tfjs(path)
    assert len(str(error.value)) < 500


def test_a_cut_shard_is_refused(tmp_path: Path) -> None:
    path = write_tfjs(tmp_path, ARRAYS)
    last = sorted(tmp_path.glob("group1-shard*"))[-1]
    last.write_bytes(last.read_bytes()[:-1])
    refused(path, "its shards end in the middle of flags")


def test_a_shard_that_is_too_long_is_refused(tmp_path: Path) -> None:
    path = write_tfjs(tmp_path, ARRAYS)
    with sorted(tmp_path.glob("group1-shard*"))[-1].open("ab") as shard:
        shard.write(b"\0")
    refused(path, "its shards have 499 bytes, but its weights need 498")


def test_a_missing_shard_is_refused_by_name(tmp_path: Path) -> None:
    path = write_tfjs(tmp_path, ARRAYS)
    (tmp_path / "group1-shard2of8").unlink()
    refused(path, "its shard group1-shard2of8 is missing")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../outside", "names a shard that is not beside it: ../outside"),
        ("/etc/passwd", "names a shard that is not beside it: /etc/passwd"),
        ("folder/shard", "names a shard that is not beside it: folder/shard"),
        (7, "names a shard that is not beside it: 7"),
        (None, "names a shard that is not beside it"),
        ("..", "is missing"),
        ("", "is missing"),
        ("nul\0byte", r"its shard nul\\x00byte is missing"),
        ("lone\ud800surrogate", "is missing"),
        ("long" * 100, "cannot be read: File name too long"),
    ],
)
def test_a_shard_elsewhere_or_nowhere_is_refused(tmp_path: Path, name: Any, reason: str) -> None:
    (tmp_path / "outside").write_bytes(b"\0\0\0\0")
    folder = tmp_path / "model"
    folder.mkdir()
    manifest = [{"paths": [name], "weights": [{"name": "a", "shape": [1], "dtype": "float32"}]}]
    (folder / "model.json").write_text(json.dumps({"weightsManifest": manifest}))
    refused(folder / "model.json", reason)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "float64"},
        {"dtype": "string"},
        {"dtype": ["float32"]},
        {"shape": [-1]},
        {"shape": [1.0]},
        {"shape": ["1"]},
        {"shape": [True]},
        {"shape": [1] * 65},
        {"shape": [0, 2**31, 2**31]},
        {"shape": [2**62, 2**62]},
        {"name": 5},
    ],
    ids=str,
)
def test_what_is_no_tensor_is_refused(tmp_path: Path, entry: dict[str, Any]) -> None:
    refused(with_entry(tmp_path, entry), "is not a tensor of float32, int32, bool")


def with_entry(folder: Path, entry: dict[str, Any]) -> Path:
    path = write_tfjs(folder, {"a": np.ones(1, dtype=np.float32)})
    model = json.loads(path.read_text())
    model["weightsManifest"][0]["weights"][0] |= entry
    path.write_text(json.dumps(model))
    return path


def test_a_quantized_weight_is_refused_by_name(tmp_path: Path) -> None:
    refused(
        with_entry(tmp_path, {"quantization": {"min": 0, "scale": 0.1, "dtype": "uint8"}}), "a is quantized"
    )


@pytest.mark.parametrize("shape", [None, 3])
def test_a_weight_without_a_shape_is_refused(tmp_path: Path, shape: Any) -> None:
    refused(with_entry(tmp_path, {"shape": shape}), "has no name, shape and dtype")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "cannot be read as a TensorFlow.js model: JSONDecodeError"),
        (b"\xff\xfe", "cannot be read as a TensorFlow.js model: UnicodeDecodeError"),
        (b"[" * 100_000, "cannot be read as a TensorFlow.js model: RecursionError"),
        (b"{}", "cannot be read as a TensorFlow.js model: KeyError: 'weightsManifest'"),
        (b"[]", "cannot be read as a TensorFlow.js model: TypeError"),
        (b'{"weightsManifest": [1]}', "cannot be read as a TensorFlow.js model: TypeError"),
        (
            b'{"weightsManifest": [{"paths": []}]}',
            "cannot be read as a TensorFlow.js model: KeyError: 'weights'",
        ),
        (
            b'{"weightsManifest": [{"paths": "a", "weights": []}]}',
            "its weightsManifest is not a list of paths and weights",
        ),
        (b'{"weightsManifest": ""}', "its weightsManifest is not a list of paths and weights"),
        (b'{"weightsManifest": {}}', "its weightsManifest is not a list of paths and weights"),
        (b'{"weightsManifest": [{"paths": [], "weights": [3]}]}', "has no name, shape and dtype"),
    ],
)
def test_a_model_json_that_is_none_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "model.json").write_bytes(content)
    refused(tmp_path / "model.json", reason)


def test_a_model_json_that_is_not_there_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "model.json", "cannot be read as a TensorFlow.js model: FileNotFoundError")


def test_kernels_change_layout() -> None:
    kernel = torch.rand(2, 3, 4, 5)  # height, width, in, out
    assert in_our_layout(kernel)[4, 3, 1, 2] == kernel[1, 2, 3, 4]
    assert in_our_layout(kernel[0, 0])[4, 3] == kernel[0, 0, 3, 4]
    assert depthwise_in_our_layout(kernel[..., :1])[3, 0, 1, 2] == kernel[1, 2, 3, 0]
    for change in (in_our_layout, depthwise_in_our_layout):
        with pytest.raises(CheckpointError, match=r"a tensor of shape \[3, 4, 5\] was found instead of a"):
            change(kernel[0])
