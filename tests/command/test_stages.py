"""A run of several stages: what it leaves is what the same runs leave one after another, however often it is
interrupted.
"""

import copy
import functools
import json
import random
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from benchmarks.chaos.commands import logged_step, start
from deeplabx.command import stages as staging
from deeplabx.command import train as train_command
from deeplabx.command.extend import extend
from deeplabx.command.resume import resume
from deeplabx.command.stages import in_last_stage, train_all
from deeplabx.command.train import train
from deeplabx.config import schema
from deeplabx.engine import checkpoint as checkpoints
from deeplabx.engine import trainer
from deeplabx.engine.checkpoint_folder import place
from deeplabx.engine.state import TrainState
from deeplabx.errors import CheckpointError, ConfigError, DataError, DeviceError, StoppedError
from deeplabx.process.signals import StopRequest
from deeplabx.run.evaluated import evaluations_of
from deeplabx.run.folder import write_result
from deeplabx.run.report import Reports
from tests.conftest import TINY, Deeplabx, compose_plain, python, times

SHORT = [
    *(one for one in TINY if not one.startswith(("schedule", "dataset", "augment"))),
    *("trainer.samples=0", "trainer.save_every=2", "trainer.eval_every=3", "eval.details=false"),
    *("trainer.ema_decay=0.9", "schedule.max_iters=3"),
    *("model=deeplabv3", "augment.crop_size=17", "dataset.train_images=8", "dataset.val_images=1"),
]
SECOND = "{backbone: {output_stride: 8}, model: {norm: frozen}, optimizer: {lr: 0.02}}"
STAGES = [*SHORT, f"stages={{first: {{}}, second: {SECOND}}}"]
NAMES = ("1-first", "2-second")


@pytest.fixture(autouse=True)
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is drawn, which takes longer than the steps."""
    monkeypatch.setattr(train_command, "draw_curves", lambda folder: None)
    monkeypatch.setattr(Reports, "due", lambda *arguments, **keywords: None)


@functools.cache
def config_of(*settings: str) -> schema.TrainConfig:
    return compose_plain(*settings)


def started(folder: Path, *overrides: str) -> float:
    folder.mkdir(exist_ok=True)
    settings = [*STAGES, *overrides]
    return train_all(copy.deepcopy(config_of(*settings)), folder, overrides=settings)


def continued(folder: Path) -> float:
    return resume(folder, change=lambda config: config)


def weights_of(run: Path) -> list[bytes]:
    """Of the last checkpoint: the evaluated and the trained ones, and the optimizer's."""
    path = max(run.glob("checkpoints/step-*"))
    return [(path / f"{name}.safetensors").read_bytes() for name in ("model", "raw", "optimizer")]


def left_by(run: Path) -> list[object]:
    """What must not depend on interruptions."""
    folders = [run / "stages" / name for name in NAMES]
    return [(run / "result.json").read_bytes(), *map(weights_of, folders)]


def marks(folder: Path) -> set[str]:
    return {name for name in ("DONE", "FAILED", "INTERRUPTED") if (folder / name).is_file()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two stages that tests may read, not change."""
    folder = tmp_path_factory.mktemp("staged") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_command, "draw_curves", lambda folder: None)
        patch.setattr(Reports, "due", lambda *arguments, **keywords: None)
        started(folder)
    return folder


@pytest.fixture
def own(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "own")


def test_it_is_the_runs_by_hand_one_after_another(whole: Path, tmp_path: Path) -> None:
    for name in NAMES:
        words = yaml.safe_load((whole / "stages" / name / "overrides.yaml").read_text(encoding="utf-8"))
        config = compose_plain(*words)
        assert config.stages is None
        (tmp_path / name).mkdir()
        train(config, tmp_path / name, overrides=words)
        assert weights_of(tmp_path / name) == weights_of(whole / "stages" / name)
    result = (whole / "result.json").read_bytes()
    assert result == (tmp_path / NAMES[1] / "result.json").read_bytes()
    second = compose_plain(*words)
    assert second.init_from == str(whole / "stages" / NAMES[0] / "checkpoints" / "step-00000003")
    assert (second.backbone.output_stride, second.model.norm, second.optimizer.lr) == (8, "frozen", 0.02)
    log = (whole / "stages" / NAMES[1] / "train.log").read_text(encoding="utf-8")
    assert "stage 2 of 2, second: backbone.output_stride=8 model.norm=frozen optimizer.lr=0.02\n" in log


def test_the_whole_is_marked_and_stands_for_its_last_stage(whole: Path) -> None:
    assert [marks(one) for one in (whole, *(whole / "stages" / name for name in NAMES))] == [{"DONE"}] * 3
    assert place(str(whole)) == place(str(whole / "stages" / NAMES[1]))
    (evaluated,), _ = evaluations_of(whole)
    assert evaluated.folder == whole / "stages" / NAMES[1]


class Killed(BaseException):
    """In place of SIGKILL."""


def kill_at(monkeypatch: pytest.MonkeyPatch, name: str, step: int) -> None:
    """Before the (step + 1)-th step of a stage; at step 3, before its DONE; at -1, before it has begun."""
    monkeypatch.setattr(staging, "settle", lambda *arguments: None)
    attempted = trainer.attempted

    def attempt(state: TrainState, *arguments: object, **keywords: object) -> object:
        if (now[0], state.step) == (name, step):
            raise Killed
        return attempted(state, *arguments, **keywords)  # type: ignore[arg-type]

    def write(folder: Path, state: TrainState) -> None:
        if (folder.name, state.step) == (name, step):
            raise Killed
        write_result(folder, state)

    def begin(config: schema.TrainConfig, folder: Path, **keywords: object) -> float:
        now[0] = folder.name
        if (folder.name, step) == (name, -1):
            raise Killed
        return train(config, folder, **keywords)  # type: ignore[arg-type]

    now = [""]
    monkeypatch.setattr(trainer, "attempted", attempt)
    monkeypatch.setattr(train_command, "write_result", write)
    monkeypatch.setattr(staging, "train", begin)


ELSEWHERE = [
    (NAMES[1], random.Random(22).randint(1, 2)),
    (NAMES[0], random.Random(21).randint(0, 2)),
    (NAMES[0], 3),  # before the first stage is done
    (NAMES[1], 0),  # before the first step of the second one
    (NAMES[1], 3),
]
JOINT = (NAMES[1], -1)  # the first stage is done, and the second one has not begun


@pytest.mark.parametrize(
    ("name", "step"),
    [
        JOINT,
        *(pytest.param(*place, marks=pytest.mark.slow) for place in ELSEWHERE),
    ],
)
def test_a_run_killed_anywhere_is_resumed_to_the_same_bits(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, step: int
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        kill_at(patch, name, step)
        with pytest.raises(Killed):
            started(run)
    (run / "FAILED").unlink(missing_ok=True)  # which a killed process does not leave
    assert marks(run) == set()
    if any(run.glob("stages/*/checkpoints/step-*")):
        with pytest.raises(ConfigError, match=r"already holds checkpoints"):
            started(run)
    continued(run)
    assert left_by(run) == left_by(whole)
    assert marks(run) == {"DONE"}
    before = times(run)
    continued(run)  # nothing is left to do in any stage
    assert {path: time for path, time in times(run / "stages").items() if before[path] != time} == {}


@pytest.mark.slow
def test_a_signal_ends_the_whole_in_the_middle_of_a_stage(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update = TrainState.update

    def stopped(state: TrainState, *batch: object, stop: StopRequest | None = None) -> object:
        if state.model.backbone.output_stride == 8 and state.step == 1:
            assert stop is not None
            stop.number = 2
        return update(state, *batch, stop=stop)  # type: ignore[arg-type]

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(TrainState, "update", stopped)
        with pytest.raises(StoppedError, match=r"stage second: SIGINT received: saved at step 2") as raised:
            started(run)
    assert raised.value.hint == f"deeplabx resume {run}"
    assert marks(run) == marks(run / "stages" / NAMES[1]) == {"INTERRUPTED"}
    moved = run.rename(tmp_path / "moved")  # whose second stage starts from an absolute path
    continued(moved)
    assert left_by(moved) == left_by(whole)
    assert marks(moved) == {"DONE"}


def test_a_stage_that_fails_says_so_in_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(config: schema.TrainConfig, folder: Path, **keywords: object) -> float:
        if folder.name == NAMES[1]:
            raise DataError("the disk is gone")
        return train(config, folder, **keywords)  # type: ignore[arg-type]

    monkeypatch.setattr(staging, "train", failing)
    with pytest.raises(DataError, match=r"stage second: the disk is gone"):
        started(tmp_path / "run")
    assert marks(tmp_path / "run") == {"FAILED"}
    assert place(str(tmp_path / "run")).parent.parent.name == NAMES[0]  # the newest that has a checkpoint


def test_what_cannot_be_the_next_stage_is_refused_before_the_first_step(tmp_path: Path) -> None:
    for override, words in {
        "stages.second.dataset.train_split=trainval": r"stage second: .*trainval",
        "stages.second.model.channels=128": r"stage second: its network is not that of stage first: .*differ",
        "stages.second.model.norm=group": r"stage second: its network is not that of stage first",
        "stages.second.loss.class_weights=[1,2]": r"stage second: loss.class_weights has 2 values",
        "stages.second.trainer.precision=fp16": r"stage second: trainer.precision=fp16 needs a GPU",
        "stages.second={schedule: {warmup_iters: 9}, trainer: {epochs: 0.1}}": r"stage second: schedule.warm",
    }.items():
        folder = tmp_path / "run"
        with pytest.raises((ConfigError, DataError, DeviceError), match=words):
            started(folder, override)
        assert list(folder.iterdir()) == []


def test_a_stage_can_start_from_the_best_checkpoint(own: Path) -> None:
    shutil.rmtree(own / "stages" / NAMES[1])
    first = own / "stages" / NAMES[0] / "checkpoints"
    pointer = json.loads((first / "best.json").read_text(encoding="utf-8"))
    shutil.copytree(first / pointer["checkpoint"], first / "step-00000001")
    (first / "best.json").write_text(
        json.dumps({**pointer, "checkpoint": "step-00000001", "step": 1}), encoding="utf-8"
    )
    plain = yaml.safe_load((own / "config.yaml").read_text(encoding="utf-8"))
    plain["stages"]["second"]["init_from"] = "best"
    (own / "config.yaml").write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")
    continued(own)
    stored = yaml.safe_load((own / "stages" / NAMES[1] / "config.yaml").read_text(encoding="utf-8"))
    assert stored["init_from"] == str(first / "step-00000001")


def test_runs_that_differ_in_the_seed_are_compared_as_such(whole: Path, own: Path) -> None:
    for path in (own / "config.yaml", own / "stages" / NAMES[1] / "config.yaml"):
        plain = yaml.safe_load(path.read_text(encoding="utf-8")) | {"seed": 1}
        if plain["init_from"]:
            plain["init_from"] = str(own / "stages" / NAMES[0])
        path.write_text(yaml.safe_dump(plain), encoding="utf-8")
    first, second = (dict(evaluations_of(run)[0][0].settings) for run in (whole, own))
    assert {key for key in {**first, **second} if first.get(key) != second.get(key)} == {"seed"}
    assert (first["stages"], first["stages.second.optimizer.lr"]) == (["first", "second"], 0.02)
    assert first["optimizer.lr"] == config_of(*STAGES).optimizer.lr
    assert first["trainer.lr_batch_size"] is not None  # as it was resolved


def test_other_stages_and_settings_are_not_resumed(own: Path, tmp_path: Path) -> None:
    before = times(own)
    for override, words in {
        "stages.second.optimizer.lr=1": r"stage second was made with other settings: optimizer.lr was 0.02",
        "stages.third.seed=1": r"made with other stages: first, second, now first, second, third",
        "stages=null": r"holds a run of several stages",
    }.items():
        with pytest.raises(ConfigError, match=words):
            started(own, override, "resume=true")
    with pytest.raises(ConfigError, match=r"already holds checkpoints"):
        started(own)
    assert {path: time for path, time in times(own).items() if path != own} == before
    one = shutil.copytree(own / "stages" / NAMES[0], tmp_path / "one")
    with pytest.raises(ConfigError, match=r"holds a run without stages"):
        started(one)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ("{", r"stages.json"),
        ('{"stages": []}', r"lists no stages"),
        ('{"stages": [{"name": "../../x", "words": []}]}', r"is not the name of a stage"),
        ('{"stages": [{"name": "first", "words": [3]}]}', r"are no texts"),
        ('{"stages": [{"name": "other", "words": []}]}', r"name other stages"),
    ],
)
def test_a_damaged_record_is_a_checkpoint_error(tmp_path: Path, whole: Path, record: str, words: str) -> None:
    shutil.copy(whole / "config.yaml", tmp_path)
    (tmp_path / "stages.json").write_text(record, encoding="utf-8")
    with pytest.raises(CheckpointError, match=words):
        continued(tmp_path)


def test_the_last_stage_is_extended(own: Path) -> None:
    def longer(config: schema.TrainConfig) -> schema.TrainConfig:
        return replace(config)

    in_last_stage(own, lambda folder: extend(folder, max_iters=4, change=longer))
    assert marks(own) == {"DONE"}
    assert checkpoints.find(str(own / "stages" / NAMES[1] / "checkpoints" / "step-00000004"))
    assert (own / "result.json").read_bytes() == (own / "stages" / NAMES[1] / "result.json").read_bytes()
    continued(own)  # it is finished, with its own length
    shutil.rmtree(own / "stages" / NAMES[1])
    with pytest.raises(ConfigError, match=r"has not reached its last stage"):
        in_last_stage(own, lambda folder: 0.0)


def test_every_command_takes_the_whole_run(own: Path, deeplabx: Deeplabx, tmp_path: Path) -> None:
    evaluated = deeplabx("eval", str(own), "hydra.run.dir=evaluated")
    assert evaluated.code == 0, evaluated.err
    found, trained = (
        json.loads((one / "result.json").read_text(encoding="utf-8")) for one in (tmp_path / "evaluated", own)
    )
    assert (found["confusion_sha256"], found["output_stride"]) == (trained["confusion_sha256"], 8)
    report = deeplabx("report", str(own))
    assert report.out == f"written to {own.relative_to(tmp_path)}/stages/2-second/report.html\n"
    again = deeplabx("resume", str(own))
    assert again.code == 0
    assert "is finished, in all 2 stages: best mIoU of the last one" in again.out


@pytest.mark.slow
def test_a_sweep_has_the_result_of_the_last_stage(deeplabx: Deeplabx, tmp_path: Path) -> None:
    ended = deeplabx("train", "-m", *STAGES, "schedule.max_iters=1", "stages.second.optimizer.lr=0.01,0.02")
    assert ended.code == 0, ended.err
    (summary,) = tmp_path.glob("outputs/sweep/*/sweep.json")
    for job in json.loads(summary.read_text(encoding="utf-8"))["jobs"]:
        last = summary.parent / job["folder"] / "stages" / NAMES[1]
        assert json.loads((last / "result.json").read_text(encoding="utf-8"))["miou"] == job["miou"]
        stored = yaml.safe_load((last / "config.yaml").read_text(encoding="utf-8"))
        assert stored["optimizer"]["lr"] == [0.01, 0.02][job["job"]]
    assert "stages.second.optimizer.lr" in ended.out


WITHOUT_DEVICES = [one for one in STAGES if not one.startswith("trainer.devices")]
OF_TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "devices"), [([], "trainer.devices=2"), (OF_TORCHRUN, "trainer.devices=auto")]
)
def test_two_processes_train_both_stages(tmp_path: Path, program: list[str], devices: str) -> None:
    """Those that the command starts, once for each stage, and those of torchrun, which stay."""
    command = ["-m", "deeplabx", "train", *WITHOUT_DEVICES, devices, "hydra.run.dir=run"]
    done = python(*program, *command, cwd=tmp_path)
    assert done.code == 0, done.err
    assert marks(tmp_path / "run") == {"DONE"}
    for name in NAMES:
        environment = (tmp_path / "run" / "stages" / name / "environment.json").read_text(encoding="utf-8")
        assert json.loads(environment)["processes"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("stage", NAMES)
def test_a_run_whose_process_is_killed_is_resumed_by_the_command_line(
    tmp_path: Path, whole: Path, stage: str
) -> None:
    run, number = tmp_path / "run", random.Random(stage).randint(1, 2)
    command = ["train", *STAGES, f"hydra.run.dir={run}", "trainer.save_every=1"]
    life = start(command, tmp_path)
    metrics = run / "stages" / stage / "metrics.jsonl"
    assert life.wait_until(lambda: logged_step(metrics.parent) >= number)
    life.send(signal.SIGKILL)
    life.process.wait()
    assert marks(run) == set()
    done = python("-m", "deeplabx", "resume", str(run), cwd=tmp_path)
    assert done.code == 0, done.err
    assert left_by(run) == left_by(whole)
