import pytest

from deeplabx.errors import DeviceError
from deeplabx.process.cluster import Place, adopt, first_count, first_host, place
from tests.conftest import Deeplabx


@pytest.mark.parametrize(
    ("nodes", "host"),
    [
        ("gpu7", "gpu7"),
        ("gpu[07-09,12],login1", "gpu07"),
        ("a-1,b", "a-1"),
        ("rack[3,5]", "rack3"),
        ("n[012]", "n012"),
        ("gpu[001-004],login", "gpu001"),
        ("rack[1-2]n[3,5]", "rack1n3"),
        ("n[7-8].cluster.org,m", "n7.cluster.org"),
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
    assert place(environment) == Place(rank=3, world_size=4, local_rank=1, local_world_size=2)


def test_all_tasks_of_a_step_meet_at_one_place() -> None:
    places = set()
    for rank in range(4):
        environment = step(rank)
        adopt(environment)
        places.add((environment["MASTER_ADDR"], environment["MASTER_PORT"]))
    assert len(places) == 1


def test_a_batch_script_is_not_a_task_of_several() -> None:
    environment = {"SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_JOB_ID": "1"}
    adopt(environment)
    assert place(environment).world_size == 1


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


def test_one_place_from_the_variables() -> None:
    assert place(torchrun()) == Place(1, 2, 1, 2)
    environment = torchrun(world_size=" 2 ", master_port=" 29500 ")
    assert adopt(environment) == Place(1, 2, 1, 2)
    assert environment["WORLD_SIZE"] == "2"
    assert environment["MASTER_PORT"] == "29500"


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"WORLD_SIZE": ""},
        {"WORLD_SIZE": "1"},
        {"WORLD_SIZE": " ", "RANK": "", "SLURM_STEP_NUM_TASKS": ""},
        {"WORLD_SIZE": "1", "RANK": "0", "MASTER_ADDR": "x", "MASTER_PORT": "1"},  # Kubeflow of one
        {"LOCAL_RANK": "abc", "MASTER_PORT": "abc"},  # which a run of one does not use
        {"SLURM_NTASKS": "8", "SLURM_NPROCS": "8", "SLURM_JOB_ID": "1"},  # the shell of salloc
        {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "abc"},
        {"OMPI_COMM_WORLD_SIZE": "1", "PMI_SIZE": "1", "PMI_RANK": "0"},
        {"OMPI_COMM_WORLD_SIZE": "4", "WORLD_SIZE": "1", "RANK": "0"},  # asked for
    ],
)
def test_a_run_of_one(environment: dict[str, str]) -> None:
    before = dict(environment)
    assert adopt(environment) == Place()
    assert environment == before


def without(environment: dict[str, str], name: str) -> dict[str, str]:
    return {key: value for key, value in environment.items() if key != name}


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE=2 is set, but RANK is not"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE=two is not a whole number"),
        ({"WORLD_SIZE": "2.0"}, "WORLD_SIZE=2.0 is not a whole number"),
        ({"WORLD_SIZE": "٢", "RANK": "0"}, "WORLD_SIZE=٢ is not a whole number"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE=0, but must be at least 1"),
        ({"WORLD_SIZE": "-1", "RANK": "0"}, "WORLD_SIZE=-1 is not a whole number"),
        ({"WORLD_SIZE": "", "RANK": "0"}, "RANK=0 is set, but WORLD_SIZE is not"),
        ({"WORLD_SIZE": "1", "RANK": "1"}, "RANK=1 does not fit WORLD_SIZE=1"),
        (torchrun(rank="2"), "RANK=2 does not fit WORLD_SIZE=2"),
        (torchrun(rank="-1"), "RANK=-1 is not a whole number"),
        (torchrun(master_addr=""), "WORLD_SIZE=2 is set, but MASTER_ADDR is not"),
        (without(torchrun(), "MASTER_PORT"), "WORLD_SIZE=2 is set, but MASTER_PORT is not"),
        (torchrun(master_port="abc"), "MASTER_PORT=abc is not a whole number"),
        (torchrun(master_port="99999"), "MASTER_PORT=99999 is not a port"),
        (torchrun(local_rank="2"), "LOCAL_RANK=2 does not fit LOCAL_WORLD_SIZE=2"),
        (torchrun(local_world_size="4"), "LOCAL_WORLD_SIZE=4 does not fit WORLD_SIZE=2"),
        (without(torchrun(), "LOCAL_RANK"), "WORLD_SIZE=2, but LOCAL_RANK is not set"),
        ({**step(0), "SLURM_STEP_NUM_TASKS": "four"}, "SLURM_STEP_NUM_TASKS=four is not a whole number"),
        ({**step(0), "SLURM_PROCID": "abc"}, "SLURM_PROCID=abc is not a whole number"),
        ({**step(0), "SLURM_PROCID": ""}, "SLURM_PROCID is not set"),
        ({**step(0), "SLURM_PROCID": "4"}, "SLURM_PROCID=4 does not fit SLURM_STEP_NUM_TASKS=4"),
        ({**step(0), "SLURM_JOB_ID": "x"}, "SLURM_JOB_ID=x is not a whole number"),
        ({**step(0), "SLURM_STEP_TASKS_PER_NODE": "(x2)"}, "SLURM_STEP_TASKS_PER_NODE=.* is not a list"),
        ({**step(0), "SLURM_STEP_NODELIST": "gpu[1-"}, "SLURM_STEP_NODELIST=.* is not a list of nodes"),
        ({**step(0), "SLURM_STEP_NODELIST": ",a"}, "SLURM_STEP_NODELIST=.* is not a list of nodes"),
        ({**step(0), "SLURM_PTY_PORT": "1"}, "srun --pty started 4 tasks"),
        ({"OMPI_COMM_WORLD_SIZE": "4"}, r"mpirun started 4 processes \(OMPI_COMM_WORLD_SIZE=4\)"),
        # mpirun on two nodes of a SLURM job: a task of srun for each node
        ({**step(0), "SLURM_STEP_NUM_TASKS": "2", "OMPI_COMM_WORLD_SIZE": "8"}, "mpirun started 8"),
        ({**step(0), "SLURM_STEP_NUM_TASKS": "2", "PMI_SIZE": "8"}, "mpirun started 8 processes"),
        ({"PMI_SIZE": "2", "PMI_RANK": "0"}, r"mpirun started 2 processes \(PMI_SIZE=2\)"),
        ({"MV2_COMM_WORLD_SIZE": "2"}, "mpirun started 2 processes"),
        ({"WORLD_SIZE": "2\x1b[2J"}, r"WORLD_SIZE=2\\x1b\[2J is not"),
    ],
)
def test_half_set_and_malformed_variables_are_named(environment: dict[str, str], words: str) -> None:
    with pytest.raises(DeviceError, match=words) as raised:
        adopt(environment)
    assert raised.value.exit_code == 5
    assert raised.value.hint


def test_srun_beside_pmi_is_a_step_of_slurms() -> None:
    assert adopt({**step(3), "PMI_SIZE": "4", "PMI_RANK": "3"}).rank == 3


@pytest.mark.parametrize(
    "environment", [{"WORLD_SIZE": "two"}, {"WORLD_SIZE": "2"}, {"RANK": "1"}, {"OMPI_COMM_WORLD_SIZE": "4"}]
)
def test_only_commands_that_use_the_variables_look_at_them(
    deeplabx: Deeplabx, environment: dict[str, str]
) -> None:
    for words in ("list model", "--version", "help", "train --help", "eval x --cfg job"):
        ended = deeplabx(*words.split(), **environment)
        assert (ended.code, ended.err) == (0, ""), words
        assert ended.out, words
    assert deeplabx("data", "fake", "dataset=folder", "out=fake", "images=1", **environment).code == 0
    for words in ("eval x", "predict x y", "train", "resume x"):
        ended = deeplabx(*words.split(), **environment)
        assert ended.code == 5, words
        assert next(iter(environment)) in ended.err
        assert len(ended.err.splitlines()) == 2
