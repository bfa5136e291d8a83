import platform
from pathlib import Path

import pytest

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
