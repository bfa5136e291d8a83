import os
from pathlib import Path

import pytest

from deeplabx.process import threads
from deeplabx.process.threads import CoreTimes, core_times, sleep_beside_others

# user nice system idle iowait irq softirq steal guest guest_nice, in hundredths of a second
STAT = """cpu  900 0 90 9000 0 0 0 0 0 0
cpu0 100 10 20 300 40 1 2 27 50 0
cpu1 200 0 0 300 0 0 0 0 0 0
cpu2 600 0 70 8400 0 0 0 0 0 0
intr 1
"""
NAMES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def test_the_cores_of_this_process_are_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1})
    monkeypatch.setattr(os, "sysconf", lambda name: 100)
    (tmp_path / "stat").write_text(STAT, encoding="utf-8")
    found = core_times(tmp_path / "stat")
    assert found is not None
    assert (found.whole, found.busy) == (10.0, 3.6)
    assert core_times(tmp_path / "absent") is None


def test_what_this_process_computed_is_not_the_others() -> None:
    before = CoreTimes(whole=10.0, busy=3.0, own=1.0)
    assert before.share_of_others(CoreTimes(whole=12.0, busy=4.5, own=1.5)) == 0.5
    assert before.share_of_others(before) == 0.0


@pytest.mark.parametrize(
    ("others", "given", "expected"),
    [
        (0.1, {}, (None, None)),
        (0.5, {}, ("300", None)),
        (0.5, {"GOMP_SPINCOUNT": "5"}, ("5", None)),
        (0.5, {"OMP_WAIT_POLICY": "ACTIVE"}, (None, "ACTIVE")),
    ],
)
def test_threads_sleep_soon_beside_others_unless_the_user_says_otherwise(
    others: float,
    given: dict[str, str],
    expected: tuple[str | None, str | None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in NAMES:
        monkeypatch.setenv(name, "")  # restored after the test
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(threads, "core_times", lambda: CoreTimes(10.0, 1.0 + 10 * others, 1.0))
    sleep_beside_others(CoreTimes(0.0, 0.0, 0.0))
    assert tuple(map(os.environ.get, NAMES)) == expected
