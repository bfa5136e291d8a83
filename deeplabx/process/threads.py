"""How long the threads of a computation on a CPU wait awake for each other."""

import os
from pathlib import Path
from typing import NamedTuple

# How often a thread of libgomp, the OpenMP of torch's builds for CPUs, looks for work before it sleeps. Its
# own 300,000 take milliseconds. If other processes use the same cores, each of the many waits of a training
# step then costs a time slice of the system; if none does, sleeping and waking up costs about a tenth of a
# small step. benchmarks/busy_cpu.py measures both.
SPINS = "GOMP_SPINCOUNT", "300"
OF_THE_USER = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
BUSY = 0.2  # part of the cores that others use, from which they are in the way
WAITING = (3, 4)  # fields of /proc/stat: idle, and idle while it waits for a disk


class CoreTimes(NamedTuple):
    """Seconds since the machine started, summed over the cores that this process may use: in all, those that
    any process computed, and those that this one did.
    """

    whole: float
    busy: float
    own: float

    def share_of_others(self, now: "CoreTimes") -> float:
        """The part of the cores that other processes used from this moment to `now`."""
        whole = now.whole - self.whole
        return (now.busy - self.busy - (now.own - self.own)) / whole if whole > 0 else 0.0


def core_times(stat: Path = Path("/proc/stat")) -> CoreTimes | None:
    """None where the system does not say."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    names = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    try:
        lines = [line.split() for line in stat.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return None
    cores = [[int(ticks) for ticks in fields[:8]] for name, *fields in lines if name in names]
    whole, waiting = sum(map(sum, cores)), sum(core[place] for core in cores for place in WAITING)
    per_second = os.sysconf("SC_CLK_TCK")
    own = os.times()
    return CoreTimes(whole / per_second, (whole - waiting) / per_second, own.user + own.system)


def sleep_beside_others(since: CoreTimes | None) -> None:
    """Let the threads of this process, and of those it starts, sleep soon when they wait for each other, if
    other processes have used the cores since then. libgomp reads this when it is loaded, so it must be called
    before torch is imported. What the user has set stays.
    """
    now = core_times()
    if since is None or now is None or any(name in os.environ for name in OF_THE_USER):
        return
    if since.share_of_others(now) >= BUSY:
        name, value = SPINS
        os.environ[name] = value
