import platform
import subprocess
import sys

import pytest

# 64 MiB, in 4 KiB pages, asked for five times when the heap has grown
CODE = """
import resource, torch
from deeplabx.process.memory import keep_freed_memory
{}
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(2**24)
before = faults()
for _ in range(5):
    torch.ones(2**24)
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc's malloc")
def test_what_was_freed_is_not_asked_for_again() -> None:
    kept, given_back = (
        int(
            subprocess.run(
                [sys.executable, "-c", CODE.format(line)], capture_output=True, text=True, check=True
            ).stdout
        )
        for line in ("keep_freed_memory()", "")
    )
    assert given_back > 5 * 16  # where pages are huge
    assert kept < given_back / 4
