"""Whole commands in several processes: one run folder, one log, one exit code."""

import json
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from deeplabx.dataset.class_balance import balanced_weights, count_pixels
from deeplabx.run.build import open_dataset
from tests.conftest import TINY, Deeplabx, python, signalled_run

# What the processes compute beside the gradient.
EACH_ITS_PART = ["trainer.ema_decay=0.5", "loss.class_balance=enet"]
ANY = [setting for setting in TINY if not setting.startswith("trainer.devices")]
TWO = [*ANY, "trainer.devices=2"]


@pytest.fixture(scope="module")
def run_of_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two processes."""
    folder = tmp_path_factory.mktemp("two")
    done = python("-m", "deeplabx", "train", *TWO, *EACH_ITS_PART, "hydra.run.dir=run", cwd=folder)
    assert done.code == 0, done.err
    assert done.out.count("done: best mIoU") == 1
    return folder / "run"


def test_a_run_of_two_processes_is_one_run(run_of_two: Path) -> None:
    assert [path.name for path in run_of_two.parent.iterdir()] == ["run"]
    files = {path.name for path in run_of_two.iterdir()}
    assert {
        "config.yaml",
        "environment.json",
        "train.log",
        "metrics.jsonl",
        "result.json",
        "DONE",
        "samples",
        "plots",
        "tensorboard",
    } <= files
    assert json.loads((run_of_two / "environment.json").read_text())["processes"] == 2
    lines = [json.loads(line) for line in (run_of_two / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4]
    log = (run_of_two / "train.log").read_text()
    assert "on 2 x cpu" in log
    assert "batch norm sees 2" in log  # of the batch of 4
    assert json.loads((run_of_two / "result.json").read_text())["images"] == 4


def test_the_labels_of_all_processes_weigh_the_classes(run_of_two: Path) -> None:
    config = yaml.safe_load((run_of_two / "config.yaml").read_text())
    samples = open_dataset("shapes", split="train", train_images=12, val_images=4)
    assert config["loss"]["class_weights"] == balanced_weights(
        "enet", count_pixels(samples, range(12), workers=0)
    )


@pytest.mark.parametrize("devices", ["cpu", *(pytest.param(n, marks=pytest.mark.slow) for n in ("2", "4"))])
def test_any_number_of_processes_evaluates_to_what_the_run_found(
    run_of_two: Path, deeplabx: Deeplabx, tmp_path: Path, devices: str
) -> None:
    ended = deeplabx("eval", f"ckpt={run_of_two}", f"trainer.devices={devices}", "hydra.run.dir=eval")
    assert ended.code == 0, ended.err
    found, trained = (
        json.loads((folder / "result.json").read_text()) for folder in (tmp_path / "eval", run_of_two)
    )
    for key in ("confusion_sha256", "miou", "images"):
        assert found[key] == trained[key], key


def test_two_processes_predict_what_one_does(run_of_two: Path, deeplabx: Deeplabx, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for number in range(3):
        Image.fromarray(rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(
            tmp_path / "in" / f"{number}.png"
        )
    (tmp_path / "in" / "broken.png").write_bytes(b"no image")
    for devices in ("cpu", "2"):
        ended = deeplabx(
            "predict", f"ckpt={run_of_two}", "input=in", f"out=out_{devices}", f"trainer.devices={devices}"
        )
        assert ended.code == 3, ended.err
        assert "1 of 4 images could not be read" in ended.err
        assert "3 of 4 images predicted" in ended.out
    files = [
        sorted((path.name, path.read_bytes()) for path in (tmp_path / out).glob("[!.]*"))
        for out in ("out_cpu", "out_2")
    ]
    assert len(files[0]) == 9  # with unreadable.txt, classes.json and predict.json
    assert files[0] == files[1]


@pytest.mark.slow
def test_a_sweep_of_runs_of_two_processes_has_a_folder_per_job(deeplabx: Deeplabx, tmp_path: Path) -> None:
    ended = deeplabx("train", "-m", *TWO, "trainer.samples=0", "schedule.max_iters=1,2")
    assert ended.code == 0, ended.err
    (summary,) = tmp_path.glob("outputs/sweep/*/sweep.json")
    assert [job["status"] for job in json.loads(summary.read_text())["jobs"]] == ["done", "done"]
    assert sorted(path.name for path in summary.parent.iterdir() if path.is_dir()) == ["0", "1"]


@pytest.mark.slow
def test_an_error_names_its_rank_and_comes_once(deeplabx: Deeplabx, tmp_path: Path) -> None:
    ended = deeplabx("train", *TWO, "model.norm=sync", "hydra.run.dir=run")
    assert ended.code == 5, ended.err
    assert len(ended.err.splitlines()) == 2
    assert ended.err.startswith("deeplabx: rank ")
    assert ": model.norm=sync in several processes needs GPUs\n" in ended.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("number", "whole_group", "code"),
    [(signal.SIGTERM, False, 75), pytest.param(signal.SIGINT, True, 130, marks=pytest.mark.slow)],
)
def test_a_signal_is_answered_by_a_save_and_no_process_is_left(
    tmp_path: Path, number: signal.Signals, whole_group: bool, code: int
) -> None:
    answer = signalled_run(tmp_path, [*TWO, "trainer.workers=1"], number, whole_group=whole_group)
    assert answer.exit_code == code, answer.output
    assert answer.left_over == []
    assert answer.checkpoint_step >= 3
    assert "Traceback" not in answer.output
    assert (tmp_path / "run" / "INTERRUPTED").is_file()


@pytest.mark.slow
def test_mixed_and_class_drawn_samples_of_two_processes_are_resumed_to_the_same_weights(
    deeplabx: Deeplabx, tmp_path: Path
) -> None:
    augment = ["augment=driving", "augment.mix=classmix", "augment.class_sampling=0.3"]
    ended = deeplabx(
        "train", *TWO, *augment, "trainer.save_every=2", "trainer.samples=0", "hydra.run.dir=whole"
    )
    assert ended.code == 0, ended.err
    whole, half = tmp_path / "whole", tmp_path / "half"
    shutil.copytree(whole, half)
    shutil.rmtree(half / "checkpoints" / "step-00000004")
    (half / "DONE").unlink()
    ended = deeplabx("resume", "half", "trainer.workers=1")
    assert ended.code == 0, ended.err
    assert "steps 2..4" in ended.out
    files = [run / "checkpoints" / "step-00000004" / "model.safetensors" for run in (whole, half)]
    assert files[0].read_bytes() == files[1].read_bytes()


# What torchrun starts: a command that fails in the main process, and one that does not.
TWO_COMMANDS = """
import os, sys
from deeplabx import cli
for words in (["train", "-m", *sys.argv[1:]], ["train", *sys.argv[1:]]):
    try:
        cli.main(words)
    except SystemExit as ended:
        print(f"rank {os.environ['RANK']}: exit {ended.code}")
"""


@pytest.mark.slow
def test_torchrun_trains_what_two_devices_do_and_an_error_comes_once(
    run_of_two: Path, tmp_path: Path
) -> None:
    (tmp_path / "commands.py").write_text(TWO_COMMANDS)
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "commands.py"]
    done = python(*torchrun, *ANY, *EACH_ITS_PART, cwd=tmp_path)
    assert done.code == 0, done.err
    ends = re.findall(r"rank \d: exit \d+", done.out)  # the two may write to one line
    assert sorted(ends) == ["rank 0: exit 0", "rank 0: exit 2", "rank 1: exit 0", "rank 1: exit 0"]
    assert done.err.count("a sweep cannot be run by torchrun or srun\n") == 1
    (run,) = tmp_path.glob("outputs/train/*/*")  # one folder, though each process has its own clock
    files = [path / "checkpoints" / "step-00000004" / "model.safetensors" for path in (run, run_of_two)]
    assert files[0].read_bytes() == files[1].read_bytes()
