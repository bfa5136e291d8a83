"""The limits of cores and memory that a container or a batch system has set for this process."""

import math
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from deeplabx.process.memory import text_of


class Limits(NamedTuple):
    cores: float = math.inf
    memory: float = math.inf


def cgroup_limits(
    root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")
) -> Limits:
    """The tightest of this process's cgroups and those around them, as containers and batch systems set
    them.
    """
    found = [Limits()]
    for line in text_of(membership).splitlines():
        _, controllers, path = line.split(":", 2)  # version 2 names no controllers
        own = PurePosixPath(path.lstrip("/"))
        found += [limits_in(root / controllers / part) for part in (own, *own.parents)]
    return Limits(min(limits.cores for limits in found), min(limits.memory for limits in found))


def limits_in(cgroup: Path) -> Limits:
    """Of both versions: for no limit stands `max` (version 2), -1 (cores) or nearly 2 ** 63 (bytes)."""
    cores = (
        text_of(cgroup / "cpu.max")
        or text_of(cgroup / "cpu.cfs_quota_us") + text_of(cgroup / "cpu.cfs_period_us")
    ).split()
    memory = (text_of(cgroup / "memory.max") or text_of(cgroup / "memory.limit_in_bytes")).strip()
    return Limits(
        int(cores[0]) / int(cores[1]) if len(cores) == 2 and cores[0].isdecimal() else math.inf,
        int(memory) if memory.isdecimal() and int(memory) < 2**60 else math.inf,
    )
