import contextlib
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from deeplabx.backbone.pretrained import inflate, load_matching, read_tensors
from deeplabx.errors import CheckpointError
from deeplabx.registry import build


def test_weights_are_loaded_by_name_and_shape_and_the_rest_is_listed(tmp_path: Path) -> None:
    source = build("backbone", "resnet18", output_stride=32)
    tensors = {
        **source.state_dict(),
        "fc.weight": torch.zeros(1000, 512),
        "conv1.weight": torch.zeros(64, 4, 7, 7),
    }
    del tensors["bn1.bias"]
    torch.save(tensors, tmp_path / "file.pth")
    model = build("backbone", "resnet18", output_stride=16)
    loaded = load_matching(model, read_tensors(tmp_path / "file.pth"), source="file.pth")
    assert torch.equal(
        model.state_dict()["layer2.0.conv1.weight"], source.state_dict()["layer2.0.conv1.weight"]
    )
    assert (loaded.not_in_model, loaded.other_shape, loaded.not_in_file) == (
        ["fc.weight"],
        ["conv1.weight"],
        ["bn1.bias"],
    )
    assert "1 not in the model: fc.weight" in loaded.report("file.pth")


def test_a_module_that_is_left_out_whole_is_told_by_its_name() -> None:
    model = build("backbone", "resnet18", output_stride=16)
    tensors = {
        name: value
        for name, value in model.state_dict().items()
        if not name.startswith(("layer4.", "layer3.1.bn1.w", "bn1."))
    }
    report = load_matching(
        model, tensors | {"fc.weight": torch.zeros(1), "fc.bias": torch.zeros(1)}, source="file.pth"
    ).report("file.pth")
    assert "2 not in the model: fc.*\n" in report
    assert report.endswith("36 not in the file, kept as initialised: bn1.*, layer3.1.bn1.weight, layer4.*")


def test_a_file_that_fits_nothing_is_an_error(tmp_path: Path) -> None:
    save_file({"other": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"none of its 1 tensors, such as other, matches the model"):
        load_matching(
            build("backbone", "resnet18", output_stride=16),
            read_tensors(tmp_path / "other.safetensors"),
            source="other",
        )


class Canary:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_code_in_a_pickle_does_not_run(tmp_path: Path) -> None:
    file, trace = tmp_path / "evil.pth", tmp_path / "trace"
    torch.save({"weight": Canary(trace)}, file)
    with pytest.raises(CheckpointError):
        read_tensors(file)
    file.write_bytes(pickle.dumps(Canary(trace), protocol=2))
    with pytest.raises(CheckpointError):
        read_tensors(file)
    assert not trace.exists()


@pytest.mark.parametrize("content", [b"", b"not weights at all", b"PK\x03\x04 cut"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes, suffix: str) -> None:
    file = tmp_path / f"damaged{suffix}"
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        read_tensors(file)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_whatever_torch_raises_on_a_damaged_file_is_told_of_the_file(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "good.pth", _use_new_zipfile_serialization=False)
    good = (tmp_path / "good.pth").read_bytes()
    for place in range(40, len(good), 3):  # bytes of the pickles that it is made of
        (tmp_path / "damaged.pth").write_bytes(good[:place] + bytes([good[place] ^ 0x55]) + good[place + 1 :])
        with contextlib.suppress(CheckpointError):
            read_tensors(tmp_path / "damaged.pth")


@pytest.mark.parametrize(
    "content", [{1: torch.zeros(2)}, {"a": torch.zeros(2, 2).to_sparse()}, [torch.zeros(1)], {"a": 1}]
)
def test_only_a_table_of_names_and_plain_tensors_is_weights(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "file.pth")
    with pytest.raises(CheckpointError, match="contains no state dict"):
        read_tensors(tmp_path / "file.pth")


def test_names_in_a_file_are_listed_as_they_can_be_printed() -> None:
    model = build("backbone", "resnet18", output_stride=16)
    tensors = {**model.state_dict(), "\x1b[2J": torch.zeros(1), "x" * 10**6: torch.zeros(1)}
    report = load_matching(model, tensors, source="file.pth").report("file.pth")
    assert "2 not in the model: \\x1b[2J, xxx" in report
    assert len(report) < 30_000


@pytest.mark.parametrize("key", ["state_dict", "model_state", "model"])
def test_of_a_trainings_file_the_models_tensors_are_read(tmp_path: Path, key: str) -> None:
    score = np.float64(0.75)  # numpy's own numbers are no plain ones to torch
    torch.save(
        {
            "iteration": 3,
            key: {"module.weight": torch.ones(2)},
            "optimizer": {"lr": 0.1},
            "best_score": score,
        },
        tmp_path / "file.pth",
    )
    assert list(read_tensors(tmp_path / "file.pth")) == ["weight"]


def test_a_folder_is_no_file_of_weights(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is a folder without known weights"):
        read_tensors(tmp_path)


def test_a_missing_file_says_what_leaving_it_unset_means(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"does not exist\nleave it unset"):
        read_tensors(tmp_path / "no.pth")


@pytest.mark.parametrize(
    ("name", "bands"),
    [("resnet18", 1), ("resnet50_beta", 2), ("mobilenetv2", 4), ("vgg16", 13), ("xception41", 5)],
)
def test_the_first_convolution_is_fitted_to_the_number_of_bands(name: str, bands: int) -> None:
    rgb = build("backbone", name, output_stride=32).eval()
    many = build("backbone", name, output_stride=32, in_channels=bands).eval()
    loaded = load_matching(many, rgb.state_dict(), source="rgb")
    assert len(loaded.inflated) == 1
    assert "1 adapted to the number of input channels" in loaded.report("rgb")
    assert not loaded.other_shape
    grey = torch.randn(1, 1, 33, 33)
    with torch.no_grad():
        expected = rgb(grey.expand(-1, 3, -1, -1)).high
        assert torch.allclose(
            many(grey.expand(-1, bands, -1, -1)).high,
            expected,
            rtol=1e-4,
            atol=1e-4 * float(expected.abs().max()),
        )


def test_of_many_bands_the_first_three_keep_their_colour() -> None:
    kernel = torch.randn(2, 3, 3, 3)
    inflated = inflate(kernel, 6)
    assert torch.allclose(inflated[:, :3], kernel / 2)
    assert torch.allclose(inflated[:, 5], kernel.mean(dim=1) / 2)
