"""A run whose loss changes with the step, or has parts, is resumed to the same weights."""

from pathlib import Path

import pytest

from tests.command.test_train import stopped_run
from tests.conftest import TrainTiny


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        ["loss=ohem", "loss.share=0.2", "loss.anneal_steps=3"],
        [
            "loss=composite",
            "loss.parts=[{name: cross_entropy, class_balance: enet, keep_priors: true}, "
            "{name: ohem, anneal_steps: 3}, {name: lovasz}]",
        ],
    ],
    ids=["ohem", "composite"],
)
def test_a_resumed_run_has_every_bit_of_one_that_was_not_interrupted(
    train_tiny: TrainTiny, tmp_path: Path, settings: list[str]
) -> None:
    settings = [*settings, "schedule.max_iters=3", "trainer.eval_every=3", "trainer.samples=0"]
    whole = train_tiny("whole", *settings)
    stopped_run(tmp_path / "run", *settings)
    folder = train_tiny("run", *settings, "resume=true")
    files = [
        {path.name: path.read_bytes() for path in run.glob("checkpoints/step-00000003/*.safetensors")}
        for run in (whole, folder)
    ]
    assert len(files[0]) == 2
    assert files[0] == files[1]
