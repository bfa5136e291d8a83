"""The rank of this process in its job, from the variables of torchrun or SLURM. torch is not imported: this
runs before anything is composed.
"""

import re
from collections.abc import Mapping, MutableMapping

from deeplabx.errors import DeviceError

NEEDED = ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_STEP_TASKS_PER_NODE", "SLURM_STEP_NODELIST", "SLURM_JOB_ID")
PORTS = range(20000, 30000)  # a SLURM job uses one of these, chosen by its job id


def is_one_of_several(environment: Mapping[str, str]) -> bool:
    """Whether a launcher started this process with others."""
    return int(environment.get("WORLD_SIZE", "1")) > 1


def is_follower(environment: Mapping[str, str]) -> bool:
    """Whether another process, of rank 0, reads the command line for this one."""
    return is_one_of_several(environment) and int(environment["RANK"]) > 0


def adopt_slurm(environment: MutableMapping[str, str]) -> None:
    """Set torchrun's variables from those of srun, for the tasks of a job step; do nothing for a single task
    or under torchrun.

    Only srun sets SLURM_STEP_NUM_TASKS: a batch script itself has SLURM_PROCID=0 and the SLURM_NTASKS of the
    whole job. Raises DeviceError if one of srun's variables is missing.
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
