import pytest

from deeplabx.errors import DeviceError
from deeplabx.process.cluster import adopt, first_count, first_host, is_follower, is_one_of_several


@pytest.mark.parametrize(
    ("nodes", "host"),
    [
        ("gpu7", "gpu7"),
        ("gpu[07-09,12],login1", "gpu07"),
        ("a-1,b", "a-1"),
        ("rack[3,5]", "rack3"),
        ("n[012]", "n012"),
    ],
)
def test_the_first_host_of_slurms_short_form(nodes: str, host: str) -> None:
    assert first_host(nodes) == host


@pytest.mark.parametrize(("counts", "first"), [("4(x2),3", 4), ("2", 2), ("8,4", 8), ("16(x32)", 16)])
def test_the_first_count_of_slurms_short_form(counts: str, first: int) -> None:
    assert first_count(counts) == first


def torchrun(**changes: str) -> dict[str, str]:
    """What torchrun says to the second of two processes on one machine."""
    said = {
        "WORLD_SIZE": "2",
        "RANK": "1",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": "29500",
    }
    return {**said, **{name.upper(): value for name, value in changes.items()}}


def step(rank: int) -> dict[str, str]:
    """What srun says to a task of four on two nodes."""
    return {
        "SLURM_STEP_NUM_TASKS": "4",
        "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
        "SLURM_STEP_NODELIST": "gpu[3-4]",
        "SLURM_JOB_ID": "123456",
        "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": str(rank % 2),
    }


def test_a_task_of_slurms_is_a_process_of_torchruns() -> None:
    environment = step(3)
    adopt(environment)
    assert {
        name: environment[name]
        for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR")
    } == {
        "RANK": "3",
        "WORLD_SIZE": "4",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "gpu3",
    }
    assert 1024 < int(environment["MASTER_PORT"]) < 65536
    assert is_one_of_several(environment)
    assert is_follower(environment)


def test_all_tasks_of_a_step_meet_at_one_place() -> None:
    places = set()
    for rank in range(4):
        environment = step(rank)
        adopt(environment)
        places.add((environment["MASTER_ADDR"], environment["MASTER_PORT"]))
        assert is_follower(environment) == (rank > 0)
    assert len(places) == 1


def test_a_batch_script_is_not_a_task_of_several() -> None:
    environment = {"SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_JOB_ID": "1"}
    adopt(environment)
    assert not is_one_of_several(environment)


def test_torchruns_word_goes_before_slurms() -> None:
    environment = {**step(1), **torchrun(rank="0")}
    adopt(environment)
    assert environment["RANK"] == "0"
    assert environment["WORLD_SIZE"] == "2"


def test_a_step_that_srun_does_not_describe_is_an_error() -> None:
    environment = step(0)
    del environment["SLURM_STEP_NODELIST"]
    with pytest.raises(DeviceError, match="SLURM_STEP_NODELIST is not set"):
        adopt(environment)
