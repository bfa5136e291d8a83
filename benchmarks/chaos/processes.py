"""Rows 4, 6 to 9 and 20: several processes, and the signals that they are sent."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import torch

from benchmarks.chaos.commands import (
    DEEPLABX,
    Running,
    finish,
    members,
    newest_step,
    seconds_until_gone,
    start,
    training,
    weights_of,
)
from benchmarks.chaos.row import Measured, Row
from deeplabx.process.launch import launch
from tests.engine import jobs

LONG = "schedule.max_iters=5000"
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]


def terminated(work: Path, short: bool) -> Measured:
    """SIGTERM to the main process, and to the whole group with its loader workers."""
    said, passed = [], True
    for name, workers, group in (("main", 0, False), ("group of 3", 2, True)):
        run = work / name
        life = start(training(run, LONG, f"trainer.workers={workers}"), work)
        life.wait_for("step 3/")
        seconds = life.signal(signal.SIGTERM, group=group)
        saved, left = newest_step(run), len(members(life.process.pid))
        said.append(
            f"{name}: exit {life.process.returncode} after {seconds:.1f} s, saved at step {saved}, {left} "
            "left over"
        )
        passed &= life.process.returncode == 75 and saved >= 3 and not left
    return Measured("; ".join(said), passed)


def loss_of_a_process(work: Path, short: bool) -> Measured:
    """Of two ranks one killed; TERM and KILL to the launcher; TERM to torchrun."""
    said, passed = [], True
    for name in ("rank 1 killed", "launcher TERM", "launcher KILL", "torchrun TERM"):
        run = work / name.replace(" ", "-")
        settings = [LONG, "trainer.save_every=2"]
        by_torchrun = name.startswith("torchrun")
        torchrun = [*TORCHRUN, "--nproc-per-node", "2", "-m", "deeplabx", *training(run, *settings)[3:]]
        life = start(torchrun if by_torchrun else training(run, "trainer.devices=2", *settings), work)
        life.wait_for("step 3/")
        if name == "rank 1 killed":
            os.kill(rank_process(life, 1), signal.SIGKILL)
            begin = time.monotonic()
            life.process.wait(60)
            seconds = time.monotonic() - begin
        else:
            seconds = life.signal(signal.SIGKILL if name.endswith("KILL") else signal.SIGTERM)
        seconds += seconds_until_gone(life.process.pid)
        code, saved = life.process.returncode, newest_step(run)
        lines = [line for line in life.words.splitlines() if line.startswith(("deeplabx:", "  "))]
        said.append(f"{name}: exit {code}, {seconds:.1f} s, {len(lines)} lines, step {saved} saved")
        passed &= (
            code != 0
            and seconds < 10
            and saved >= 2
            and "Traceback" not in ("" if by_torchrun else life.words)
        )
        passed &= by_torchrun or len(lines) <= 5
        if name == "launcher TERM":
            passed &= code == 75
        if name.endswith("TERM"):
            passed &= f"saved at step {saved}" in life.words
    return Measured("; ".join(said), passed)


def rank_process(life: Running, rank: int) -> int:
    """The process of a rank of `trainer.devices=2`: they are spawned in the order of their ranks."""
    spawned = [
        process
        for process in members(life.process.pid)
        if b"spawn_main" in Path(f"/proc/{process}/cmdline").read_bytes()
    ]
    return sorted(spawned)[rank]


def restarted(work: Path, short: bool) -> Measured:
    """A rank is killed twice, and the launcher starts the group anew."""
    settings = [
        "schedule.max_iters=30",
        "trainer.save_every=5",
        "trainer.devices=2",
        "trainer.max_restarts=2",
    ]
    run, whole = work / "killed", work / "whole"
    life = start(training(run, *settings), work)
    for step in (8, 18):
        life.wait_for(f"step {step}/")
        os.kill(rank_process(life, 1), signal.SIGKILL)
        life.wait_for(f"started anew, {1 if step == 8 else 2} times")
    code = life.process.wait(120)
    finish(training(whole, *settings), work)
    same = weights_of(run) == weights_of(whole)
    return Measured(
        f"2 kills, exit {code}, weights {'identical' if same else 'DIFFERENT'}", same and code == 0
    )


def evaluated(work: Path, short: bool) -> Measured:
    """One checkpoint, evaluated by 1, 2 and 4 processes on 7 images."""
    run = work / "run"
    finish(training(run, "schedule.max_iters=2", "dataset.val_images=7"), work)
    found = []
    for devices in (1, 2, 4):
        out = work / f"eval-{devices}"
        finish([*DEEPLABX, "eval", f"ckpt={run}", f"trainer.devices={devices}", f"hydra.run.dir={out}"], work)
        result = json.loads((out / "result.json").read_text())
        found.append((result["confusion_sha256"], result["images"]))
    return Measured(
        f"{len(set(found))} matrix of {[images for _, images in found]} images",
        len(set(found)) == 1 and found[0][1] == 7,
    )


def gradient(work: Path, short: bool) -> Measured:
    """The gradient of a batch with uneven void in 2 processes against 1, and 20 losses; batch norm frozen, no
    dropout.
    """
    alone, together = jobs.compared(), launch(jobs.compared, devices="2")
    error = relative(alone["gradient"], together["gradient"])
    curve = max(abs(a - b) / abs(a) for a, b in zip(alone["curve"], together["curve"], strict=True))
    words = f"gradient {error:.1e} (float64), losses of {len(alone['curve'])} steps {curve:.1e} (float32)"
    return Measured(words, error <= 1e-6 and curve <= 1e-5)


def relative(one: dict, other: dict) -> float:
    difference = sum(float((other[name] - value).square().sum()) for name, value in one.items())
    return (difference / sum(float(value.square().sum()) for value in one.values())) ** 0.5


def agents(work: Path, short: bool) -> Measured:
    """Two torchrun agents with one rendezvous; one is killed, and started again."""
    run, whole = work / "run", work / "whole"
    settings = ["schedule.max_iters=30", "trainer.save_every=5", "resume=true"]
    place = [
        "--nnodes",
        "2",
        "--nproc-per-node",
        "1",
        "--master-addr",
        "127.0.0.1",
        "--master-port",
        str(free_port()),
        "--max-restarts",
        "3",
    ]

    def agent(rank: int) -> Running:
        command = [
            *TORCHRUN,
            *place,
            "--node-rank",
            str(rank),
            "-m",
            "deeplabx",
            *training(run, *settings)[3:],
        ]
        return start(["taskset", "-c", str(rank % (os.cpu_count() or 1)), *command], work)

    first, second = agent(0), agent(1)
    first.wait_for("step 12/")
    second.signal(signal.SIGKILL)
    left = seconds_until_gone(second.process.pid)
    codes = [agent(1).process.wait(180), first.process.wait(180)]
    finish(training(whole, *settings, "trainer.devices=2"), work)
    same, again = weights_of(run) == weights_of(whole), "steps 10..30" in first.words
    words = (
        f"its process gone after {left:.1f} s; exit codes {codes}, went on from step 10: {again}, "
        f"weights {'identical' if same else 'DIFFERENT'}"
    )
    return Measured(words, same and again and codes == [0, 0])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def tests_of(*paths: str) -> Measured:
    """What the tests that hold a row say."""
    command = [sys.executable, "-m", "pytest", "-m", "not slow", "-p", "no:cacheprovider", *paths]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=600)
    (summary, *_) = [line for line in reversed(done.stdout.splitlines()) if line.strip()] or ["said nothing"]
    return Measured(f"{summary.strip('= ')} ({', '.join(paths)})", done.returncode == 0)


def gpus(work: Path, short: bool) -> Measured:
    """The same by NCCL, where there are two GPUs: a run, and its evaluation by one and by two."""
    if torch.cuda.device_count() < 2:
        return Measured(
            f"{torch.cuda.device_count()} GPUs here; rows 6 to 9 and 20, by gloo, stand in for it", None
        )
    run, found = work / "run", set()
    finish(training(run, "schedule.max_iters=10", "trainer.devices=2"), work)
    for devices in (1, 2):
        out = work / f"eval-{devices}"
        finish([*DEEPLABX, "eval", f"ckpt={run}", f"trainer.devices={devices}", f"hydra.run.dir={out}"], work)
        found.add(json.loads((out / "result.json").read_text())["confusion_sha256"])
    return Measured(f"10 steps on 2 GPUs, {len(found)} matrix by 1 and 2", len(found) == 1)


def metric(work: Path, short: bool) -> Measured:
    return tests_of("tests/engine/test_metrics.py", "tests/engine/test_cityscapes_scores.py")


def transforms(work: Path, short: bool) -> Measured:
    return tests_of("tests/dataset/test_transforms.py")


ROWS = [
    Row(
        4,
        "SIGTERM to main; to the whole group with 2 workers",
        "saved, exit 75, <= one step + save",
        terminated,
    ),
    Row(
        6,
        "kill 1 of 2 ranks; TERM, KILL to launcher; TERM to torchrun",
        "< 10 s, non-zero, no orphan, <= 5 lines; TERM: saved, 75",
        loss_of_a_process,
    ),
    Row(7, "rank killed with max_restarts=2", "continues from the checkpoint, same weights", restarted),
    Row(8, "evaluation on 1/2/4 processes", "same confusion sha256", evaluated),
    Row(9, "2 processes against 1, uneven void, BN frozen", "gradient <= 1e-6, 20 losses <= 1e-5", gradient),
    Row(14, "metric against cityscapesScripts and scikit-learn", "equal integers", metric),
    Row(15, "every transform: image and mask aligned, no new label", "0 failures", transforms),
    Row(20, "two torchrun agents, one killed and started again", "one job, same weights", agents),
    Row(21, "two GPUs (NCCL)", "trains; same confusion sha256", gpus),
]
