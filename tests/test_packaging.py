"""The wheel works where the checkout is not."""

from pathlib import Path

import pytest

from tests.conftest import python
from tests.wheel import ROOT, installed_in

USE = """
import sys
sys.path.insert(0, sys.argv[1])
import deeplabx
from deeplabx import cli
print(deeplabx.__file__)
cli.main(["train", "--cfg", "job"])
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the wheel built from this checkout is installed."""
    return installed_in(tmp_path_factory.mktemp("wheel"))


def test_a_wheel_runs_from_another_folder(installed: Path, tmp_path: Path) -> None:
    done = python("-c", USE, installed, cwd=tmp_path)
    assert done.code == 0, done.err
    where, *config = done.out.splitlines()
    assert Path(where).is_relative_to(installed)
    assert "  name: deeplabv3plus" in config


def test_the_wheel_holds_every_yaml_and_no_test(installed: Path) -> None:
    shipped = {
        path.relative_to(installed / "deeplabx" / "conf")
        for path in (installed / "deeplabx" / "conf").rglob("*.yaml")
    }
    assert shipped == {path.relative_to(ROOT / "conf") for path in (ROOT / "conf").rglob("*.yaml")}
    assert not list(installed.rglob("test_*.py"))


def test_the_wheel_holds_the_page_of_serve(installed: Path) -> None:
    inside = Path("deeplabx", "server", "page")
    shipped = {path.name: path.read_bytes() for path in (installed / inside).iterdir()}
    assert shipped == {path.name: path.read_bytes() for path in (ROOT / inside).iterdir()}
    assert {"index.html", "page.js", "page.css"} <= set(shipped)


def test_the_wheel_holds_the_kit_of_pages(installed: Path) -> None:
    inside = Path("deeplabx", "report", "page")
    for name in ("page.html", "blocks.html", "page.css", "page.js"):
        assert (installed / inside / name).read_bytes() == (ROOT / inside / name).read_bytes()
