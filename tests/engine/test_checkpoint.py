import json
from pathlib import Path

import pytest
import torch
from torch import nn

import deeplabx
from deeplabx.engine import checkpoint as checkpoints
from deeplabx.engine import durable
from deeplabx.engine.checkpoint_folder import pointed
from deeplabx.errors import CheckpointError, DivergedError
from tests.engine.states import model_without_noise, state_of, taken


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    state = state_of(model_without_noise())
    taken(state)
    return checkpoints.save(state, tmp_path, description={"classes": ["a"]})


def test_a_checkpoint_is_a_folder_without_pickle_and_with_a_manifest(saved: Path) -> None:
    assert saved.name == "step-00000001"
    files = {path.name for path in saved.iterdir()}
    assert files == {
        "model.safetensors",
        "optimizer.safetensors",
        "state.json",
        "config.json",
        "MANIFEST.json",
    }
    manifest = json.loads((saved / "MANIFEST.json").read_text())
    assert set(manifest) == files - {"MANIFEST.json"}
    assert all(
        entry["size"] == (saved / name).stat().st_size and len(entry["sha256"]) == 64
        for name, entry in manifest.items()
    )
    assert not list(saved.parent.glob(".tmp-*"))


def test_restore_brings_back_weights_momentum_and_step(saved: Path) -> None:
    state = state_of(model_without_noise())
    taken(state)
    fresh = state_of(model_without_noise())
    checkpoints.restore(fresh, checkpoints.verified(saved))
    assert fresh.step == 1
    assert taken(state).loss == taken(fresh).loss
    assert all(
        torch.equal(a, b)
        for a, b in zip(state.model.state_dict().values(), fresh.model.state_dict().values(), strict=True)
    )


@pytest.fixture
def averaged(tmp_path: Path) -> Path:
    state = state_of(model_without_noise(), ema_decay=0.5)
    taken(state)
    return checkpoints.save(state, tmp_path, description={"classes": ["a"]})


def test_with_an_average_the_model_that_learns_is_kept_beside_it(averaged: Path) -> None:
    assert "raw.safetensors" in json.loads((averaged / "MANIFEST.json").read_text())
    state = state_of(model_without_noise(), ema_decay=0.5)
    taken(state)
    found = checkpoints.verified(averaged)
    for tensors, model in (
        (found.model_tensors(), state.evaluated_model),
        (found.raw_tensors(), state.model),
    ):
        assert tensors is not None
        assert all(torch.equal(tensors[name], value) for name, value in model.state_dict().items())
    fresh = state_of(model_without_noise(), ema_decay=0.5)
    checkpoints.restore(fresh, found)
    assert fresh.average
    assert fresh.average.updates == 1
    taken(state)
    taken(fresh)
    for one, other in ((state.model, fresh.model), (state.evaluated_model, fresh.evaluated_model)):
        assert all(
            torch.equal(a, b)
            for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
        )
    (averaged / "raw.safetensors").write_bytes(b"cut")
    with pytest.raises(CheckpointError, match=r"raw.safetensors does not match MANIFEST.json"):
        checkpoints.verified(averaged)


def test_a_run_with_an_average_needs_the_model_that_learns(saved: Path) -> None:
    state = state_of(model_without_noise(), ema_decay=0.5)
    with pytest.raises(CheckpointError, match=r"raw.safetensors and trainer.ema_decay .* belong together"):
        checkpoints.restore(state, checkpoints.verified(saved))


def test_equal_states_have_equal_bytes(tmp_path: Path) -> None:
    shas = []
    for name in ("a", "b"):
        state = state_of(model_without_noise())
        taken(state)
        shas.append((checkpoints.save(state, tmp_path / name, description={}) / "MANIFEST.json").read_text())
    assert shas[0] == shas[1]


@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimizer.safetensors", "state.json", "config.json", "MANIFEST.json"]
)
@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_any_damage_to_any_file_is_found(saved: Path, name: str, damage: str) -> None:
    path = saved / name
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:-3] if damage == "cut" else content[:-3] + b"?" + content[-2:])
    with pytest.raises(CheckpointError):
        checkpoints.verified(saved)


def test_the_newest_valid_one_is_taken_and_the_damaged_one_is_told(tmp_path: Path) -> None:
    state = state_of(model_without_noise())
    for _ in range(2):
        taken(state)
        checkpoints.save(state, tmp_path, description={})
    (tmp_path / "step-00000002" / "state.json").write_text("{}")
    found, complaints = checkpoints.newest(tmp_path)
    assert found is not None
    assert found.path.name == "step-00000001"
    assert len(complaints) == 1
    assert "step-00000002 is damaged: state.json" in complaints[0]


def test_an_interrupted_save_leaves_nothing_and_the_earlier_ones(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = state_of(model_without_noise())
    checkpoints.restore(state, checkpoints.verified(saved))
    taken(state)

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable, "sync", full_disk)
    with pytest.raises(OSError, match="No space"):
        checkpoints.save(state, saved.parent, description={})
    assert [path.name for path in saved.parent.iterdir()] == ["step-00000001"]
    checkpoints.verified(saved)


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    model = model_without_noise()
    nn.init.constant_(model.classify.bias, float("inf"))  # type: ignore[union-attr, arg-type]
    with pytest.raises(DivergedError, match="classify.bias"):
        checkpoints.save(state_of(model), tmp_path, description={})
    assert not list(tmp_path.iterdir())


def test_best_and_the_newest_two_are_kept(tmp_path: Path) -> None:
    state = state_of(model_without_noise())
    for step in range(1, 6):
        state.step = step
        path = checkpoints.save(state, tmp_path, description={})
        if step == 2:
            checkpoints.point(tmp_path, "best", path, step=step, miou=0.5)
        checkpoints.prune(tmp_path)
    assert sorted(path.name[-1] for path in tmp_path.glob("step-*")) == ["2", "4", "5"]


def test_find_takes_a_run_its_checkpoints_or_one_of_them(saved: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    saved.rename(run / "checkpoints" / saved.name)
    checkpoints.point(run / "checkpoints", "last", run / "checkpoints" / saved.name, step=1, miou=None)
    for ckpt in (run, run / "checkpoints", run / "checkpoints" / saved.name):
        assert checkpoints.find(str(ckpt)).path.name == saved.name


def test_what_is_no_checkpoint_says_why(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        checkpoints.find(str(tmp_path / "no"))
    with pytest.raises(CheckpointError, match="contains no checkpoint"):
        checkpoints.find(str(tmp_path))
    (tmp_path / "weights.pth").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="is a file"):
        checkpoints.find(str(tmp_path / "weights.pth"))
    (tmp_path / "best.json").write_text('{"checkpoint": "../../etc"}')
    with pytest.raises(CheckpointError, match="does not name a checkpoint beside it"):
        checkpoints.find(str(tmp_path))


def test_what_a_killed_save_left_is_put_right(saved: Path) -> None:
    folder, outside = saved.parent, saved.parent / "kept"
    outside.mkdir()
    (outside / "file").touch()
    (folder / ".tmp-abc").mkdir()
    (folder / ".tmp-abc" / "model.safetensors").touch()
    (folder / ".tmp-best.json").touch()
    (folder / ".tmp-link").symlink_to(outside)
    saved.rename(folder / f".replaced-{saved.name}")  # killed after the old one had made room
    durable.tidy(folder)
    assert {path.name for path in folder.iterdir()} == {saved.name, "kept"}
    assert (outside / "file").exists()
    checkpoints.verified(saved)


def test_a_step_that_is_saved_again_takes_the_place_of_the_first(saved: Path) -> None:
    state = state_of(model_without_noise())
    checkpoints.restore(state, checkpoints.verified(saved))
    state.best = {"step": 1, "miou": 0.25}
    assert checkpoints.save(state, saved.parent, description={}) == saved
    assert checkpoints.verified(saved).state["best"]["miou"] == 0.25
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_best_names_the_best_of_the_state_though_the_process_died_before_it_was_named(tmp_path: Path) -> None:
    state = state_of(model_without_noise())
    for step in (1, 2):
        state.step, state.best = step, {"step": step, "miou": step / 10}
        checkpoints.save(state, tmp_path, description={})
    checkpoints.point(tmp_path, "best", tmp_path / "step-00000001", step=1, miou=0.1)
    checkpoints.repair(tmp_path, state)
    assert pointed(tmp_path, "best") == tmp_path / "step-00000002"
    state.best = {}
    checkpoints.repair(tmp_path, state)
    assert pointed(tmp_path, "best") is None


@pytest.mark.parametrize(
    "change",
    [
        {"step": "1"},
        {"step": -1},
        {"step": 10**30},
        {"best": []},
        {"best": {"step": 1}},
        {"schema_version": 1},
    ],
)
def test_a_state_that_no_run_writes_is_refused(saved: Path, change: dict[str, object]) -> None:
    state = json.loads((saved / "state.json").read_text())
    (saved / "state.json").write_text(json.dumps({**state, **change}))
    with pytest.raises(CheckpointError, match=r"state.json: |schema version"):
        checkpoints.Checkpoint(saved).state  # noqa: B018 - reading it is what raises


def test_tensors_of_another_model_are_a_checkpoint_error(saved: Path) -> None:
    state = state_of(deeplabx.build_model("deeplabv3", backbone="resnet18", num_classes=4))
    with pytest.raises(CheckpointError, match="does not match the model in its config"):
        checkpoints.restore(state, checkpoints.verified(saved))


def test_a_tensor_that_torch_would_pass_over_is_missed(saved: Path) -> None:
    tensors = checkpoints.Checkpoint(saved).model_tensors()
    model = deeplabx.build_model("deeplabv3plus", backbone="resnet18", num_classes=4)
    counters = {
        name: value for name, value in model.state_dict().items() if name.endswith("num_batches_tracked")
    }
    checkpoints.fill(model, {**counters, **tensors}, source=saved)
    name = "backbone.bn1.num_batches_tracked"
    assert name in counters
    with pytest.raises(CheckpointError, match=rf"1 tensors are missing, the first: {name}"):
        checkpoints.fill(
            model, {key: value for key, value in {**counters, **tensors}.items() if key != name}, source=saved
        )
