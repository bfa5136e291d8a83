import pytest
import torch

from deeplabx.engine.distributed import launch, resolve_device, resolve_precision
from deeplabx.errors import DeviceError

CPU = torch.device("cpu")


def test_one_device_is_a_plain_call() -> None:
    assert [launch(lambda: 7, devices=devices) for devices in ("auto", "cpu", "1")] == [7, 7, 7]


def test_several_processes_are_refused_and_not_run_as_one() -> None:
    with pytest.raises(DeviceError, match="trainer.devices=2"):
        launch(lambda: 7, devices="2")


def test_auto_precision_is_what_the_processor_computes_in() -> None:
    assert resolve_precision("auto", CPU) == ("bf16" if torch.ops.mkldnn._is_mkldnn_bf16_supported() else "fp32")
    assert resolve_precision("bf16", CPU) == "bf16"


def test_fp16_on_a_cpu_is_refused() -> None:
    with pytest.raises(DeviceError, match="fp16 needs a GPU"):
        resolve_precision("fp16", CPU)


def test_cpu_means_cpu() -> None:
    assert resolve_device("cpu") == CPU
