"""deeplabx doctor: what is installed, what the machine has, and what to type where something is in the
way.
"""

import math
import os
import platform
import re
import resource
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import torch
from packaging.requirements import Requirement  # hydra-core brings it along
from torch import distributed as dist
from torch.cuda import nccl

from deeplabx import __version__
from deeplabx.errors import ConfigError
from deeplabx.process.cgroups import cgroup_limits
from deeplabx.process.distributed import cores, resolve_device, resolve_precision
from deeplabx.process.machine import cpu_model, nvidia_driver
from deeplabx.process.memory import text_of

GIB = 2**30
UNKNOWN = "not known"


class Row(NamedTuple):
    name: str
    value: str
    warning: str = ""  # what is wrong, and what to type


def main(words: list[str]) -> str:
    if words:
        raise ConfigError(f"doctor takes no settings: {' '.join(words)}")
    return doctor()


def doctor() -> str:
    """The whole report: versions, device, cores, memory and disk, extras, and last the warnings."""
    needs, limits = own_requirements(), cgroup_limits()
    return report(
        {
            "versions": versions(needs),
            "device": device(resolve_device("auto")),
            "same bits": same_bits(resolve_device("auto")),
            "processes": processes(
                threads=torch.get_num_threads(),
                limit=limits.cores,
                gloo=dist.is_available() and dist.is_gloo_available(),
                nccl=has_nccl(),
                gpus=torch.cuda.is_available(),
            ),
            "storage": storage(limit=limits.memory),
            "extras": extras(needs),
        }
    )


def report(sections: Mapping[str, Sequence[Row]]) -> str:
    """Every section with its rows, and below them the warnings of all."""
    rows = [row for section in sections.values() for row in section]
    width = max(len(row.name) for row in rows)
    lines: list[str] = []
    for title, section in sections.items():
        lines += [title, *(f"  {row.name:<{width}}  {row.value}" for row in section), ""]
    warnings = [f"  {row.warning}" for row in rows if row.warning]
    return "\n".join([*lines, *(["warnings", *warnings] if warnings else ["no problems found"])])


def own_requirements(package: str = "deeplabx") -> list[Requirement]:
    """What an installed package says that it and its extras need; nothing where it was only put on the
    path.
    """
    try:
        return [Requirement(line) for line in metadata.requires(package) or []]
    except metadata.PackageNotFoundError:
        return []


def applies(requirement: Requirement, extra: str = "") -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def installed(package: str) -> str:
    """Its version, or nothing."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def is_met(requirement: Requirement) -> bool:
    version = installed(requirement.name)
    return bool(version) and requirement.specifier.contains(version, prereleases=True)


def versions(needs: Sequence[Requirement]) -> list[Row]:
    """deeplabx, the system, and each package that every installation needs."""
    unlisted = (
        ""
        if needs
        else "deeplabx is not installed, so what it needs is not known: type pip install -e . in its folder"
    )
    rows = [
        Row("deeplabx", __version__, unlisted),
        Row("python", platform.python_version()),
        Row("system", platform.platform()),
    ]
    for need in filter(applies, needs):
        found = installed(need.name) or "not installed"
        wrong = f"{need.name} is {found}, deeplabx needs {need}: type pip install '{need}'"
        rows.append(Row(need.name, found, "" if is_met(need) else wrong))
    return rows


def extras(needs: Sequence[Requirement]) -> list[Row]:
    """Each optional extra: installed, or what it lacks and the line that adds it."""
    rows = []
    for extra in sorted(
        {name for need in needs for name in re.findall(r'extra == "(.+?)"', str(need.marker))}
    ):
        lacking = [
            need.name for need in needs if applies(need, extra) and not applies(need) and not is_met(need)
        ]
        rows.append(
            Row(
                extra,
                f"lacks {', '.join(lacking)}: pip install {' '.join(lacking)}" if lacking else "installed",
            )
        )
    return rows


def device(chosen: torch.device) -> list[Row]:
    """The GPUs, the CPU, driver and libraries. chosen: what `auto` takes."""
    on_gpu = chosen.type == "cuda"
    built_for = (
        f"CUDA {torch.version.cuda}"
        if torch.version.cuda
        else f"ROCm {torch.version.hip}"
        if torch.version.hip
        else "the CPU only"
    )
    there = shutil.which("nvidia-smi") is not None or Path("/proc/driver/nvidia").exists()
    gpus = range(torch.cuda.device_count() if on_gpu else 0)
    return [
        *(gpu(index, torch.cuda.get_device_properties(index)) for index in gpus),
        Row("cpu", cpu_model() or UNKNOWN),
        Row("torch is built for", built_for),
        driver(present=there, built=torch.backends.cuda.is_built(), usable=torch.cuda.is_available()),
        *([Row("cuDNN", str(torch.backends.cudnn.version()))] if on_gpu else []),
        *([Row("NCCL", ".".join(map(str, nccl.version())))] if on_gpu and has_nccl() else []),
        Row("trainer.devices=auto", str(chosen)),
        Row("trainer.precision=auto", resolve_precision("auto", chosen)),
    ]


def gpu(
    index: int, properties: Any, *, memory_of: Callable[[int], tuple[int, int]] = torch.cuda.mem_get_info
) -> Row:
    """properties: torch's. memory_of: the free and all bytes of a GPU; raises RuntimeError where it is in the
    way.
    """
    memory, warning = f"{size(properties.total_memory)}, free {UNKNOWN}", ""
    try:
        memory = " of ".join(map(size, memory_of(index))) + " free"
    except RuntimeError as error:  # its memory is full, or another process has it for itself
        reason = (str(error).splitlines() or [""])[0]
        warning = (
            f"GPU {index} cannot be used ({reason}): nvidia-smi lists what runs on it; meanwhile "
            "type trainer.devices=cpu"
        )
    return Row(
        f"GPU {index}",
        f"{properties.name}, {memory}, compute capability {properties.major}.{properties.minor}",
        warning,
    )


def driver(*, present: bool, built: bool, usable: bool) -> Row:
    """NVIDIA's driver, with a warning where it is here and torch uses no GPU. built: whether torch is built
    for CUDA; usable: whether it can use a GPU.
    """
    warning = ""
    if present and not built:
        warning = (
            f"an NVIDIA driver is here, but torch {torch.__version__} is built for the CPU only: "
            "type pip install --force-reinstall torch"
        )
    elif present and not usable:
        look = "type nvidia-smi to see whether there is one, unset CUDA_VISIBLE_DEVICES, or update the driver"
        warning = (
            f"an NVIDIA driver is here, but torch for CUDA {torch.version.cuda} finds no GPU that it "
            f"can use: {look}"
        )
    return Row("NVIDIA driver", (nvidia_driver() or driver_version()) if present else "none found", warning)


def driver_version(program: str | Path = "nvidia-smi", *, timeout: float = 10) -> str:
    """What nvidia-smi says within `timeout` seconds: the kernel does not tell everywhere."""
    command = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=timeout, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return UNKNOWN
    return (answer.split() or [UNKNOWN])[0]  # a line for each GPU, all the same


def same_bits(chosen: torch.device) -> list[Row]:
    """Where two runs with the same settings and seed, one of them killed and resumed, end with the same
    weights. chosen: the device that `auto` takes.
    """
    torch_version = f"torch {torch.__version__}"
    rows = [
        Row(
            "same bits on CPUs",
            f"on {cpu_model() or UNKNOWN}, with {torch_version}, {torch.get_num_threads()} threads and the "
            "same number of processes",
        )
    ]
    if chosen.type == "cuda":
        libraries = f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}, {torch_version}"
        rows.append(
            Row(
                "same bits on GPUs",
                f"trainer.deterministic=true, on {torch.cuda.get_device_name()}, with driver "
                f"{nvidia_driver() or UNKNOWN}, {libraries} and the same number of processes",
            )
        )
    return rows


def has_nccl() -> bool:
    return dist.is_available() and dist.is_nccl_available()


def processes(*, threads: int, limit: float, gloo: bool, nccl: bool, gpus: bool) -> list[Row]:
    """Cores, threads, and whether trainer.devices=N can have several processes.

    threads: with which torch computes. limit: of cores, by cgroup. gloo, nccl: whether torch has them. gpus:
    whether it can use one.
    """
    usable = max(1, int(min(cores(), limit)))
    crowd = (
        f"torch computes with {threads} threads where {usable} can run: type OMP_NUM_THREADS={usable} "
        "before the command"
    )
    has = {"gloo": gloo, "nccl": nccl}
    lacking = [name for name in has if not has[name] and (name == "gloo" or gpus)]
    alone = (
        f"torch lacks {' and '.join(lacking)}, so trainer.devices=N cannot work: type trainer.devices=auto"
    )
    words = ", ".join(f"{name} {'yes' if there else 'no'}" for name, there in has.items())
    return [
        Row("cores", f"{cores()} of {os.cpu_count() or UNKNOWN}"),
        Row("cores by cgroup", "no limit" if limit == math.inf else f"{limit:g}"),
        Row("torch threads", str(threads), crowd if threads > usable else ""),
        Row("several processes", f"{'not ' if lacking else ''}possible ({words})", alone if lacking else ""),
    ]


def storage(*, limit: float) -> list[Row]:
    """Memory, disk and open files. limit: of memory, by cgroup."""
    passed = (
        "loader workers pass batches through it; type trainer.workers=0, or start docker with --shm-size=8g"
    )
    written = "checkpoints go there; free some, or work in a folder of another disk"
    return [
        Row("memory", memory(text_of(Path("/proc/meminfo")))),
        Row("memory by cgroup", size(limit)),
        room("shared memory", Path("/dev/shm"), at_least=GIB, otherwise=passed),
        room("disk", Path(), at_least=5 * GIB, otherwise=written),
        open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
    ]


def memory(meminfo: str) -> str:
    kibibytes = dict(re.findall(r"^(\w+): +(\d+) kB", meminfo, re.MULTILINE))
    if not {"MemTotal", "MemAvailable"} <= set(kibibytes):
        return UNKNOWN
    return (
        f"{size(int(kibibytes['MemAvailable']) * 1024)} of {size(int(kibibytes['MemTotal']) * 1024)} "
        "available"
    )


def room(name: str, folder: Path, *, at_least: int, otherwise: str) -> Row:
    """Free and total bytes there, and the warning `otherwise` under `at_least` free ones."""
    try:
        where, usage = folder.absolute(), shutil.disk_usage(folder)
    except OSError:  # macOS shares memory without a folder for it, and the current folder may be deleted
        return Row(name, UNKNOWN)
    warning = f"{name} has {size(usage.free)} free in {where}: {otherwise}" if usage.free < at_least else ""
    return Row(name, f"{size(usage.free)} of {size(usage.total)} free in {where}", warning)


def open_files(limit: int) -> Row:
    if limit == resource.RLIM_INFINITY:
        return Row("open files", "no limit")
    few = (
        f"only {limit} files may be open, and loader workers open many: type ulimit -n 4096 before the "
        "command, or trainer.workers=0"
    )
    return Row("open files", f"at most {limit}", few if limit < 1024 else "")


def size(count: float) -> str:
    if count == math.inf:
        return "no limit"
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / 2**20:.0f} MiB"
