"""The memory that this process may still use, and glibc's treatment of freed memory."""

import ctypes
import os
import re
import resource
import sys
from pathlib import Path
from typing import NamedTuple

from deeplabx.errors import byte_words

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h
ROOT = Path("/")
SHARED_MEMORY = "dev/shm"  # where Linux keeps shared memory; torch and multiprocessing use it


class Free(NamedTuple):
    """Bytes that are free, of how many, and whose limit that is."""

    free: int
    total: int
    owner: str

    @property
    def words(self) -> str:
        return f"{byte_words(self.free)} of {byte_words(self.total)} are free ({self.owner})"


def free_memory(root: Path = ROOT) -> Free | None:
    """What this process and those that it starts may still use together: the least of the machine's available
    memory and the limits of its cgroups (a container's, a batch job's). Cached files count as free, because
    the kernel drops them. None where the system does not say. root: where /proc and /sys are.
    """
    known = [*machine_memory(root), *cgroup_memory(root)]
    return min(known, key=lambda one: one.free, default=None)


def machine_memory(root: Path) -> list[Free]:
    fields = dict(re.findall(r"^(\w+):\s+(\d+) kB$", text_of(root / "proc/meminfo"), re.MULTILINE))
    if "MemAvailable" not in fields:
        return []
    return [Free(int(fields["MemAvailable"]) * 1024, int(fields["MemTotal"]) * 1024, "this machine")]


def cgroup_memory(root: Path) -> list[Free]:
    """What each memory limit of this process's cgroup and those above it leaves, in version 1 and 2."""
    found = []
    for line in text_of(root / "proc/self/cgroup").splitlines():
        number, controllers, own = line.split(":", 2)
        second = number == "0" and not controllers
        if not second and "memory" not in controllers.split(","):
            continue
        top = root / ("sys/fs/cgroup" if second else "sys/fs/cgroup/memory")
        folder = top / own.strip("/")
        # In a container the path may be the host's, of which only the container's own folder is mounted.
        folders = [folder, *folder.parents] if folder.is_dir() else [top]
        for one in folders[: folders.index(top) + 1]:
            found += second_version(one) if second else first_version(one)
    return found


def second_version(folder: Path) -> list[Free]:
    limits = [number_in(folder / name) for name in ("memory.max", "memory.high")]
    return left_of(limits, used=number_in(folder / "memory.current"), folder=folder, prefix="")


def first_version(folder: Path) -> list[Free]:
    limits = [number_in(folder / "memory.limit_in_bytes")]
    return left_of(limits, used=number_in(folder / "memory.usage_in_bytes"), folder=folder, prefix="total_")


def left_of(limits: list[int | None], *, used: int | None, folder: Path, prefix: str) -> list[Free]:
    limit = min((one for one in limits if one is not None and one < 2**60), default=None)  # more is none
    if limit is None or used is None:
        return []
    stat = dict(line.split() for line in text_of(folder / "memory.stat").splitlines() if line.count(" ") == 1)
    cached = sum(int(stat.get(f"{prefix}{name}", 0)) for name in ("active_file", "inactive_file"))
    return [Free(max(0, limit - used + cached), limit, "the limit of this container or job")]


def free_addresses(root: Path = ROOT) -> Free | None:
    """What the limit of this process's address space (ulimit -v) leaves; None without a limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    pages = text_of(root / "proc/self/statm").split()
    if soft == resource.RLIM_INFINITY or not pages:
        return None
    used = int(pages[0]) * resource.getpagesize()
    return Free(max(0, soft - used), soft, "the limit set by ulimit -v")


def free_shared_memory(root: Path = ROOT) -> Free | None:
    """What is free in /dev/shm; None where there is none, or where it has no limit of its own."""
    folder = root / SHARED_MEMORY
    if not folder.is_dir():
        return None
    found = os.statvfs(folder)
    if found.f_blocks == 0:  # mounted with size=0: no limit
        return None
    return Free(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize, "/dev/shm")


def resident_memory(root: Path = ROOT) -> int | None:
    """The bytes of this process that are in memory; None where the system does not say."""
    pages = text_of(root / "proc/self/statm").split()
    return int(pages[1]) * resource.getpagesize() if pages else None


def return_freed_memory() -> None:
    """Have glibc's malloc return all freed memory to the system. Between what is still used, it otherwise
    keeps what it may need again. It has no effect with another C library.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def memory_words() -> str:
    """The free memory for an error message; empty where the system does not say."""
    found = free_memory()
    return "" if found is None else found.words


def text_of(path: Path) -> str:
    """The text of a file of the kernel; empty where it cannot be read, as on another system."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def number_in(path: Path) -> int | None:
    text = text_of(path).strip()
    return int(text) if text.isdecimal() else None  # `max`: no limit


def keep_freed_memory() -> None:
    """Make glibc's malloc keep the memory of freed large tensors. By default it returns that to the system,
    which then hands out zeroed pages again: this costs a third of a training step or more. It affects the
    whole process, so it is for commands, not for functions called in a notebook. It has no effect with
    another C library.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
