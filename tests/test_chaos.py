"""The reliability bench (`make chaos`) in short: a kill, a disk that fails, and the loss of a process."""

import random
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.chaos import kills, loading, processes
from benchmarks.chaos.commands import DEEPLABX, end_all, start, training, weights_of
from benchmarks.chaos.disk import FILE_LIMIT
from deeplabx.command import train as train_command
from deeplabx.engine import checkpoint as checkpoints
from tests.conftest import Deeplabx

SHORT = ["schedule.max_iters=8", "trainer.save_every=2"]


@pytest.fixture(autouse=True)
def started_processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    monkeypatch.setattr(train_command, "draw_curves", lambda folder: None)  # takes longer than a few steps
    yield
    end_all()


@pytest.mark.slow
def test_a_killed_run_is_resumed_to_the_weights_of_one_that_was_not(
    deeplabx: Deeplabx, tmp_path: Path
) -> None:
    settings = [*SHORT, "trainer.accumulate=2"]
    run, whole = tmp_path / "run", tmp_path / "whole"
    kills.kill("pass", 12, training(run, *settings), tmp_path)  # in the middle of an accumulation
    assert checkpoints.newest(run / "checkpoints")[0] is not None
    assert deeplabx("resume", str(run)).code == 0
    assert deeplabx(*training(whole, *settings)).code == 0
    assert weights_of(run) == weights_of(whole)


def test_a_disk_that_takes_no_more_costs_saves_and_no_earlier_checkpoint(
    deeplabx: Deeplabx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, keep = tmp_path / "run", checkpoints.keep
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def keep_and_limit(*arguments: object, **settings: object) -> None:
        keep(*arguments, **settings)  # type: ignore[arg-type]
        resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_LIMIT, hard))

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "keep", keep_and_limit)
        try:
            ended = deeplabx(*training(run, *SHORT))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert ended.code == 6
    assert len(ended.err.splitlines()) <= 3
    assert ended.out.count("could not be saved") == 2  # steps 4 and 6; the save of step 8 is needed
    left = {path.name for path in (run / "checkpoints").iterdir()}
    assert left == {"step-00000002", "last.json"}
    checkpoints.verified(run / "checkpoints/step-00000002")
    assert deeplabx("resume", str(run)).code == 0


@pytest.mark.slow  # the longest two: several processes, which wait for each other
def test_a_lost_process_ends_the_run_in_a_few_lines_and_costs_no_save(tmp_path: Path) -> None:
    found = processes.lost("rank 1 killed", tmp_path)
    assert found.passed, found.words


@pytest.mark.slow
def test_a_killed_loader_worker_ends_the_run_in_words_and_leaves_no_process(tmp_path: Path) -> None:
    right, seconds = loading.kill_a_worker(tmp_path, rng=random.Random(0), program=DEEPLABX)
    assert right
    assert seconds < 30


@pytest.mark.slow  # the longest two: several processes, which wait for each other
def test_two_processes_whose_data_stop_arriving_hear_a_signal_and_save(tmp_path: Path) -> None:
    right, words = loading.stall(tmp_path, signal.SIGTERM, "trainer.workers=1", "trainer.devices=2")
    assert right, words


@pytest.mark.slow
def test_a_full_shared_memory_is_worked_around(tmp_path: Path, deeplabx: Deeplabx) -> None:
    if not loading.can_mount():
        pytest.skip("no /dev/shm of another size can be mounted here")
    settings = [*SHORT, "trainer.workers=2", "augment.crop_size=129"]
    run, other = tmp_path / "run", tmp_path / "other"
    ended = start(training(run, *settings), tmp_path, program=loading.with_shared_memory("256k")).wait()
    assert ended.code == 0, ended.err
    assert "/dev/shm: 256 KiB free of 256 KiB, the batches in flight need" in ended.out
    assert deeplabx(*training(other, *settings)).code == 0
    assert weights_of(run) == weights_of(other)
