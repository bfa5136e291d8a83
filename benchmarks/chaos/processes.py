"""Rows 4, 6 to 9, 20 and 21: several processes and signals."""

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import torch

from benchmarks.chaos.commands import (
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
COMMAND = ["-m", "deeplabx"]


def terminated(work: Path) -> Measured:
    """SIGTERM to the main process, and to the whole group with its loader workers."""
    words, passed = [], True
    for name, workers, group in (("main", 0, False), ("group of 3", 2, True)):
        run = work / name
        life = start(training(run, LONG, f"trainer.workers={workers}"), work)
        life.wait_for("step 3/")
        seconds = life.send(signal.SIGTERM, group=group)
        code, step, left = life.process.returncode, newest_step(run), len(members(life.process.pid))
        words.append(f"{name}: exit {code} after {seconds:.1f} s, saved at step {step}, {left} left running")
        passed &= code == 75 and step >= 3 and not left
    return Measured("; ".join(words), passed)


LOSSES = ("rank 1 killed", "launcher TERM", "launcher KILL", "torchrun TERM")


def losses(work: Path) -> Measured:
    parts = [lost(name, work) for name in LOSSES]
    return Measured("; ".join(part.words for part in parts), all(part.passed for part in parts))


def lost(name: str, work: Path) -> Measured:
    """One of two ranks is killed, or their launcher gets TERM or KILL; `name` is one of LOSSES."""
    run, torchrun = work / name.replace(" ", "-"), name.startswith("torchrun")
    settings = training(run, LONG, "trainer.save_every=2")
    if torchrun:
        life = start(settings, work, program=[*TORCHRUN, "--nproc-per-node", "2", *COMMAND])
    else:
        life = start([*settings, "trainer.devices=2"], work)
    life.wait_for("step 3/")
    if name == "rank 1 killed":
        os.kill(rank_process(life, 1), signal.SIGKILL)
        begin = time.monotonic()
        life.process.wait(60)
        seconds = time.monotonic() - begin
    else:
        seconds = life.send(signal.SIGKILL if name.endswith("KILL") else signal.SIGTERM)
    seconds += seconds_until_gone(life.process.pid)
    code, step, printed = life.process.returncode, newest_step(run), life.words
    lines = [line for line in printed.splitlines() if line.startswith(("deeplabx:", "  "))]
    passed = code != 0 and seconds < 10 and step >= 2
    passed &= torchrun or (len(lines) <= 5 and "Traceback" not in printed)
    passed &= name != "launcher TERM" or code == 75
    passed &= not name.endswith("TERM") or f"saved at step {step}" in printed
    return Measured(f"{name}: exit {code}, {seconds:.1f} s, {len(lines)} lines, step {step} saved", passed)


def rank_process(life: Running, rank: int) -> int:
    """The process of a rank of `trainer.devices=2`: they are spawned in the order of their ranks."""
    spawned = [
        process
        for process in members(life.process.pid)
        if b"spawn_main" in Path(f"/proc/{process}/cmdline").read_bytes()
    ]
    return sorted(spawned)[rank]


def restarted(work: Path) -> Measured:
    """A rank is killed twice, and the launcher restarts the group."""
    settings = ["schedule.max_iters=30", "trainer.save_every=5", "trainer.devices=2"]
    run, whole = work / "killed", work / "whole"
    life = start(training(run, *settings, "trainer.max_restarts=2"), work)
    for restarts, step in enumerate((8, 18), start=1):
        life.wait_for(f"step {step}/")
        os.kill(rank_process(life, 1), signal.SIGKILL)
        life.wait_for(f"restarted after a worker died, {restarts} times")
    code = life.wait().code
    finish(training(whole, *settings), work)
    same = weights_of(run) == weights_of(whole)
    return Measured(
        f"2 kills, exit {code}, weights {'identical' if same else 'DIFFERENT'}", same and code == 0
    )


def evaluations(run: Path, work: Path, *, devices: Iterable[int]) -> list[tuple[str, int]]:
    """The sha256 of the confusion matrix and the number of images, by each number of processes."""
    found = []
    for number in devices:
        out = work / f"eval-{number}"
        finish(["eval", f"ckpt={run}", f"trainer.devices={number}", f"hydra.run.dir={out}"], work)
        result = json.loads((out / "result.json").read_text(encoding="utf-8"))
        found.append((result["confusion_sha256"], result["images"]))
    return found


def evaluated(work: Path) -> Measured:
    """One checkpoint, evaluated by 1, 2 and 4 processes on 7 images."""
    run = work / "run"
    finish(training(run, "schedule.max_iters=2", "dataset.val_images=7"), work)
    found = evaluations(run, work, devices=(1, 2, 4))
    words = f"{len(set(found))} distinct matrix, images {[images for _, images in found]}"
    return Measured(words, len(set(found)) == 1 and found[0][1] == 7)


def gradient(work: Path) -> Measured:
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


def agents(work: Path) -> Measured:
    """Two torchrun agents with one rendezvous; one is killed, and started again."""
    run, whole = work / "run", work / "whole"
    settings = ["schedule.max_iters=30", "trainer.save_every=5", "resume=true"]
    nodes = ["--nnodes", "2", "--nproc-per-node", "1", "--max-restarts", "3"]
    nodes += ["--master-addr", "127.0.0.1", "--master-port", str(free_port())]

    def agent(rank: int) -> Running:
        core = ["taskset", "-c", str(rank % (os.cpu_count() or 1))]
        program = [*core, *TORCHRUN, *nodes, "--node-rank", str(rank), *COMMAND]
        return start(training(run, *settings), work, program=program)

    first, second = agent(0), agent(1)
    first.wait_for("step 12/")
    second.send(signal.SIGKILL)
    left = seconds_until_gone(second.process.pid)
    codes = [agent(1).wait().code, first.wait().code]
    finish(training(whole, *settings, "trainer.devices=2"), work)
    same, again = weights_of(run) == weights_of(whole), "steps 10..30" in first.words
    words = (
        f"its worker exited after {left:.1f} s; exit codes {codes}, continued from step 10: {again}, "
        f"weights {'identical' if same else 'DIFFERENT'}"
    )
    return Measured(words, same and again and codes == [0, 0])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def gpus(work: Path) -> Measured:
    """The same with NCCL, if there are two GPUs: a run, and its evaluation on one and on two."""
    if torch.cuda.device_count() < 2:
        return Measured(
            f"{torch.cuda.device_count()} GPUs here; covered by rows 6 to 9 and 20 with gloo", None
        )
    run = work / "run"
    finish(training(run, "schedule.max_iters=10", "trainer.devices=2"), work)
    found = evaluations(run, work, devices=(1, 2))
    return Measured(f"10 steps on 2 GPUs, {len(set(found))} matrix on 1 and 2 GPUs", len(set(found)) == 1)


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
        losses,
    ),
    Row(7, "rank killed with max_restarts=2", "continues from the checkpoint, same weights", restarted),
    Row(8, "evaluation on 1/2/4 processes", "same confusion sha256", evaluated),
    Row(9, "2 processes against 1, uneven void, BN frozen", "gradient <= 1e-6, 20 losses <= 1e-5", gradient),
    Row(20, "two torchrun agents, one killed and started again", "one job, same weights", agents),
    Row(21, "two GPUs (NCCL)", "trains; same confusion sha256", gpus),
]
