"""Every optimizer, schedule, loss and average of weights through the command line: killed at a random step,
and resumed, the weights are those of a run that was not.
"""

import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import TINY

pytestmark = pytest.mark.slow
STEPS = 6
TORCH = "optimizer=torch optimizer.algorithm="
OPTIONS = [
    "optimizer=sgd optimizer.nesterov=true schedule=poly schedule.end_factor=0.1 schedule.warmup_iters=3",
    "optimizer=adamw schedule=cosine optimizer.layer_decay=0.75",
    f"{TORCH}ASGD schedule=constant schedule.warmup=constant schedule.warmup_iters=2 "
    "schedule.warmup_factor=0.1",
    f"{TORCH}Adadelta schedule=step schedule.every=2",
    f"{TORCH}Adafactor schedule=multistep",
    f"{TORCH}Adagrad schedule=one_cycle",
    f"{TORCH}Adam optimizer.settings.amsgrad=true",
    f"{TORCH}AdamW optimizer.no_decay=[bias]",
    f"{TORCH}Adamax",
    f"{TORCH}NAdam",
    f"{TORCH}RAdam",
    f"{TORCH}RMSprop optimizer.settings.momentum=0.9 optimizer.settings.centered=true",
    f"{TORCH}Rprop schedule=constant optimizer.weight_decay=0",
    f"{TORCH}SGD optimizer.settings.momentum=0.9 optimizer.settings.dampening=0.5",
    "trainer.scale_lr=sqrt",
    "loss=cross_entropy loss.label_smoothing=0.1 loss.class_balance=enet loss.keep_priors=true",
    "loss=ohem loss.anneal_steps=4",
    "loss=focal loss.class_balance=effective_number",
    "loss=boundary",
    "loss=dice trainer.swa_start=0.4 trainer.swa_every=2",
    "loss=tversky trainer.ema_decay=0.9",
    "loss=lovasz",
    "loss=rmi trainer.patience=3",
    "loss=composite",
    "trainer.find_lr=true trainer.find_lr_steps=50",
]


def name_of(options: str) -> str:
    """The algorithm, or the first setting."""
    found = re.search(r"algorithm=(\w+)", options)
    return found[1] if found else options.split()[0]


def started(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "deeplabx", *words]
    return subprocess.Popen(
        command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def ended(folder: Path, *words: str) -> None:
    process = started(folder, *words)
    out, _ = process.communicate(timeout=600)
    assert process.returncode == 0, out.decode()


def logged(run: Path) -> int:
    path = run / "metrics.jsonl"
    found = re.findall(r'^{"step": (\d+)', path.read_text(encoding="utf-8") if path.is_file() else "", re.M)
    return max(map(int, found), default=0)


def weights(run: Path) -> dict[str, bytes]:
    newest = max((run / "checkpoints").glob("step-*"))
    assert newest.name == f"step-{STEPS:08d}"
    return {path.name: path.read_bytes() for path in sorted(newest.glob("*.safetensors"))}


@pytest.mark.parametrize("options", OPTIONS, ids=name_of)
def test_a_killed_run_is_resumed_to_the_same_weights(options: str, tmp_path: Path) -> None:
    settings = [
        *TINY[:-1],
        f"schedule.max_iters={STEPS}",
        "trainer.save_every=1",
        f"trainer.eval_every={STEPS}",
        "trainer.samples=0",
        *options.split(),
    ]
    ended(tmp_path, "train", *settings, "hydra.run.dir=straight")
    killed = tmp_path / "killed"
    process = started(tmp_path, "train", *settings, "hydra.run.dir=killed")
    at = random.Random(options).randint(1, STEPS - 2)
    while logged(killed) < at and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (killed / "DONE").is_file()
    ended(tmp_path, "resume", "killed")
    assert weights(killed) == weights(tmp_path / "straight")
