import contextlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import deeplabx
from deeplabx.backbone.pretrained import read_backbone
from deeplabx.command.weights import (
    compared,
    composed_settings,
    import_weights,
    verify_weights,
    write_backbone,
    write_checkpoint,
)
from deeplabx.config import schema
from deeplabx.errors import CheckpointError, ConfigError
from deeplabx.registry import build
from deeplabx.run.build import meta_network
from deeplabx.weights.importers import import_file
from tests.conftest import Root, compose_plain
from tests.weights.test_google import made_up_table, their_logits
from tests.weights.test_tfjs import write_tfjs


def composed(overrides: list[str]) -> schema.TrainConfig:
    return compose_plain(*overrides)


def imported(source: Path, out: Path, *typed: str) -> str:
    return import_weights(str(source), out, compose=composed, typed=list(typed))


@pytest.fixture(scope="module")
def table() -> dict[str, Tensor]:
    return made_up_table()


@pytest.fixture(scope="module")
def graph(table: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a TensorFlow.js model of Google's names and random weights."""
    folder = tmp_path_factory.mktemp("graph")
    write_tfjs(folder, {name: tensor.numpy() for name, tensor in table.items()}, shard_bytes=2**22)
    return folder


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as torchvision publishes its ResNet-18, of random weights."""
    path = tmp_path_factory.mktemp("classifier") / "resnet18.pth"
    torch.save(
        {
            **build("backbone", "resnet18", output_stride=32).state_dict(),
            "fc.weight": torch.ones(1000, 512),
            "fc.bias": torch.zeros(1000),
        },
        path,
    )
    return path


def test_a_graph_becomes_a_checkpoint_that_predicts_as_the_graph_does(
    table: dict[str, Tensor], graph: Path, tmp_path: Path
) -> None:
    said = imported(graph, tmp_path / "out")
    assert "Google's DeepLabv3 on MobileNetV2" in said
    assert f"deeplabx eval {tmp_path}/out dataset.root=PATH" in said
    model = deeplabx.load(tmp_path / "out")
    assert (model.classes[0], model.classes[-1], len(model.palette)) == ("background", "tvmonitor", 21)
    image = np.random.default_rng(0).integers(0, 256, (65, 97, 3), dtype=np.uint8)
    with torch.inference_mode():
        images = model.preprocess(image)
        ours, theirs = model(images)[:, :, ::8, ::8], their_logits(table, images)
    assert (ours - theirs).abs().max() < 1e-4 * theirs.abs().max()


def test_the_report_names_every_tensor(table: dict[str, Tensor], graph: Path, tmp_path: Path) -> None:
    imported(graph, tmp_path / "out")
    lines = (tmp_path / "out" / "import.txt").read_text().splitlines()
    sources = [line.partition("<- ")[2].partition(" (")[0] for line in lines if "<- " in line]
    left_out = [line.partition(":")[0] for line in lines[lines.index("left out: 2") + 1 :]]
    assert {name for name in [*sources, *left_out] if not name.startswith("folded")} == set(table)


def test_an_imported_checkpoint_is_evaluated_and_trained_from(
    graph: Path, fake_root: Root, tmp_path: Path
) -> None:
    from deeplabx.command.evaluate import evaluate
    from deeplabx.command.train import train
    from deeplabx.run.description import stored_model

    imported(
        graph, tmp_path / "out", "dataset=voc", f"dataset.root='{fake_root('voc')}'", "eval.crop=[65,65]"
    )
    assert 0 <= evaluate(stored_model(str(tmp_path / "out"))).miou <= 1
    (tmp_path / "run").mkdir()
    settings = [
        "dataset=voc",
        f"dataset.root='{fake_root('voc')}'",
        "augment.crop_size=33",
        "trainer.batch_size=2",
        "trainer.workers=0",
    ]
    settings += [
        "schedule.max_iters=1",
        "trainer.samples=0",
        "eval.crop=[65,65]",
        "trainer.precision=fp32",
        "trainer.devices=cpu",
    ]
    train(composed([*settings, f"init_from='{tmp_path}/out'"]), tmp_path / "run", overrides=[])
    assert (
        "classes carried over by name: background, aeroplane" in (tmp_path / "run" / "train.log").read_text()
    )


def test_a_classification_network_becomes_a_file_for_its_backbone(classifier: Path, tmp_path: Path) -> None:
    said = imported(classifier, tmp_path / "out")
    assert f"deeplabx train backbone=resnet18 backbone.weights={tmp_path}/out" in said
    kept = read_backbone(tmp_path / "out")
    assert (kept.backbone, kept.normalization.mean) == ("resnet18", (123.675, 116.28, 103.53))
    assert torch.equal(kept.tensors["fc.weight"], torch.ones(1000, 512))
    assert "holds the same" in verify_weights(
        str(classifier), str(tmp_path / "out"), compose=composed, typed=[]
    )


def test_what_was_typed_goes_before_what_the_importer_says(graph: Path, tmp_path: Path) -> None:
    imported(graph, tmp_path / "out", "backbone.output_stride=16")
    config = json.loads((tmp_path / "out" / "config.json").read_text())["config"]
    assert config["backbone"]["output_stride"] == 16


def test_a_place_that_is_taken_is_left_as_it_is(graph: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(ConfigError, match="already exists"):
        imported(graph, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_what_is_ours_is_told_where_it_goes(graph: Path, classifier: Path, tmp_path: Path) -> None:
    imported(graph, tmp_path / "model")
    imported(classifier, tmp_path / "backbone")
    with pytest.raises(
        CheckpointError, match=r"a checkpoint of deeplabx: .*\n.*as ckpt=.*/model, train as init_from="
    ):
        imported(tmp_path / "model", tmp_path / "again")
    with pytest.raises(
        CheckpointError, match=r"a backbone's weights of deeplabx: .*\n.*as backbone.weights=.*/backbone"
    ):
        verify_weights(str(tmp_path / "backbone"), None, compose=composed, typed=[])
    assert not (tmp_path / "again").exists()


def test_a_folder_of_another_program_is_not_taken_for_ours(tmp_path: Path) -> None:
    save_file({"conv.weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="is a folder without known weights"):
        verify_weights(str(tmp_path), None, compose=composed, typed=[])


def test_what_comes_into_the_folder_meanwhile_is_not_lost(
    graph: Path, classifier: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("precious")
    whole, backbone = (import_file(path, meta_network) for path in (graph, classifier))
    with pytest.raises(OSError, match="not empty"):
        write_checkpoint(whole, tmp_path / "out", config=composed(composed_settings(whole, [])), source="")
    with pytest.raises(OSError, match="not empty"):
        write_backbone(backbone, tmp_path / "out", source="")
    assert (tmp_path / "out" / "mine").read_text() == "precious"
    assert not list(tmp_path.glob(".tmp-*"))


@pytest.mark.parametrize("fixture", ["graph", "classifier"])
def test_an_empty_folder_is_filled_and_a_link_to_one_stays(
    fixture: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    imported(request.getfixturevalue(fixture), tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "import.txt").is_file()


def test_the_folder_one_is_in_is_not_replaced(classifier: Path, tmp_path: Path) -> None:
    with (
        contextlib.chdir(tmp_path),
        pytest.raises(ConfigError, match=r"out=. is the current folder\ngive a folder"),
    ):
        imported(classifier, Path())


def test_a_number_of_classes_that_tells_nothing_asks_whose_they_are(
    table: dict[str, Tensor], tmp_path: Path
) -> None:
    seven = {
        **table,
        "logits/semantic/weights": torch.zeros(1, 1, 256, 7),
        "logits/semantic/biases": torch.zeros(7),
    }
    write_tfjs(tmp_path, {name: tensor.numpy() for name, tensor in seven.items()}, shard_bytes=2**22)
    with pytest.raises(
        ConfigError, match=r"has 7 classes, which does not identify the data set\nset dataset="
    ):
        imported(tmp_path, tmp_path / "out")
    with pytest.raises(ConfigError, match="has 7 classes, dataset=camvid 11"):
        imported(tmp_path, tmp_path / "out", "dataset=camvid")
    assert "classes are those of shapes" in imported(tmp_path, tmp_path / "out", "dataset=shapes")


class Canary:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_a_file_that_is_not_sound_is_refused_and_nothing_is_written(
    classifier: Path, table: dict[str, Tensor], tmp_path: Path
) -> None:
    good = torch.load(classifier, weights_only=True)
    (tmp_path / "cut.pth").write_bytes(classifier.read_bytes()[:100_000])
    torch.save({**good, "meta": Canary(tmp_path / "ran")}, tmp_path / "code.pth")
    torch.save(
        {name: value for name, value in good.items() if name != "layer3.1.conv2.weight"},
        tmp_path / "lacking.pth",
    )
    torch.save({**good, "bn1.bias": good["bn1.bias"] * float("nan")}, tmp_path / "nan.pth")
    torch.save({"encoder.weight": torch.zeros(2)}, tmp_path / "other.pth")
    reasons = {
        "cut.pth": "cannot be read as weights",
        "code.pth": "could run code",
        "lacking.pth": "layer3.1.conv2.weight",
        "nan.pth": "1 of its tensors are not finite, the first: bn1.bias",
        "other.pth": "is of an unknown network: 1 tensors such as encoder.weight",
        "nowhere.pth": "source=.*nowhere.pth does not exist, and no known weights have that name",
    }
    for name, reason in reasons.items():
        with pytest.raises(CheckpointError, match=reason):
            imported(tmp_path / name, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "ran").exists()
    assert not list(tmp_path.glob(".tmp-*"))


def test_verify_finds_a_tensor_that_differs(graph: Path, table: dict[str, Tensor], tmp_path: Path) -> None:
    imported(graph, tmp_path / "out")
    other = {
        **table,
        "aspp0/BatchNorm/FusedBatchNorm/Offset": table["aspp0/BatchNorm/FusedBatchNorm/Offset"] + 1,
    }
    write_tfjs(tmp_path, {name: tensor.numpy() for name, tensor in other.items()}, shard_bytes=2**22)
    with pytest.raises(CheckpointError, match="its logits are not those of Google's"):
        verify_weights(str(graph), None, compose=composed, typed=[])  # random weights
    with pytest.raises(CheckpointError, match=r"1 tensors differ, the first: aspp.branches.0.1.bias"):
        compared(import_file(tmp_path, meta_network), str(tmp_path / "out"))


def test_verify_says_how_far_the_real_files_logits_are_from_tensorflows(real_weights: Root) -> None:
    said = verify_weights(
        str(real_weights("deeplabv3_mnv2_pascal_trainval_tfjs")), None, compose=composed, typed=[]
    )
    assert "every tensor of deeplabv3 on mobilenetv2 is there" in said
    assert "TensorFlow.js 4.22" in said
