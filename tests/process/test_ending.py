import subprocess
import sys

import pytest

PROGRAM = """
import atexit, sys, threading, time
from deeplabx.process.ending import end_process
atexit.register(print, "registered")
print("printed", end=" ")
{}
try:
    end_process(75)
except SystemExit:
    print("raised", end=" ")
    raise
"""
# As with cProfile from Python 3.12 on.
MONITORED = (
    "sys.monitoring = type('Tools', (), {'get_tool': lambda number: 'cProfile' if number == 2 else None})"
)
LATE = "threading.Thread(target=lambda: (time.sleep(0.3), print('thread', end=' '))).start()"


@pytest.mark.parametrize(
    ("code", "printed"),
    [
        ("", "printed registered\n"),
        (LATE, "printed raised thread registered\n"),
        ("sys.setprofile(lambda *_: None)", "printed raised registered\n"),
        ("import cProfile; cProfile.Profile().enable()", "printed raised registered\n"),
        (MONITORED, "printed raised registered\n"),
    ],
)
def test_the_end_runs_what_is_registered_and_waits_for_threads(code: str, printed: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(code)], capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stdout) == (75, printed), ended.stderr
