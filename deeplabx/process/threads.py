"""How long the threads of a computation wait awake for each other. Standard library only."""

import os

# How often a thread of libgomp, the OpenMP of torch's builds for CPUs, looks for work before it sleeps. Its
# own 300,000 take milliseconds: beside other work on the same cores, each of the many waits of a training
# step then costs a time slice of the system. benchmarks/busy_cpu.py compares them.
SPINS = "GOMP_SPINCOUNT", "300"
OF_THE_USER = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def sleep_while_waiting() -> None:
    """Let the threads of this process, and of those it starts, sleep soon when they wait for each other.
    libgomp reads this when it is loaded, so it must be called before torch is imported. What the user has set
    stays.
    """
    if not any(name in os.environ for name in OF_THE_USER):
        name, value = SPINS
        os.environ[name] = value
