import os
import pickle
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import deeplabx
from deeplabx.api import found_model
from deeplabx.config.schema import LossSettings
from deeplabx.dataset.writing import write_image
from deeplabx.errors import CheckpointError, ConfigError, DataError
from deeplabx.loss.contract import Loss
from deeplabx.run.description import stored_model
from tests.conftest import TINY, Ended, python

NAMES = [
    *("Result", "build_model", "compose", "evaluate", "export_model", "load", "predict", "register", "train")
]
DROPOUT = ["model=deeplabv1", "backbone=vgg16", "schedule.max_iters=2", "trainer.eval_every=2"]


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)


def test_importing_deeplabx_imports_no_torch(tmp_path: Path) -> None:
    code = "import sys, deeplabx; deeplabx.register; print('torch' in sys.modules)"
    assert python("-c", code, cwd=tmp_path) == Ended(0, "False\n", "")


def test_every_name_is_listed_and_documented() -> None:
    assert set(NAMES) <= set(dir(deeplabx))
    assert sorted(deeplabx.__all__) == NAMES
    for name in NAMES:
        assert getattr(deeplabx, name).__doc__


def test_build_model_takes_names_and_gives_logits() -> None:
    model = deeplabx.build_model("deeplabv3plus", backbone="resnet18", num_classes=21, output_stride=8).eval()
    assert model(torch.zeros(1, 3, 41, 57)).shape == (1, 21, 41, 57)


def test_compose_gives_the_config_of_a_command_line() -> None:
    config = deeplabx.compose(["backbone=resnet50", "optimizer.lr=0.3", "eval.scales=0.5"])
    assert (config.backbone.name, config.optimizer.lr, config.eval.scales) == ("resnet50", 0.3, [0.5])
    with pytest.raises(ConfigError, match="optimizer.lr=-1.0 is out of range: it must be above 0"):
        deeplabx.compose(["optimizer.lr=-1"])


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        deeplabx.nothing  # noqa: B018


# --- train, evaluate, predict -------------------------------------------------------------------------------


def tensors(run: Path) -> bytes:
    (path,) = run.glob("checkpoints/step-*/model.safetensors")
    return path.read_bytes()


def state_of_process() -> dict[str, Any]:
    """What a function called in a notebook must leave as it was."""
    return {
        "argv": list(sys.argv),
        "folder": Path.cwd(),
        # torch and OpenCV set variables of their own as they are imported; cuBLAS reads its variable
        # whenever CUDA starts, so it stays set
        "environment": {
            k: v
            for k, v in os.environ.items()
            if not k.startswith(("TORCH", "LD_LIBRARY", "CUBLAS_WORKSPACE"))
        },
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)],
        "random": torch.get_rng_state().tolist(),
        "threads": torch.get_num_threads(),
        "others": {one.name for one in threading.enumerate()} - {"tqdm_monitor"},
    }


def test_train_evaluate_and_predict_agree_and_leave_the_process_as_it_was(
    tmp_path: Path, image: np.ndarray
) -> None:
    deeplabx.compose([])  # Hydra and its parser are imported
    before = state_of_process()
    result = deeplabx.train(TINY, tmp_path / "run")
    metrics = deeplabx.evaluate(result.folder, ["trainer.devices=cpu"])
    (ids,) = deeplabx.predict(result.folder, image, ["trainer.devices=cpu"])
    assert state_of_process() == before
    assert result.folder == tmp_path / "run"
    assert (result.miou, result.step) == (result.metrics["miou"], result.metrics["step"])
    assert metrics.miou == result.miou
    assert metrics.to_plain()["confusion_sha256"] == result.metrics["confusion_sha256"]
    assert ids.dtype == np.uint8
    assert ids.shape == (40, 50)


def test_a_training_without_a_folder_is_where_the_command_would_put_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = deeplabx.train([*TINY, "schedule.max_iters=1"])
    assert result.folder.parent == tmp_path / "outputs/train/shapes_deeplabv3plus_mobilenetv2"
    assert (result.folder / "DONE").is_file()


@pytest.mark.slow
def test_two_trainings_in_two_threads_end_as_each_does_alone(tmp_path: Path) -> None:
    settings = {name: [*TINY, *DROPOUT, f"seed={seed}"] for seed, name in enumerate(("one", "two"))}
    with ThreadPoolExecutor(2) as threads:
        both = [
            threads.submit(deeplabx.train, overrides, tmp_path / f"{name}_beside")
            for name, overrides in settings.items()
        ]
        for future in both:
            future.result()
    for name, overrides in settings.items():
        alone = deeplabx.train(overrides, tmp_path / f"{name}_alone")
        assert tensors(alone.folder) == tensors(tmp_path / f"{name}_beside")


def test_two_threads_cannot_train_in_one_folder(tmp_path: Path) -> None:
    def attempt(number: int) -> str:
        try:
            deeplabx.train([*TINY, f"seed={number}"], tmp_path / "run")
        except ConfigError as error:
            return error.message
        return "trained"

    with ThreadPoolExecutor(2) as threads:
        ends = sorted(threads.map(attempt, range(2)), key=len)
    assert ends[0] == "trained"
    assert "is in use by another run of this process" in ends[1] or "already holds checkpoints" in ends[1]


def test_mistakes_are_the_commands_own(tmp_path: Path, tiny_run: Path) -> None:
    with pytest.raises(ConfigError, match=r"optimizer.lrr is not a setting. Did you mean optimizer.lr\?"):
        deeplabx.train(["optimizer.lrr=1"])
    with pytest.raises(ConfigError, match="overrides is a list of strings"):
        deeplabx.train("trainer.epochs=2")
    with pytest.raises(DataError, match="dataset.root is not set"):
        deeplabx.train(["dataset=camvid"], tmp_path / "not_begun")
    assert not (tmp_path / "not_begun").exists()
    with pytest.raises(ConfigError, match="trainer.devices=gpu is not one of"):
        deeplabx.evaluate(tiny_run, ["trainer.devices=gpu"])
    with pytest.raises(CheckpointError, match="does not exist"):
        deeplabx.predict(tmp_path / "nowhere", [])
    with pytest.raises(CheckpointError, match="which segments nothing"):
        deeplabx.load("resnet50_imagenet_keras")


def test_predict_takes_paths_folders_images_and_arrays(
    tiny_run: Path, tmp_path: Path, image: np.ndarray
) -> None:
    write_image(tmp_path / "in" / "a.png", image)
    every: list[Any] = [image, Image.fromarray(image), tmp_path / "in" / "a.png", str(tmp_path / "in")]
    found = deeplabx.predict(tiny_run, every)
    assert isinstance(found, Iterator)
    expected = stored_model(str(tiny_run)).predictor().ids(image).cpu().numpy()
    ids = list(found)
    assert len(ids) == 4
    for one in ids:
        assert np.array_equal(one, expected)


@pytest.mark.parametrize(
    ("command", "overrides", "window"),
    [
        ("predict", [], "auto"),
        ("predict", ["eval.window=null"], None),
        ("predict", ["eval.window=65"], 65),
        ("eval", [], None),
        ("eval", ["eval.window=auto"], "auto"),
    ],
)
def test_predict_takes_windows_where_memory_needs_them_and_eval_where_it_is_told_to(
    tiny_run: Path, command: str, overrides: list[str], window: int | str | None
) -> None:
    assert found_model(command, tiny_run, overrides).predictor().window == window


class Own(Loss):
    def forward(self, logits: Tensor, labels: Tensor, *, ignore_index: int) -> Tensor:
        raise ZeroDivisionError("mine")


@dataclass
class OwnSettings(LossSettings):
    pass


def test_an_error_in_a_class_of_ones_own_arrives_as_it_is(own_options: None, tmp_path: Path) -> None:
    deeplabx.register("loss", "own", build=Own, settings=OwnSettings, words="")
    with pytest.raises(ZeroDivisionError, match="mine"):
        deeplabx.train([*TINY, "loss=own"], tmp_path / "run")
    assert (tmp_path / "run" / "FAILED").read_text() == "mine\n"


# --- load ---------------------------------------------------------------------------------------------------


def test_load_gives_a_model_that_predicts_as_the_command_does(tiny_run: Path, image: np.ndarray) -> None:
    model = deeplabx.load(tiny_run)
    assert not model.training
    assert model.classes[:2] == ["background", "disc"]
    assert len(model.palette) == 7
    expected = stored_model(str(tiny_run)).predictor().ids(image).cpu()
    for one in (model, pickle.loads(pickle.dumps(model))):
        with torch.inference_mode():
            ids = one(one.preprocess(image)).argmax(1)[0]
        assert torch.equal(ids, expected)


def test_preprocess_takes_arrays_pil_images_and_paths(
    tiny_run: Path, tmp_path: Path, image: np.ndarray
) -> None:
    preprocess = deeplabx.load(tiny_run).preprocess
    write_image(tmp_path / "a.png", image)
    expected = preprocess(image)
    assert expected.shape == (1, 3, 40, 50)
    for one in (
        np.asarray(Image.fromarray(image)),
        Image.fromarray(image),
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        image[:, ::-1][:, ::-1],
    ):
        assert torch.equal(preprocess(one), expected)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (np.zeros((4, 5, 3)), r"float64, but must be uint8.*\n.*255 \* image"),
        (np.zeros((4, 5, 3), np.int64), "int64, but must be uint8"),
        (np.zeros((4, 5), np.uint8), r"a grey array 4 x 5, the model needs H x W x 3\nuse np.repeat"),
        (np.zeros((4, 5, 4), np.uint8), "an array 4 x 5 x 4, the model needs H x W x 3"),
        (np.zeros((3, 4, 5), np.uint8), r"an array 3 x 4 x 5.*\nchannels come last"),
        (np.zeros((0, 5, 3), np.uint8), "an array 0 x 5 x 3"),
        (torch.zeros(4, 5, 3), "a Tensor is not an image"),
        (Image.new("I;16", (4, 5)), "more than 8 bits"),
        ("nowhere.png", "nowhere.png does not exist"),
    ],
)
def test_what_is_not_such_an_image_is_refused_in_words(tiny_run: Path, wrong: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        deeplabx.load(tiny_run).preprocess(wrong)


def test_load_takes_a_name_of_known_weights(
    real_weights: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, image: np.ndarray
) -> None:
    """Google's file, in the cache as it would be after a download."""
    from deeplabx.weights import importers

    folder = real_weights("deeplabv3_mnv2_pascal_trainval_tfjs")
    monkeypatch.setattr(importers, "fetched", lambda known: folder)
    monkeypatch.setenv("DEEPLABX_CACHE", str(tmp_path))
    for _ in range(2):  # imported, then from the cache
        model = deeplabx.load("deeplabv3_mobilenetv2_voc_google")
        assert (len(model.classes), model.classes[15]) == (21, "person")
        assert model(model.preprocess(image)).shape == (1, 21, 40, 50)
        monkeypatch.setattr(importers, "fetched", None)
