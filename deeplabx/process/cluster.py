"""The place of this process in its job, from the variables of torchrun or SLURM. torch is not imported: this
runs before anything is composed.

An empty variable counts as not set. Variables that are set only in part, or that make no sense, are an error:
a run that starts as one of several would wait for the others.
"""

import re
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass

from deeplabx.errors import DeviceError, printable

NEEDED = ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_STEP_TASKS_PER_NODE", "SLURM_STEP_NODELIST", "SLURM_JOB_ID")
PORTS = range(20000, 30000)  # a SLURM job uses one of these, chosen by its job id
# How many processes an MPI launcher started: Open MPI, MVAPICH; Intel MPI and MPICH, and srun beside its own.
OF_MPI = ("OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE", "PMI_SIZE")
START = "start with torchrun (or srun)"


@dataclass(frozen=True)
class Place:
    """Where a process stands among those that a launcher started with it."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0  # among those of its machine
    local_world_size: int = 1


# --- torchrun -----------------------------------------------------------------------------------------------


def place(environment: Mapping[str, str]) -> Place:
    """What torchrun's variables say. Raises DeviceError where they are half-set or make no sense."""
    world_size, rank = number(environment, "WORLD_SIZE"), number(environment, "RANK")
    if world_size is None and rank is None:
        return Place()
    if world_size is None:
        raise half_set("RANK", rank, "WORLD_SIZE")
    if world_size < 1:
        raise DeviceError("WORLD_SIZE=0, but must be at least 1", hint=f"unset WORLD_SIZE, or {START}")
    if rank is None and world_size == 1:
        return Place()
    if rank is None:
        raise half_set("WORLD_SIZE", world_size, "RANK")
    refuse_outside("RANK", rank, "WORLD_SIZE", world_size)
    if world_size == 1:
        return Place()
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if not value_of(environment, name):
            raise half_set("WORLD_SIZE", world_size, name)
    port = number(environment, "MASTER_PORT")
    if port is None or not 0 < port < 2**16:
        raise DeviceError(f"MASTER_PORT={port} is not a port", hint="set it to a number from 1024 to 65535")
    local_rank, local_world_size = number(environment, "LOCAL_RANK"), number(environment, "LOCAL_WORLD_SIZE")
    if local_rank is None or local_world_size is None:
        absent = "LOCAL_RANK" if local_rank is None else "LOCAL_WORLD_SIZE"
        raise DeviceError(
            f"WORLD_SIZE={world_size}, but {absent} is not set",
            hint="with one process on each machine: LOCAL_RANK=0 LOCAL_WORLD_SIZE=1 deeplabx ...; else "
            "start with torchrun",
        )
    refuse_outside("LOCAL_RANK", local_rank, "LOCAL_WORLD_SIZE", local_world_size)
    refuse_outside("LOCAL_WORLD_SIZE", local_world_size - 1, "WORLD_SIZE", world_size, shown=local_world_size)
    return Place(rank, world_size, local_rank, local_world_size)


def value_of(environment: Mapping[str, str], name: str) -> str:
    return environment.get(name, "").strip()


def number(environment: Mapping[str, str], name: str) -> int | None:
    """The number that a variable holds; None where it is not set. Raises DeviceError for anything else."""
    value = value_of(environment, name)
    if not value:
        return None
    if re.fullmatch(r"[0-9]{1,9}", value) is None:
        raise DeviceError(
            f"{name}={printable(value, 60)} is not a whole number", hint=f"unset {name}, or {START}"
        )
    return int(value)


def half_set(name: str, value: object, absent: str) -> DeviceError:
    return DeviceError(
        f"{name}={value} is set, but {absent} is not",
        hint=f"for a single process: unset {name}; for several: {START}, which sets all of them",
    )


def refuse_outside(name: str, value: int, limit: str, size: int, *, shown: int | None = None) -> None:
    """Raise DeviceError unless `value` is below `size`, the value of the variable `limit`."""
    if value >= size:
        raise DeviceError(
            f"{name}={value if shown is None else shown} does not fit {limit}={size}",
            hint=f"for a single process: unset both; for several: {START}, which sets all of them",
        )


# --- SLURM and MPI ------------------------------------------------------------------------------------------


def adopt(environment: MutableMapping[str, str]) -> Place:
    """The place of this process, after setting torchrun's variables from those of srun where only those are
    there.

    Raises DeviceError for variables that are half-set or make no sense, and under a launcher of MPI, which
    would start independent runs.
    """
    if not any(value_of(environment, name) for name in ("WORLD_SIZE", "RANK")):
        tasks = number(environment, "SLURM_STEP_NUM_TASKS") or 1
        refuse_mpi(environment, tasks=tasks)
        if tasks > 1:
            adopt_slurm(environment, tasks=tasks)
    found = place(environment)
    if found.world_size > 1:  # as torch reads them
        environment.update(
            WORLD_SIZE=str(found.world_size),
            RANK=str(found.rank),
            LOCAL_RANK=str(found.local_rank),
            LOCAL_WORLD_SIZE=str(found.local_world_size),
            MASTER_ADDR=value_of(environment, "MASTER_ADDR"),
            MASTER_PORT=value_of(environment, "MASTER_PORT"),
        )
    return found


def refuse_mpi(environment: Mapping[str, str], *, tasks: int) -> None:
    """Raise DeviceError in one of several processes that mpirun started. tasks: that srun started; it sets
    PMI_SIZE too.
    """
    for name in OF_MPI:
        value = value_of(environment, name)
        started = int(value) if re.fullmatch(r"[0-9]{1,9}", value) else 1
        if started > 1 and not (name == "PMI_SIZE" and started == tasks):
            raise DeviceError(
                f"mpirun started {started} processes ({name}={started}): each would be a run of its own",
                hint=f"{START}; or start one process with trainer.devices=N (a single one: unset {name})",
            )


def adopt_slurm(environment: MutableMapping[str, str], *, tasks: int) -> None:
    """Set torchrun's variables from those of srun, for one of the `tasks` of a job step.

    Only srun sets SLURM_STEP_NUM_TASKS: a batch script itself, and the shell of salloc, have SLURM_PROCID=0
    and the SLURM_NTASKS of the whole job.
    """
    if value_of(environment, "SLURM_PTY_PORT"):
        raise DeviceError(
            f"srun --pty started {tasks} tasks, and only the first has a terminal",
            hint="start without --pty; in its shell, for a single process: unset SLURM_STEP_NUM_TASKS",
        )
    absent = [name for name in NEEDED if not value_of(environment, name)]
    if absent:
        raise DeviceError(
            f"srun started {tasks} tasks (SLURM_STEP_NUM_TASKS), but {absent[0]} is not set",
            hint="for a single process: unset SLURM_STEP_NUM_TASKS; else start with srun, or use torchrun",
        )
    rank, local_rank, job = (
        number(environment, name) or 0 for name in ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_JOB_ID")
    )
    refuse_outside("SLURM_PROCID", rank, "SLURM_STEP_NUM_TASKS", tasks)
    per_node = first_count(value_of(environment, "SLURM_STEP_TASKS_PER_NODE"))
    if not value_of(environment, "MASTER_ADDR"):
        environment["MASTER_ADDR"] = first_host(value_of(environment, "SLURM_STEP_NODELIST"))
    if not value_of(environment, "MASTER_PORT"):
        environment["MASTER_PORT"] = str(PORTS[job % len(PORTS)])
    environment.update(
        WORLD_SIZE=str(tasks),
        RANK=str(rank),
        LOCAL_RANK=str(local_rank),
        # of the first node; one with fewer tasks has lower local ranks, one with more is as large as it is
        LOCAL_WORLD_SIZE=str(max(per_node, local_rank + 1)),
    )


def first_host(nodes: str) -> str:
    """The first of a node list in SLURM's short form: gpu[07-09,12],login1 is gpu07, r[1-2]n[3,5] is r1n3."""
    name = re.match(r"(?:[^,\[\]]|\[[^\[\]]*\])*", nodes)
    host = re.sub(r"\[([^,\]-]*)[^\]]*\]", r"\1", name.group() if name else "")
    whole = name is not None and name.end() in (len(nodes), nodes.find(",", name.end()))
    if not whole or re.fullmatch(r"[\w.-]+", host) is None:
        raise DeviceError(
            f"SLURM_STEP_NODELIST={printable(nodes, 60)} is not a list of nodes",
            hint="set MASTER_ADDR to the name of the first node, or use torchrun",
        )
    return host


def first_count(counts: str) -> int:
    """The first of counts in SLURM's short form: 4(x2),3 is 4."""
    found = re.match(r"\s*([1-9][0-9]{0,8})(?=[(,]|$)", counts)
    if found is None:
        raise DeviceError(
            f"SLURM_STEP_TASKS_PER_NODE={printable(counts, 60)} is not a list of counts such as 4(x2)",
            hint="start with srun, or use torchrun",
        )
    return int(found[1])
