import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from deeplabx.engine.lock import HELD, exclusive, lock, locked
from deeplabx.errors import ConfigError

HOLD = "import sys, time\nfrom pathlib import Path\nfrom deeplabx.engine.lock import locked\n"
HOLD += "with locked(Path(sys.argv[1])): print('held', flush=True); {do}"


def holder(folder: Path, do: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD.format(do=do), folder], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_run_is_refused_and_told_by_whom(tmp_path: Path) -> None:
    with holder(tmp_path, "time.sleep(60)") as process:
        with (
            pytest.raises(ConfigError, match=rf"in use by another run \(process {process.pid} on "),
            locked(tmp_path),
        ):
            pass
        process.kill()
    with locked(tmp_path) as warning:
        assert warning == ""


def test_a_forked_child_does_not_keep_the_lock_of_a_main_process_that_was_killed(tmp_path: Path) -> None:
    with holder(
        tmp_path, "import os; child = os.fork(); print(child, flush=True) if child else None; time.sleep(60)"
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.kill()
        process.wait()
        time.sleep(0.1)
        with locked(tmp_path):
            pass
        os.kill(child, signal.SIGKILL)


def test_a_run_that_never_began_leaves_nothing(tmp_path: Path) -> None:
    with locked(tmp_path):
        pass
    assert not list(tmp_path.iterdir())
    with locked(tmp_path):
        (tmp_path / "config.yaml").touch()
    assert {path.name for path in tmp_path.iterdir()} == {"config.yaml", ".lock"}


def test_a_file_system_without_locks_is_told_from_a_lock_that_is_held(tmp_path: Path) -> None:
    def refuses(code: int) -> Callable[[object, int], object]:
        def call(file: object, operation: int) -> object:
            raise OSError(code, os.strerror(code))

        return call

    with (tmp_path / "file").open("a") as file:
        assert not lock(file, refuses(errno.ENOLCK))
        for code in (errno.EAGAIN, errno.EACCES):
            with pytest.raises(HELD):
                lock(file, refuses(code))
        with pytest.raises(OSError, match="Input/output"):
            lock(file, refuses(errno.EIO))


def test_threads_make_a_file_one_after_another_and_remove_what_killed_processes_left(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a"
    inside, go_on, order = threading.Event(), threading.Event(), []

    def first() -> None:
        with exclusive(path):
            (tmp_path / "new" / ".tmp-a-0123").touch()
            inside.set()
            go_on.wait(60)
            order.append("first")

    def second() -> None:
        with exclusive(path):
            order.append("second")

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert inside.wait(60)
    threads[1].start()
    threads[1].join(0.1)
    go_on.set()
    for thread in threads:
        thread.join(60)
    assert order == ["first", "second"]
    assert [found.name for found in (tmp_path / "new").iterdir()] == [".a.lock"]
