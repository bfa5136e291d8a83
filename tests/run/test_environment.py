import json
from pathlib import Path
from typing import Any

import pytest
import torch

from deeplabx.command.extend import extend
from deeplabx.run.environment import changed_words, environment_of
from tests.conftest import Compose

CPU = {"torch": "2.13.0", "device": "cpu", "cpu": "A CPU", "threads": 2, "processes": 1}
GPU = {
    **{"torch": "2.13.0", "device": "A GPU", "cpu": "A CPU", "threads": 2, "processes": 1},
    **{"driver": "580.95", "cuda": "13.0", "cudnn": 91300},
}


def words(folder: Path, before: dict[str, Any], now: dict[str, Any]) -> str:
    (folder / "environment.json").write_text(json.dumps(before), encoding="utf-8")
    rest = dict.fromkeys(("driver", "cuda", "cudnn"))
    return "\n".join(changed_words(folder, {**rest, **now}))


@pytest.mark.parametrize(
    ("before", "changed", "said"),
    [
        (CPU, {"torch": "2.14.0"}, "torch was 2.13.0, now 2.14.0"),
        (CPU, {"cpu": "B CPU", "threads": 4}, "CPU was A CPU, now B CPU, threads was 2, now 4"),
        (CPU, {"processes": 2}, "processes was 1, now 2"),
        (GPU, {"driver": "590.1"}, "NVIDIA driver was 580.95, now 590.1"),
        (GPU, {"device": "B GPU"}, "device was A GPU, now B GPU"),
        (GPU, {"cuda": "13.1", "cudnn": 91400}, "CUDA was 13.0, now 13.1, cuDNN was 91300, now 91400"),
        (GPU, {"device": "cpu", "driver": None}, "device was A GPU, now cpu"),
    ],
)
def test_what_the_bits_depend_on_is_told_when_it_changes(
    tmp_path: Path, before: dict[str, Any], changed: dict[str, Any], said: str
) -> None:
    assert words(tmp_path, before, {**before, **changed}) == (
        f"bits may differ from those of the run so far: {said}"
    )


@pytest.mark.parametrize(
    ("before", "changed"),
    [
        (CPU, {}),
        (CPU, {"python": "3.13"}),
        (GPU, {"cpu": "B CPU", "threads": 4}),  # the GPU computes
        ({"torch": "2.13.0", "device": "cpu"}, CPU),  # an older record, which says less
    ],
)
def test_what_the_bits_do_not_depend_on_is_not_told(
    tmp_path: Path, before: dict[str, Any], changed: dict[str, Any]
) -> None:
    assert words(tmp_path, before, {**before, **changed}) == ""


def test_a_run_without_a_record_says_nothing_and_a_damaged_one_is_told(tmp_path: Path) -> None:
    assert changed_words(tmp_path, CPU) == []
    (tmp_path / "environment.json").write_text("{", encoding="utf-8")
    (said,) = changed_words(tmp_path, CPU)
    assert said.startswith(f"{tmp_path}/environment.json cannot be read")


def test_a_run_that_continues_elsewhere_logs_it_once(own_run: Path, compose: Compose) -> None:
    path = own_run / "environment.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    assert record == environment_of(compose("trainer.precision=fp32"), torch.device("cpu"), workers=0)
    path.write_text(json.dumps({**record, "torch": "2.0"}), encoding="utf-8")
    extend(own_run, max_iters=5, change=lambda config: config)
    extend(own_run, max_iters=6, change=lambda config: config)
    log = (own_run / "train.log").read_text(encoding="utf-8")
    assert log.count("bits may differ") == 1
    assert f"so far: torch was 2.0, now {torch.__version__}\n" in log
