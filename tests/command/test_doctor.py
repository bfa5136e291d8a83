"""The report against what Python, the system and made-up files say."""

import importlib.util
import math
import os
import platform
import re
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from packaging.requirements import Requirement

from deeplabx import __version__
from deeplabx.command import doctor
from deeplabx.process.distributed import resolve_device, resolve_precision

GIB = 2**30
MEMINFO = (
    "MemTotal:        8388608 kB\nMemFree:          100000 kB\nMemAvailable:    2097152 "
    "kB\nHugePages_Total:       0\n"
)


def values(text: str) -> dict[str, str]:
    """The value by its name, of the lines `  name  value`."""
    return dict(re.findall(r"^  (\S+(?: \S+)*) {2,}(.+)$", text, re.MULTILINE))


@pytest.fixture(scope="module")
def report() -> dict[str, str]:
    return values(doctor.doctor())


def usage_of(free: int) -> Any:
    return lambda _: shutil._ntuple_diskusage(64 * GIB, 64 * GIB - free, free)


def test_versions_are_those_of_the_packages(report: dict[str, str]) -> None:
    assert (report["deeplabx"], report["python"]) == (__version__, platform.python_version())
    names = [
        "torch",
        "numpy",
        "hydra-core",
        "omegaconf",
        "opencv-python-headless",
        "pillow",
        "albumentations",
        "safetensors",
    ]
    assert {name: report[name] for name in names} == {name: metadata.version(name) for name in names}


def test_device_and_precision_are_what_a_run_takes(report: dict[str, str]) -> None:
    device = resolve_device("auto")
    assert report["trainer.devices=auto"] == str(device)
    assert report["trainer.precision=auto"] == resolve_precision("auto", device)
    assert (torch.version.cuda or "CPU") in report["torch is built for"]


def test_cores_and_disk_are_what_the_system_says(report: dict[str, str]) -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert report["cores"].split()[0] == str(cores)
    assert report["torch threads"] == str(torch.get_num_threads())
    assert f"of {shutil.disk_usage('.').total / GIB:.1f} GiB" in report["disk"]
    assert str(Path.cwd()) in report["disk"]


def test_values_stand_below_each_other() -> None:
    lines = doctor.doctor().partition("\nwarnings")[0].splitlines()
    rows = [line for line in lines if line.startswith("  ")]
    column = rows[0].index(__version__)
    assert all(line[column - 2 : column] == "  " and line[column] != " " for line in rows)


def test_a_machine_that_tells_nothing_gets_a_report(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_: Any, **__: Any) -> Any:
        raise FileNotFoundError

    def not_installed(_: str) -> Any:
        raise metadata.PackageNotFoundError

    monkeypatch.setattr(Path, "read_text", nothing)
    monkeypatch.setattr(shutil, "disk_usage", nothing)
    monkeypatch.setattr(metadata, "requires", not_installed)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    text = doctor.doctor()
    assert {values(text)[name] for name in ("memory", "shared memory", "disk")} == {"not known"}
    assert values(text)["cores"].split()[0] == str(os.cpu_count())
    assert text.endswith("type pip install -e . in its folder")


def test_a_small_shared_memory_and_disk_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", usage_of(64 * 2**20))
    report, _, warnings = doctor.doctor().partition("\nwarnings\n")
    assert values(report)["shared memory"] == "64 MiB of 64.0 GiB free in /dev/shm"
    assert re.search(r"shared memory has 64 MiB .*trainer.workers=0.*--shm-size=8g", warnings)
    assert re.search(r"disk has 64 MiB .*free some", warnings)


@pytest.mark.parametrize(("free", "warned"), [(GIB - 1, True), (GIB, False)])
def test_room_is_enough_from_its_bound_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: int, warned: bool
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", usage_of(free))
    assert bool(doctor.room("disk", tmp_path, at_least=GIB, otherwise="free some").warning) == warned


def test_a_machine_without_fault_has_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    sections = ("versions", "device", "processes", "storage", "extras")
    for name in sections:
        monkeypatch.setattr(doctor, name, lambda *_: [doctor.Row("name", "value")])
    assert doctor.doctor() == "\n\n".join(
        [*(f"{name}\n  name  value" for name in sections), "nothing to complain about"]
    )


def test_memory_is_read_from_meminfo() -> None:
    assert doctor.memory(MEMINFO) == "2.0 GiB of 8.0 GiB available"
    assert doctor.memory("") == "not known"


def test_the_cpu_has_its_name() -> None:
    assert doctor.cpu_model("processor\t: 0\nmodel name\t: A CPU @ 3 GHz\n") == "A CPU @ 3 GHz"
    assert doctor.cpu_model("CPU implementer\t: 0x41\n") == (platform.processor() or platform.machine())


@pytest.mark.parametrize(("limit", "warned"), [(256, True), (1023, True), (1024, False)])
def test_few_open_files_are_warned_of(limit: int, warned: bool) -> None:
    row = doctor.open_files(limit)
    assert str(limit) in row.value
    assert ("ulimit -n 4096" in row.warning) == warned


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n", "memory.max": "4294967296\n"}, (1.5, 4 * GIB)),
        ("0::/\n", {"cpu.max": "max 100000\n", "memory.max": "max\n"}, (math.inf, math.inf)),
        (
            "0::/job/step\n",
            {"job/cpu.max": "200000 100000\n", "job/step/cpu.max": "max 100000\n"},
            (2, math.inf),
        ),
        (
            "4:memory:/docker/1\n1:cpu,cpuacct:/docker/1\n1:name=systemd:/\n",
            {
                "cpu,cpuacct/cpu.cfs_quota_us": "50000\n",
                "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
                "memory/memory.limit_in_bytes": "9223372036854771712\n",
                "memory/docker/1/memory.limit_in_bytes": "1073741824\n",
            },
            (0.5, GIB),
        ),
        (
            "1:cpu:/\n",
            {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"},
            (math.inf, math.inf),
        ),
    ],
    ids=["version 2", "no limit", "around the own one", "version 1", "version 1 without"],
)
def test_cgroup_limits(
    tmp_path: Path, membership: str, files: dict[str, str], expected: tuple[float, float]
) -> None:
    (tmp_path / "membership").write_text(membership)
    for name, text in files.items():
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert doctor.cgroup_limits(tmp_path / "root", tmp_path / "membership") == expected


def test_more_threads_than_a_container_may_run_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "cgroup_limits", lambda: doctor.Limits(cores=1.5))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    rows = {row.name: row for row in doctor.processes()}
    assert rows["cores by cgroup"].value == "1.5"
    assert "type OMP_NUM_THREADS=1 " in rows["torch threads"].warning


def test_without_gloo_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "is_gloo_available", lambda: False)
    row = doctor.processes()[-1]
    assert row.value.startswith("not possible (gloo no")
    assert "type trainer.devices=auto" in row.warning


def test_every_extra_of_the_metadata_is_told(report: dict[str, str]) -> None:
    for extra in metadata.metadata("deeplabx").get_all("Provides-Extra") or []:
        assert report[extra] == "installed" or report[extra].endswith(f": pip install 'deeplabx[{extra}]'")
    assert ("lacks" in report["timm"]) == (importlib.util.find_spec("timm") is None)


def test_an_absent_or_too_old_package_of_an_extra_gets_the_line_that_adds_it() -> None:
    lines = [
        "torch>=2",
        "numpy; extra == 'there'",
        "surely-absent>=1; extra == 'ghost'",
        "pillow; extra == 'ghost'",
        "numpy>=99; extra == 'new'",
    ]
    assert doctor.extras([Requirement(line) for line in lines]) == [
        ("ghost", "lacks surely-absent: pip install 'deeplabx[ghost]'", ""),
        ("new", "lacks numpy: pip install 'deeplabx[new]'", ""),
        ("there", "installed", ""),
    ]


def test_a_requirement_that_is_not_met_is_warned_of() -> None:
    rows = {
        row.name: row
        for row in doctor.versions(
            [Requirement(line) for line in ("torch>=2", "numpy<1", "absent==3", "x; extra == 'y'")]
        )
    }
    assert not rows["torch"].warning
    assert rows["numpy"].warning.endswith(": type pip install 'numpy<1'")
    assert rows["absent"].value == "not installed"
    assert rows["absent"].warning.endswith(": type pip install 'absent==3'")
    assert "x" not in rows


@pytest.mark.parametrize(
    ("built", "available", "words"),
    [
        (False, False, "type pip install --force-reinstall torch"),
        (True, False, "unset CUDA_VISIBLE_DEVICES"),
        (True, True, ""),
    ],
)
def test_a_driver_whose_gpu_is_not_used_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, built: bool, available: bool, words: str
) -> None:
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: built)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    warning = doctor.driver(present=True).warning
    assert words in warning if words else not warning
    assert doctor.driver(present=False) == ("NVIDIA driver", "none found", "")


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo 570.86.15; echo 570.86.15", "570.86.15"),
        ("echo broken; exit 9", "not known"),
        ("true", "not known"),
    ],
)
def test_the_driver_version_is_what_nvidia_smi_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, expected: str
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert doctor.driver_version() == expected


def test_an_nvidia_smi_that_hangs_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(command: list[str], *, timeout: float, **_: Any) -> Any:
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "run", hang)
    assert doctor.driver_version() == "not known"


def test_a_gpu_is_told_and_one_that_cannot_be_used_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    def memory_of(index: int) -> tuple[int, int]:
        if index == 1:
            raise RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later")
        return 6 * GIB, 8 * GIB

    properties = SimpleNamespace(name="A GPU", total_memory=8 * GIB, major=9, minor=0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    monkeypatch.setattr(torch.cuda, "mem_get_info", memory_of)
    assert doctor.gpu(0) == ("GPU 0", "A GPU, 6.0 GiB of 8.0 GiB free, compute capability 9.0", "")
    assert doctor.gpu(1).value == "A GPU, 8.0 GiB, free not known, compute capability 9.0"
    assert "(CUDA error: out of memory): nvidia-smi" in doctor.gpu(1).warning


def test_a_machine_with_gpus_tells_each_and_its_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "resolve_device", lambda _: torch.device("cuda", 0))
    monkeypatch.setattr(doctor, "resolve_precision", lambda *_: "bf16")
    monkeypatch.setattr(doctor, "gpu", lambda index: doctor.Row(f"GPU {index}", "A GPU"))
    monkeypatch.setattr(doctor, "has_nccl", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda.nccl, "version", lambda: (2, 27, 5))
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91002)
    told = {row.name: row.value for row in doctor.device()}
    assert list(told)[:2] == ["GPU 0", "GPU 1"]
    assert (told["cuDNN"], told["NCCL"], told["trainer.precision=auto"]) == ("91002", "2.27.5", "bf16")


def test_a_deleted_current_folder_is_not_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert doctor.room("disk", Path(), at_least=1, otherwise="").value == "not known"
