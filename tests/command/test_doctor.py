"""The report against what Python, the system and made-up files say."""

import contextlib
import importlib.util
import os
import platform
import re
import shutil
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from packaging.requirements import Requirement

from deeplabx import __version__
from deeplabx.command import doctor
from deeplabx.command.doctor import Row
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
    gpus = [name for name in report if name.startswith("GPU ")]
    assert len(gpus) == (torch.cuda.device_count() if device.type == "cuda" else 0)


def test_cores_and_disk_are_what_the_system_says(report: dict[str, str]) -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert report["cores"].split()[0] == str(cores)
    assert report["torch threads"] == str(torch.get_num_threads())
    assert f"of {shutil.disk_usage('.').total / GIB:.1f} GiB" in report["disk"]
    assert str(Path.cwd()) in report["disk"]


def test_values_stand_below_each_other_and_warnings_come_last() -> None:
    few = {"first": [Row("a", "1")], "second": [Row("long name", "2", "type this"), Row("b", "3")]}
    assert doctor.report(few).splitlines() == [
        "first",
        "  a          1",
        "",
        "second",
        "  long name  2",
        "  b          3",
        "",
        "warnings",
        "  type this",
    ]
    assert doctor.report({"first": [Row("a", "1")]}).endswith("\n\nno problems found")


def test_what_the_system_does_not_tell_is_not_known(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    assert doctor.memory("") == "not known"
    assert doctor.room("disk", nowhere, at_least=1, otherwise="") == ("disk", "not known", "")
    assert doctor.driver_version(nowhere) == "not known"
    assert doctor.own_requirements("surely-absent") == []
    assert doctor.versions([])[0].warning.endswith("type pip install -e . in its folder")


def test_too_little_room_is_warned_of(tmp_path: Path) -> None:
    enough, little = (
        doctor.room("disk", tmp_path, at_least=at_least, otherwise="free some") for at_least in (0, 2**80)
    )
    assert f"of {shutil.disk_usage(tmp_path).total / GIB:.1f} GiB free in {tmp_path}" in enough.value
    assert not enough.warning
    assert little.warning.startswith("disk has ")
    assert little.warning.endswith(f" free in {tmp_path}: free some")


def test_memory_is_read_from_meminfo() -> None:
    assert doctor.memory(MEMINFO) == "2.0 GiB of 8.0 GiB available"


def test_what_the_same_bits_need_is_told(report: dict[str, str]) -> None:
    words = report["same bits on CPUs"]
    assert report["cpu"] in words
    assert f"torch {torch.__version__}, {report['torch threads']} threads" in words
    assert ("same bits on GPUs" in report) == (report["trainer.devices=auto"] != "cpu")


@pytest.mark.parametrize(("limit", "warned"), [(256, True), (1023, True), (1024, False)])
def test_few_open_files_are_warned_of(limit: int, warned: bool) -> None:
    row = doctor.open_files(limit)
    assert str(limit) in row.value
    assert ("ulimit -n 4096" in row.warning) == warned


def processes_of(**found: Any) -> dict[str, Row]:
    rows = doctor.processes(
        **{"threads": 1, "limit": 1.5, "gloo": True, "nccl": False, "gpus": False, **found}
    )
    return {row.name: row for row in rows}


def test_more_threads_than_a_container_may_run_are_warned_of() -> None:
    assert processes_of()["cores by cgroup"] == ("cores by cgroup", "1.5", "")
    assert not processes_of()["torch threads"].warning
    assert "type OMP_NUM_THREADS=1 " in processes_of(threads=8)["torch threads"].warning


@pytest.mark.parametrize(
    ("found", "possible", "lacking"),
    [
        ({}, "possible (gloo yes, nccl no)", ""),
        ({"gloo": False}, "not possible (gloo no, nccl no)", "torch lacks gloo,"),
        ({"gpus": True}, "not possible (gloo yes, nccl no)", "torch lacks nccl,"),
        ({"gpus": True, "nccl": True}, "possible (gloo yes, nccl yes)", ""),
    ],
)
def test_several_processes_need_gloo_and_on_gpus_nccl(
    found: dict[str, bool], possible: str, lacking: str
) -> None:
    row = processes_of(**found)["several processes"]
    assert row.value == possible
    assert row.warning.startswith(lacking)
    assert bool(row.warning) == bool(lacking)


def test_every_extra_of_the_metadata_is_told(report: dict[str, str]) -> None:
    for extra in metadata.metadata("deeplabx").get_all("Provides-Extra") or []:
        assert report[extra] == "installed" or ": pip install " in report[extra]
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
        ("ghost", "lacks surely-absent: pip install surely-absent", ""),
        ("new", "lacks numpy: pip install numpy", ""),
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
    ("built", "usable", "words"),
    [
        (False, False, "type pip install --force-reinstall torch"),
        (True, False, "unset CUDA_VISIBLE_DEVICES"),
        (True, True, ""),
    ],
)
def test_a_driver_whose_gpu_is_not_used_is_warned_of(built: bool, usable: bool, words: str) -> None:
    warning = doctor.driver(present=True, built=built, usable=usable).warning
    assert words in warning
    assert bool(warning) == bool(words)
    assert doctor.driver(present=False, built=built, usable=usable) == ("NVIDIA driver", "none found", "")


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo 570.86.15; echo 570.86.15", "570.86.15"),
        ("echo broken; exit 9", "not known"),
        ("true", "not known"),
        ("exec sleep 60", "not known"),
    ],
)
def test_the_driver_version_is_what_nvidia_smi_says_in_time(
    tmp_path: Path, script: str, expected: str
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    assert doctor.driver_version(program, timeout=0.3 if "sleep" in script else 10) == expected


def test_a_gpu_is_told_and_one_that_cannot_be_used_is_warned_of() -> None:
    def memory_of(index: int) -> tuple[int, int]:
        if index == 1:
            raise RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later")
        return 6 * GIB, 8 * GIB

    properties = SimpleNamespace(name="A GPU", total_memory=8 * GIB, major=9, minor=0)
    usable, full = (doctor.gpu(index, properties, memory_of=memory_of) for index in (0, 1))
    assert usable == ("GPU 0", "A GPU, 6.0 GiB of 8.0 GiB free, compute capability 9.0", "")
    assert full.value == "A GPU, 8.0 GiB, free not known, compute capability 9.0"
    assert "(CUDA error: out of memory): nvidia-smi" in full.warning


def test_a_deleted_current_folder_is_not_known(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    with contextlib.chdir(gone):
        gone.rmdir()
        assert doctor.room("disk", Path(), at_least=1, otherwise="").value == "not known"
