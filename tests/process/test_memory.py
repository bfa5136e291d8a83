import os
import platform
import resource
from pathlib import Path

import pytest

from deeplabx.process.memory import Free, free_addresses, free_memory, free_shared_memory
from tests.conftest import python

# The page faults of 64 MiB, in pages of 4 KiB or 2 MiB, asked for five times: first as malloc is, then kept.
CODE = """
import resource
from deeplabx.process.memory import keep_freed_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        b"x" * 2**26
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults())
keep_freed_memory()
faults()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc's malloc")
def test_what_was_freed_is_not_asked_for_again(tmp_path: Path) -> None:
    given_back, kept = map(int, python("-c", CODE, cwd=tmp_path).out.split())
    assert given_back >= 5 * 32
    assert kept < given_back / 10


# --- what is free -------------------------------------------------------------------------------------------

GIB = 2**30
MACHINE = "MemTotal:       33554432 kB\nMemFree:         1048576 kB\nMemAvailable:   16777216 kB\n"
CACHED = f"anon 5\ninactive_file {GIB}\nactive_file {GIB // 2}\n"


def system(root: Path, *, cgroup: str = "", **files: object) -> Path:
    """A root folder with the kernel's files. `__` in a name is a slash, and `_of_` a dot."""
    content = {"proc/meminfo": MACHINE, "proc/self/cgroup": cgroup}
    content |= {
        "sys/fs/cgroup/" + name.replace("__", "/").replace("_of_", "."): str(text)
        for name, text in files.items()
    }
    for name, text in content.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_without_a_limit_the_machine_says_what_is_free(tmp_path: Path) -> None:
    assert free_memory(system(tmp_path)) == Free(16 * GIB, 32 * GIB, "this machine")
    assert free_memory(tmp_path / "another system") is None


def test_a_group_whose_name_is_not_utf8_does_not_stop_a_run(tmp_path: Path) -> None:
    (system(tmp_path) / "proc/self/cgroup").write_bytes(b"0::/job-\xe9\n")
    assert free_memory(tmp_path) == Free(16 * GIB, 32 * GIB, "this machine")


def test_a_containers_limit_counts_and_its_cached_files_are_free(tmp_path: Path) -> None:
    root = system(
        tmp_path,
        cgroup="0::/\n",
        memory_of_max=8 * GIB,
        memory_of_high="max",
        memory_of_current=5 * GIB,
        memory_of_stat=CACHED,
    )
    found = free_memory(root)
    assert found == Free(9 * GIB // 2, 8 * GIB, "the limit of this container or job")
    assert found.words == "4.5 GiB of 8.0 GiB are free (the limit of this container or job)"


def test_the_limit_of_a_group_above_counts_as_in_a_batch_job(tmp_path: Path) -> None:
    root = system(
        tmp_path,
        cgroup="0::/job_7/step_0/task_1\n",
        job_7__memory_of_max=4 * GIB,
        job_7__memory_of_current=3 * GIB,
        job_7__step_0__memory_of_max="max",
        job_7__step_0__memory_of_current=GIB,
        job_7__step_0__task_1__memory_of_max=64 * GIB,
        job_7__step_0__task_1__memory_of_current=GIB,
        memory_of_stat="",
    )
    assert free_memory(root) == Free(GIB, 4 * GIB, "the limit of this container or job")


def test_the_soft_limit_counts(tmp_path: Path) -> None:
    root = system(
        tmp_path, cgroup="0::/\n", memory_of_max=8 * GIB, memory_of_high=6 * GIB, memory_of_current=5 * GIB
    )
    found = free_memory(root)
    assert found is not None
    assert found.free == GIB


@pytest.mark.parametrize("path", ["/", "/docker/0123abcd"])  # in a container, the host's path is not there
def test_the_first_version_of_cgroups_counts_too(tmp_path: Path, path: str) -> None:
    root = system(
        tmp_path,
        cgroup=f"9:cpu,cpuacct:/\n8:memory:{path}\n",
        memory__memory_of_limit_in_bytes=2 * GIB,
        memory__memory_of_usage_in_bytes=2 * GIB - 5,
        memory__memory_of_stat="cache 99\ntotal_inactive_file 7\ntotal_active_file 1\n",
    )
    assert free_memory(root) == Free(13, 2 * GIB, "the limit of this container or job")


def test_no_limit_in_the_first_version_is_a_huge_number(tmp_path: Path) -> None:
    root = system(
        tmp_path,
        cgroup="8:memory:/\n",
        memory__memory_of_limit_in_bytes=9223372036854771712,
        memory__memory_of_usage_in_bytes=GIB,
    )
    found = free_memory(root)
    assert found is not None
    assert found.owner == "this machine"


def test_shared_memory_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert free_shared_memory(tmp_path) is None  # there is none
    (tmp_path / "dev/shm").mkdir(parents=True)
    found = free_shared_memory(tmp_path)
    assert found is not None
    assert 0 < found.free <= found.total
    unlimited = os.statvfs_result((4096, 4096, 0, 0, 0, 0, 0, 0, 0, 255))  # mounted with size=0
    monkeypatch.setattr(os, "statvfs", lambda path: unlimited)
    assert free_shared_memory(tmp_path) is None


def test_a_limit_of_addresses_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/statm").write_text("1000 1 1 1 0 1 0")
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (2**30, 2**30))
    used = 1000 * resource.getpagesize()
    assert free_addresses(tmp_path) == Free(2**30 - used, 2**30, "the limit set by ulimit -v")
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (resource.RLIM_INFINITY,) * 2)
    assert free_addresses(tmp_path) is None
