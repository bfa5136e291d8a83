import platform
from pathlib import Path

import pytest

from deeplabx.process.machine import cpu_model, nvidia_driver


def written(root: Path, name: str, text: str) -> Path:
    path = root / "proc" / name
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    return root


def test_the_cpu_has_its_name(tmp_path: Path) -> None:
    first = written(tmp_path / "a", "cpuinfo", "processor\t: 0\nmodel name\t: A CPU @ 3 GHz\n")
    assert cpu_model(first) == "A CPU @ 3 GHz"
    second = written(tmp_path / "b", "cpuinfo", "CPU implementer\t: 0x41\n")
    assert cpu_model(second) == (platform.processor() or platform.machine())


@pytest.mark.parametrize(
    ("line", "version"),
    [
        ("NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023", "535.104.05"),
        ("NVIDIA UNIX Open Kernel Module for x86_64  580.95  Release Build  (root@host)", "580.95"),
        ("something else", ""),
    ],
)
def test_the_driver_is_the_one_that_the_kernel_has_loaded(tmp_path: Path, line: str, version: str) -> None:
    text = f"NVRM version: {line}\nGCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n"
    assert nvidia_driver(written(tmp_path, "driver/nvidia/version", text)) == version


def test_without_a_driver_there_is_no_version(tmp_path: Path) -> None:
    assert nvidia_driver(tmp_path) == ""
