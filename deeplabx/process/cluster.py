"""What torchrun or SLURM say of this process's place among those of its job. No torch here: it is asked
before anything is composed.
"""

import re
from collections.abc import Mapping, MutableMapping

from deeplabx.errors import DeviceError

NEEDED = ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_STEP_TASKS_PER_NODE", "SLURM_STEP_NODELIST", "SLURM_JOB_ID")
PORTS = range(20000, 30000)  # of which a SLURM job takes one, by its number


def is_one_of_several(environment: Mapping[str, str]) -> bool:
    """Whether a launcher started this process with others."""
    return int(environment.get("WORLD_SIZE", "1")) > 1


def is_follower(environment: Mapping[str, str]) -> bool:
    """Whether the process of rank 0, another one, reads the command line for this one too."""
    return is_one_of_several(environment) and int(environment["RANK"]) > 0


def adopt_slurm(environment: MutableMapping[str, str]) -> None:
    """Say in torchrun's variables what srun says in its own, for the tasks of a job step; nothing where there
    is one task, or torchrun.

    SLURM_STEP_NUM_TASKS is set by srun alone: in a batch script, SLURM_PROCID=0 stands beside the
    SLURM_NTASKS of the whole job. Raises DeviceError where srun left out what it says elsewhere.
    """
    tasks = int(environment.get("SLURM_STEP_NUM_TASKS", "1"))
    if tasks == 1 or "RANK" in environment:
        return
    absent = [name for name in NEEDED if name not in environment]
    if absent:
        raise DeviceError(
            f"srun started {tasks} tasks, but {absent[0]} is not set",
            hint="start one task with trainer.devices=N, or use torchrun",
        )
    per_node = first_count(environment["SLURM_STEP_TASKS_PER_NODE"])
    environment["WORLD_SIZE"], environment["RANK"] = str(tasks), environment["SLURM_PROCID"]
    environment["LOCAL_RANK"], environment["LOCAL_WORLD_SIZE"] = environment["SLURM_LOCALID"], str(per_node)
    environment.setdefault("MASTER_ADDR", first_host(environment["SLURM_STEP_NODELIST"]))
    environment.setdefault("MASTER_PORT", str(PORTS[int(environment["SLURM_JOB_ID"]) % len(PORTS)]))


def first_host(nodes: str) -> str:
    """The first of a node list in SLURM's short form: gpu[07-09,12],login1 is gpu07."""
    head = re.match(r"[^,\[]*", nodes)
    name = head.group() if head else ""
    ranges = nodes[len(name) :]
    return name + re.split(r"[-,\]]", ranges[1:])[0] if ranges.startswith("[") else name


def first_count(counts: str) -> int:
    """The first of counts in SLURM's short form: 4(x2),3 is 4."""
    return int(re.split(r"[(,]", counts)[0])
