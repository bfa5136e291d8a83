from pathlib import Path

import pytest

from deeplabx.engine import checkpoint as checkpoints
from deeplabx.engine.checkpoint_folder import pointed
from deeplabx.engine.log import Log
from deeplabx.engine.saver import Saver
from deeplabx.errors import DivergedError, ResourceError
from tests.engine.states import model_without_noise, state_of


class Lines(Log):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def failing(error: Exception) -> object:
    def keep(*_: object, **__: object) -> None:
        raise error

    return keep


def test_a_full_disk_costs_a_periodic_checkpoint_and_its_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, log = state_of(model_without_noise()), Lines()
    saver = Saver(state, tmp_path, description={}, log=log)
    state.step, state.best = 1, {"step": 1, "miou": 0.3}
    saver.try_save()
    assert pointed(tmp_path, "best") == tmp_path / "step-00000001"
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "keep", failing(OSError(28, "No space left on device", "file")))
        state.step, state.best = 2, {"step": 2, "miou": 0.4}
        saver.try_save()
        assert state.best == {"step": 1, "miou": 0.3}  # the best one must be on the disk
        assert log.lines == [
            "step 2 could not be saved: file: No space left on device; training continues, "
            "the newest checkpoint is step-00000001"
        ]
        with pytest.raises(ResourceError, match="No space left"):
            saver.save()
    state.step, state.best = 3, {"step": 3, "miou": 0.5}
    saver.try_save()
    assert pointed(tmp_path, "best") == tmp_path / "step-00000003"


def test_another_error_is_not_taken_for_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saver = Saver(state_of(model_without_noise()), tmp_path, description={}, log=Log())
    monkeypatch.setattr(checkpoints, "keep", failing(DivergedError("1 tensors are not finite")))
    with pytest.raises(DivergedError):
        saver.try_save()
