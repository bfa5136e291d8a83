import math
from pathlib import Path

import pytest

from deeplabx.process.cgroups import cgroup_limits

GIB = 2**30


def test_what_the_system_does_not_tell_is_no_limit(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    assert cgroup_limits(nowhere, nowhere) == (math.inf, math.inf)


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n", "memory.max": "4294967296\n"}, (1.5, 4 * GIB)),
        ("0::/\n", {"cpu.max": "max 100000\n", "memory.max": "max\n"}, (math.inf, math.inf)),
        (
            "0::/job/step\n",
            {"job/cpu.max": "200000 100000\n", "job/step/cpu.max": "max 100000\n"},
            (2, math.inf),
        ),
        (
            "4:memory:/docker/1\n1:cpu,cpuacct:/docker/1\n1:name=systemd:/\n",
            {
                "cpu,cpuacct/cpu.cfs_quota_us": "50000\n",
                "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
                "memory/memory.limit_in_bytes": "9223372036854771712\n",
                "memory/docker/1/memory.limit_in_bytes": "1073741824\n",
            },
            (0.5, GIB),
        ),
        (
            "1:cpu:/\n",
            {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"},
            (math.inf, math.inf),
        ),
    ],
    ids=["version 2", "no limit", "around the own one", "version 1", "version 1 without"],
)
def test_cgroup_limits(
    tmp_path: Path, membership: str, files: dict[str, str], expected: tuple[float, float]
) -> None:
    (tmp_path / "membership").write_text(membership)
    for name, text in files.items():
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert cgroup_limits(tmp_path / "root", tmp_path / "membership") == expected
