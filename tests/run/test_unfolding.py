import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from deeplabx.engine.durable import remove
from deeplabx.errors import ConfigError
from deeplabx.run.build import dataset_of, model_of
from deeplabx.run.unfolding import first_crops
from tests.conftest import TINY, Compose, Deeplabx, TrainTiny

UNFOLDED = "trainer.unfold_norm=6"  # more than one batch


def write_folded(path: Path, compose: Compose, *, folded: bool = True) -> str:
    """Weights of the tiny run's backbone, whose batch norms are folded; the override that loads them."""
    torch.manual_seed(2)
    tensors = model_of(compose(*TINY), num_classes=2, in_channels=3).backbone.state_dict()
    for name, value in tensors.items():
        if name.endswith("running_var"):
            value.fill_(1 - 1e-5 if folded else 0.5)
    save_file(tensors, path)
    return f"backbone.weights='{path}'"


def saved(run: Path, step: int) -> dict[str, Tensor]:
    return load_file(run / "checkpoints" / f"step-{step:08}" / "model.safetensors")


def the_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_two_runs_are_identical_and_so_is_a_resumed_one(
    train_tiny: TrainTiny, compose: Compose, tmp_path: Path
) -> None:
    weights = write_folded(tmp_path / "folded.safetensors", compose)
    short = ["schedule.max_iters=2", "trainer.save_every=1", "trainer.eval_every=2", "trainer.samples=0"]
    first, second = (train_tiny(name, weights, UNFOLDED, *short) for name in ("first", "second"))
    whole = saved(first, 2)
    assert the_same(whole, saved(second, 2))
    (second / "DONE").unlink()
    remove(second / "checkpoints" / "step-00000002")
    (second / "checkpoints" / "best.json").unlink()
    train_tiny("second", weights, UNFOLDED, *short, "resume=true")
    assert the_same(whole, saved(second, 2))
    log = (second / "train.log").read_text(encoding="utf-8")
    assert log.count("statistics of 51 folded batch norms measured on 6 crops") == 1  # not when it is resumed
    assert "their batch norms are folded" not in log


def test_the_crops_are_those_of_the_first_steps(compose: Compose) -> None:
    from deeplabx.run.build import batches_of

    config = compose(*TINY)
    training = dataset_of(config.dataset, split="train")
    model = model_of(config, num_classes=7, in_channels=3)
    device, normalization = torch.device("cpu"), model.backbone.normalization
    measured = torch.cat([*first_crops(config, model, training, 6, device=device, unreadable=[])])
    batches = batches_of(config, training, normalization, device=device, first_step=0, workers=0)
    trained = torch.cat([normalization(batch.images) for batch in batches if batch is not None])
    assert torch.equal(measured, trained[:6])


@pytest.mark.slow
def test_several_processes_measure_the_same_statistics(
    compose: Compose, deeplabx: Deeplabx, tmp_path: Path
) -> None:
    """Frozen, the backbone's norms stay as they were measured."""
    weights = write_folded(tmp_path / "folded.safetensors", compose)
    frozen = [*TINY, weights, UNFOLDED, "trainer.freeze_backbone_norm=true", "trainer.samples=0"]
    for devices in ("cpu", "2"):
        ended = deeplabx("train", *frozen, f"trainer.devices={devices}", f"hydra.run.dir=run_{devices}")
        assert ended.code == 0, ended.err
    one, two = (saved(tmp_path / f"run_{devices}", 4) for devices in ("cpu", "2"))
    names = [name for name in one if name.startswith("backbone.") and "running" in name]
    assert len(names) == 2 * 51
    assert all(torch.equal(one[name], two[name]) for name in names)
    assert not any(bool((one[name] == 1 - 1e-5).all()) for name in names)


def test_weights_with_statistics_are_refused(train_tiny: TrainTiny, compose: Compose, tmp_path: Path) -> None:
    weights = write_folded(tmp_path / "own.safetensors", compose, folded=False)
    with pytest.raises(
        ConfigError,
        match=r"trainer.unfold_norm=6, but no batch norm of backbone.weights=\S*own.safetensors is folded\n"
        "set trainer.unfold_norm=null",
    ):
        train_tiny("run", weights, UNFOLDED)
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["model.norm=frozen", "init_from=x"], "but model.norm=frozen never uses new statistics"),
        (["model.norm=group", "init_from=x"], "but model.norm=group has none"),
        ([], "but no weights are loaded: random batch norms are not folded"),
        (["backbone.weights=none"], "but no weights are loaded"),
    ],
)
def test_settings_with_which_there_is_nothing_to_measure_are_refused(
    compose: Compose, settings: list[str], words: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        compose(*TINY, UNFOLDED, *settings)
