import math
import os
import platform
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from deeplabx.errors import DeviceError
from deeplabx.model.norm import FrozenBatchNorm2d
from deeplabx.process import distributed
from deeplabx.process.cgroups import Limits
from deeplabx.process.distributed import resolve_device, resolve_precision
from deeplabx.process.launch import launch
from tests.engine import jobs

CPU = torch.device("cpu")
CPUINFO = Path("/proc/cpuinfo")


@pytest.mark.skipif(platform.machine() != "x86_64" or not CPUINFO.is_file(), reason="of Linux on x86")
def test_auto_precision_is_what_the_processor_computes_in() -> None:
    (flags, *_) = re.findall(r"^flags\s*:(.+)$", CPUINFO.read_text(), re.MULTILINE)
    assert resolve_precision("auto", CPU) == ("bf16" if "avx512_bf16" in flags.split() else "fp32")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_precision_that_is_asked_for_is_taken(precision: str) -> None:
    assert resolve_precision(precision, CPU) == precision


def test_tf32_on_a_cpu_is_refused() -> None:
    with pytest.raises(DeviceError, match=r"trainer.precision=tf32 needs a GPU"):
        resolve_precision("tf32", CPU)


def test_fp16_on_a_cpu_is_refused() -> None:
    with pytest.raises(DeviceError, match="fp16 needs a GPU"):
        resolve_precision("fp16", CPU)


def test_cpu_means_cpu() -> None:
    assert resolve_device("cpu") == CPU


# --- several processes: launched once for all that is measured ----------------------------------------------


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    return jobs.measured()


@pytest.fixture(scope="module")
def together() -> dict[str, Any]:
    return launch(jobs.measured, devices="2")


def test_each_process_is_one_of_the_run(together: dict[str, Any]) -> None:
    assert together["ranks"] == [0, 1]
    assert len({*together["processes"], os.getpid()}) == 3
    assert together["threads"] == [max(1, len(os.sched_getaffinity(0)) // 2)] * 2  # they share the cores


def test_processes_of_one_machine_share_its_cores(alone: dict[str, Any], together: dict[str, Any]) -> None:
    assert 0 < alone["cores"] <= len(os.sched_getaffinity(0))
    assert together["cores"] == alone["cores"] / 2


def test_processes_that_have_cores_of_their_own_do_not_share_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """As srun binds them: this one may use cores 0 to 3, another 2 to 5, and one of another machine all."""
    here = platform.node()
    monkeypatch.setattr(distributed, "allowed_cores", lambda: {0, 1, 2, 3})
    monkeypatch.setattr(
        distributed, "gathered", lambda own: [*own, (here, {2, 3, 4, 5}), ("elsewhere", set(range(64)))]
    )
    monkeypatch.setattr(distributed, "cgroup_limits", Limits)
    assert distributed.share_of_cores() == 3
    monkeypatch.setattr(distributed, "cgroup_limits", lambda: Limits(cores=5))
    assert distributed.share_of_cores() == 2.5


def test_norm_is_synchronized_over_several_gpus(alone: dict[str, Any], together: dict[str, Any]) -> None:
    plain = {"batch": {nn.BatchNorm2d}, "frozen": {FrozenBatchNorm2d}}
    assert alone["norms"] == {"auto": {nn.BatchNorm2d}, "sync": {nn.BatchNorm2d}, **plain}
    assert together["norms"] == {"auto": {nn.SyncBatchNorm}, "sync": {nn.SyncBatchNorm}, **plain}


def relative_error(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    difference = sum(float((other[name] - value).square().sum()) for name, value in one.items())
    return (difference / sum(float(value.square().sum()) for value in one.values())) ** 0.5


@pytest.mark.parametrize("name", ["gradient", "gradient_in_passes"])
def test_the_gradient_is_that_of_one_process_with_the_same_batch(
    alone: dict[str, Any], together: dict[str, Any], name: str
) -> None:
    assert relative_error(alone["gradient"], together[name]) < 1e-6


@pytest.mark.parametrize("name", ["weights", "averages"])
def test_the_weights_after_steps_are_those_of_one_process(
    alone: dict[str, Any], together: dict[str, Any], name: str
) -> None:
    assert relative_error(alone[name], together[name]) < 1e-5  # float32, summed in another order


def test_each_process_has_the_same_average(together: dict[str, Any]) -> None:
    first, second = together["averages_of_each"]
    assert first == second


def test_the_loss_curve_is_that_of_one_process(alone: dict[str, Any], together: dict[str, Any]) -> None:
    assert together["curve"] == pytest.approx(alone["curve"], rel=1e-5)
    assert len(set(alone["curve"])) == len(alone["curve"])


def test_one_process_with_a_loss_that_is_not_finite_makes_all_skip_the_step(
    alone: dict[str, Any], together: dict[str, Any]
) -> None:
    of_one, of_two = alone["poisoned"], together["poisoned"]
    assert not math.isfinite(of_one["curve"][1])
    assert not math.isfinite(of_two["curve"][1])
    assert relative_error(of_one["weights"], of_two["weights"]) < 1e-5
    assert relative_error(of_one["averages"], of_two["averages"]) < 1e-5
    for name in ("weights", "averages"):  # as if that step had not been
        assert relative_error(jobs.trained(steps=3)[name], of_one[name]) == 0


def test_no_step_is_lost_when_one_process_cannot_read_its_data(together: dict[str, Any]) -> None:
    steps = ["step 1", "step 2", "save 2"]
    assert together["short_of_data"] == {
        "training": [
            [*steps, "PeerFailedError: another process of the run could not read its data"],
            [*steps, "DataError: the third batch cannot be read"],
        ],
        "evaluation": [
            [*steps, "PeerFailedError: another process could not evaluate its images"],
            [*steps, "DataError: an image cannot be read"],
        ],
        "main": [
            [*steps, "DataError: a sample cannot be read"],
            [*steps, "save 2", "PeerFailedError: another process of the run could not read its data"],
        ],
    }


def test_evaluation_gives_one_matrix(alone: dict[str, Any], together: dict[str, Any]) -> None:
    assert alone["confusion_sha256"] == together["confusion_sha256"]
