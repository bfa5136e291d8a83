import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from deeplabx.backbone.normalization import IMAGENET, MINUS_ONE_TO_ONE, Normalization
from deeplabx.engine import checkpoint as checkpoints
from deeplabx.engine.durable import remove
from deeplabx.errors import CheckpointError
from deeplabx.model.contract import DeepLab
from deeplabx.run import initial_weights as initial_weights_module
from deeplabx.run.build import model_of
from deeplabx.run.description import Description
from deeplabx.run.initial_weights import InitialWeights, load_initial_weights, per_class
from deeplabx.weights.known import BY_NAME, Known
from tests.conftest import TINY, Compose, TrainTiny
from tests.weights.test_google import made_up_table
from tests.weights.test_tfjs import write_tfjs

CLASSES = ["background", "disc", "square", "triangle", "ring", "star", "cross"]  # as many as shapes has
OTHERS = Normalization((1.0, 2.0, 3.0), (4.0, 5.0, 6.0))


def started(config: Any, classes: list[str]) -> tuple[InitialWeights, DeepLab, dict[str, Tensor]]:
    """What was loaded, the model, and what its tensors were before."""
    torch.manual_seed(0)
    model = model_of(config, num_classes=len(classes), in_channels=3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    return load_initial_weights(config, model, classes=classes), model, before


def write_checkpoint(
    folder: Path, config: Any, classes: list[str], *, normalization: Normalization = OTHERS
) -> dict[str, Tensor]:
    """A checkpoint of random weights with other normalisation; its tensors."""
    torch.manual_seed(1)
    tensors = model_of(config, num_classes=len(classes), in_channels=3).state_dict()
    palette = [(number, 0, 0) for number in range(len(classes))]
    description = Description(config, classes, palette, 255, normalization)
    checkpoints.write_untrained(folder, tensors, description=description.to_plain(), report="")
    return tensors


@pytest.mark.parametrize(
    ("settings", "rows"),
    [
        (["model=deeplabv1", "backbone=resnet18"], 2),
        (["model=deeplabv2", "backbone=resnet18"], 8),
        (["model=deeplabv3", "model.auxiliary_weight=0.4"], 4),
        (["model=deeplabv3plus"], 2),
        (["model=lraspp"], 4),
    ],
)
def test_what_has_a_row_per_class_is_the_weight_and_bias_of_each_classifier(
    compose: Compose, settings: list[str], rows: int
) -> None:
    config = compose(*TINY, *settings)
    names = per_class(config, num_classes=7)
    model = model_of(config, num_classes=7, in_channels=3)
    classifiers = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Conv2d) and module.out_channels == 7
    ]
    assert sorted(names) == sorted(f"{name}.{part}" for name in classifiers for part in ("weight", "bias"))
    assert len(names) == rows


def test_classes_of_the_same_name_are_carried_over_and_the_others_start_anew(
    compose: Compose, tmp_path: Path
) -> None:
    theirs = write_checkpoint(tmp_path / "old", compose(*TINY), ["star", "cat", "disc"])
    config = compose(*TINY, f"init_from='{tmp_path}/old'")
    began, model, before = started(config, ["disc", "dog", "star", "square"])
    own = model.state_dict()
    for name in ("classify.weight", "classify.bias"):
        assert torch.equal(own[name][0], theirs[name][2])
        assert torch.equal(own[name][2], theirs[name][0])
        assert torch.equal(own[name][[1, 3]], before[name][[1, 3]])
    assert torch.equal(own["backbone.features.0.0.weight"], theirs["backbone.features.0.0.weight"])
    assert "  classes carried over by name: disc, star" in began.words
    assert "  randomly initialised classes: dog, square" in began.words
    assert began.normalization == OTHERS


def test_as_many_classes_of_other_names_are_not_taken_by_their_places(
    compose: Compose, tmp_path: Path
) -> None:
    write_checkpoint(tmp_path / "old", compose(*TINY), ["a", "b", "c"])
    _, model, before = started(compose(*TINY, f"init_from='{tmp_path}/old'"), ["b", "x", "y"])
    assert torch.equal(model.state_dict()["classify.bias"][1:], before["classify.bias"][1:])


@pytest.mark.slow
def test_a_run_normalises_as_the_weights_it_began_from_also_after_a_resume(
    train_tiny: TrainTiny, compose: Compose, tmp_path: Path
) -> None:
    write_checkpoint(tmp_path / "old", compose(*TINY), CLASSES)
    run = train_tiny("run", f"init_from='{tmp_path}/old'", "trainer.save_every=2")
    (tmp_path / "run" / "DONE").unlink()
    for folder in run.glob("checkpoints/step-*4"):
        remove(folder)
    (run / "checkpoints" / "best.json").unlink()
    train_tiny("run", f"init_from='{tmp_path}/old'", "trainer.save_every=2", "resume=true")
    config = json.loads(next(run.glob("checkpoints/step-*4/config.json")).read_text())
    assert config["preprocess"] == {"mean": [1.0, 2.0, 3.0], "std": [4.0, 5.0, 6.0]}


def test_a_file_of_tensors_in_our_names_fills_the_model(
    tiny_run: Path, compose: Compose, tmp_path: Path
) -> None:
    tensors = load_file(next(tiny_run.glob("checkpoints/step-*4/model.safetensors")))
    save_file(tensors, tmp_path / "weights.safetensors")
    began, model, _ = started(compose(*TINY, f"init_from='{tmp_path}/weights.safetensors'"), CLASSES)
    assert all(torch.equal(value, tensors[name]) for name, value in model.state_dict().items())
    assert began.normalization is None
    assert any("no class names in the file" in line for line in began.words)


def test_another_programs_model_has_the_classes_of_the_data_set_whose_number_it_has(
    compose: Compose, tmp_path: Path
) -> None:
    table = made_up_table()
    write_tfjs(tmp_path, {name: tensor.numpy() for name, tensor in table.items()}, shard_bytes=2**22)
    began, model, before = started(
        compose(*TINY, "model=deeplabv3", f"init_from='{tmp_path}'"), ["road", "car", "sheep"]
    )
    theirs, own = table["logits/semantic/weights"], model.state_dict()
    assert torch.equal(own["classify.weight"][1:, :, 0, 0], theirs[0, 0, :, [7, 17]].T)  # as VOC numbers them
    assert torch.equal(own["classify.weight"][0], before["classify.weight"][0])
    assert "  assuming that its 21 classes are those of voc" in began.words
    assert "  classes carried over by name: car, sheep" in began.words
    assert began.normalization == MINUS_ONE_TO_ONE


def test_backbone_weights_go_into_the_backbone(tiny_run: Path, compose: Compose, tmp_path: Path) -> None:
    tensors = load_file(next(tiny_run.glob("checkpoints/step-*4/model.safetensors")))
    own = {
        name.removeprefix("backbone."): value
        for name, value in tensors.items()
        if name.startswith("backbone.")
    }
    save_file({**own, "surprise": torch.zeros(1000)}, tmp_path / "backbone.safetensors")
    began, model, _ = started(compose(*TINY, f"backbone.weights='{tmp_path}/backbone.safetensors'"), CLASSES)
    assert "1 not in the model: surprise" in began.words[0]
    assert torch.equal(model.backbone.state_dict()["features.0.0.weight"], own["features.0.0.weight"])
    assert began.normalization is None


@pytest.fixture
def torchvisions(tmp_path: Path, compose: Compose) -> Path:
    """A file as torchvision publishes its MobileNetV2: our backbone's tensors, a last 1x1 and a
    classifier.
    """
    backbone = model_of(compose(*TINY), num_classes=2, in_channels=3).backbone.state_dict()
    norm = {
        f"features.18.1.{part}": torch.ones(1280)
        for part in ("weight", "bias", "running_mean", "running_var")
    }
    last = {
        "features.18.0.weight": torch.zeros(1280, 320, 1, 1),
        **norm,
        "features.18.1.num_batches_tracked": torch.tensor(0),
    }
    path = tmp_path / "mobilenet_v2.pth"
    torch.save(
        {
            **backbone,
            **last,
            "classifier.1.weight": torch.zeros(1000, 1280),
            "classifier.1.bias": torch.zeros(1000),
        },
        path,
    )
    return path


def test_another_programs_file_brings_its_normalisation(torchvisions: Path, compose: Compose) -> None:
    began, model, _ = started(compose(*TINY, f"backbone.weights='{torchvisions}'"), CLASSES)
    assert began.normalization == IMAGENET
    # Of TensorFlow's weights, which is what the network is published with.
    assert model.backbone.normalization != IMAGENET
    assert "torchvision" in began.words[0]


def test_imagenet_is_the_known_file_of_the_backbone(
    torchvisions: Path, compose: Compose, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cache = tmp_path / "cache" / "weights"
    cache.mkdir(parents=True)
    torchvisions.rename(cache / "mobilenet_v2.pth")
    digest = hashlib.sha256((cache / "mobilenet_v2.pth").read_bytes()).hexdigest()
    entry = Known(
        "made_up",
        "mobilenetv2",
        None,
        "https://nowhere.invalid/mobilenet_v2.pth",
        digest,
        1,
        "",
        IMAGENET,
        "",
        "",
        "",
    )
    monkeypatch.setenv("DEEPLABX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(initial_weights_module, "imagenet", lambda name: entry)
    monkeypatch.setitem(BY_NAME, "made_up", entry)
    began, _, _ = started(compose(*TINY, "backbone.weights=imagenet"), CLASSES)
    assert began.normalization == IMAGENET


def test_imagenet_without_a_network_says_which_file_to_put_where(
    compose: Compose, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DEEPLABX_CACHE", str(tmp_path))
    monkeypatch.setenv("DEEPLABX_OFFLINE", "1")
    with pytest.raises(
        CheckpointError, match=rf"(?s)DEEPLABX_OFFLINE is set.*mobilenet_v2-b0353104.pth.*{tmp_path}"
    ):
        started(compose(*TINY, "backbone.weights=imagenet"), CLASSES)


def test_weights_of_another_backbone_are_refused(torchvisions: Path, compose: Compose) -> None:
    config = compose(*TINY, "backbone=resnet50", f"backbone.weights='{torchvisions}'")
    with pytest.raises(
        CheckpointError, match=r"is of mobilenetv2, not of resnet50\nset backbone=mobilenetv2"
    ):
        started(config, CLASSES)


def test_none_leaves_random_weights(compose: Compose) -> None:
    began, model, before = started(compose(*TINY, "backbone.weights=none"), CLASSES)
    assert began.words[0].startswith("randomly initialised")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_backbone_of_another_programs_names_takes_its_files_as_they_are(
    torchvisions: Path, compose: Compose
) -> None:
    config = compose(*TINY, f"backbone.weights='{torchvisions}'")
    model = model_of(config, num_classes=2, in_channels=3)
    assert load_initial_weights(config, model, classes=CLASSES[:2]).normalization == IMAGENET
    model.backbone.keeps_foreign_names = True
    assert load_initial_weights(config, model, classes=CLASSES[:2]).normalization is None


@pytest.mark.parametrize(
    ("setting", "warned"),
    [("trainer.freeze_backbone_norm=false", True), ("trainer.freeze_backbone_norm=true", False)],
)
def test_folded_batch_norms_that_would_be_trained_are_told(
    compose: Compose, tmp_path: Path, setting: str, warned: bool
) -> None:
    config = compose(*TINY, f"backbone.weights='{tmp_path}/folded.safetensors'", setting)
    tensors = model_of(config, num_classes=2, in_channels=3).backbone.state_dict()
    tensors["features.0.1.running_var"] = torch.full_like(tensors["features.0.1.running_var"], 1 - 1e-5)
    save_file(tensors, tmp_path / "folded.safetensors")
    began, _, _ = started(config, CLASSES)
    assert any("batch norms are folded" in line for line in began.words) == warned


# --- how much of the model was filled -----------------------------------------------------------------------


def test_what_fills_less_than_half_of_the_model_is_refused_unless_that_is_typed(
    compose: Compose, tmp_path: Path
) -> None:
    write_checkpoint(tmp_path / "old", compose(*TINY, "backbone=resnet18"), CLASSES)
    settings = [*TINY, f"init_from='{tmp_path}/old'"]
    with pytest.raises(
        CheckpointError,
        match=r"fills only \d+ of \d+ tensors: backbone 0 of 306, aspp \d+ of \d+, .*\n"
        r"it has names such as backbone.bn1.bias, the network has backbone.features.0.0.weight: are model "
        r"and backbone the same\?\ninit_from_partial=true",
    ):
        started(compose(*settings), CLASSES)
    began, model, before = started(compose(*settings, "init_from_partial=true"), CLASSES)
    assert any(line.startswith("  filled: ") for line in began.words)
    own = model.state_dict()
    assert torch.equal(own["backbone.features.0.0.weight"], before["backbone.features.0.0.weight"])
    assert not torch.equal(own["classify.weight"], before["classify.weight"])


@pytest.mark.parametrize("share", [0.49, 0.51])
def test_half_of_a_backbones_tensors_are_enough(compose: Compose, tmp_path: Path, share: float) -> None:
    """By number: the largest ones are among those that are left out."""
    config = compose(*TINY, f"backbone.weights='{tmp_path}/half.safetensors'")
    torch.manual_seed(1)
    tensors = model_of(config, num_classes=2, in_channels=3).backbone.state_dict()
    count = round(share * len(tensors))
    kept = dict(sorted(tensors.items(), key=lambda item: item[1].numel())[:count])
    save_file(kept, tmp_path / "half.safetensors")
    if share < 0.5:
        with pytest.raises(
            CheckpointError,
            match=rf"fills only {count} of {len(tensors)} tensors: features {count} of {len(tensors)}\n"
            r"it has no others; the network has features.",
        ):
            started(config, CLASSES)
        config.init_from_partial = True
    began, _, _ = started(config, CLASSES)
    assert f"  filled: {count} of {len(tensors)} tensors: features {count} of {len(tensors)}" in began.words


def test_each_module_is_counted_and_a_classifier_of_other_classes_is_not_filled(
    compose: Compose, tmp_path: Path
) -> None:
    write_checkpoint(tmp_path / "old", compose(*TINY, "model=deeplabv3"), ["a", "b"])
    began, model, _ = started(compose(*TINY, f"init_from='{tmp_path}/old'"), ["c", "d"])
    (line,) = (line for line in began.words if line.startswith("  filled: "))
    sizes = {name: len(module.state_dict()) for name, module in model.named_children()}
    assert "backbone {backbone} of {backbone},".format(**sizes) in line
    assert "decoder 0 of {decoder},".format(**sizes) in line
    assert "classify 0 of 2" in line


def test_nothing_that_matches_is_refused_even_where_a_part_is_enough(
    compose: Compose, tmp_path: Path
) -> None:
    save_file({"surprise": torch.zeros(3)}, tmp_path / "other.safetensors")
    config = compose(*TINY, f"init_from='{tmp_path}/other.safetensors'", "init_from_partial=true")
    with pytest.raises(CheckpointError, match=r"none of its 1 tensors, such as surprise, matches"):
        started(config, CLASSES)
