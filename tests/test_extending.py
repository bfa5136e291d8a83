"""The plug-in that docs/extending.md shows: its file and its command, in an empty folder, with the wheel."""

import json
import re
import shlex
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Ended, python
from tests.wheel import ROOT, installed_in

DOCUMENT = (ROOT / "docs" / "extending.md").read_text()
FILE = re.search(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)[1]  # type: ignore[index]
COMMAND = next(line for line in DOCUMENT.splitlines() if line.startswith("deeplabx train plugins=parts.py"))
pytestmark = pytest.mark.slow  # a wheel is installed, and twelve commands are run
SHORT = "trainer.batch_size=4 schedule.max_iters=2 dataset.images=4 trainer.samples=0 trainer.workers=1"
# One process for all commands, so that torch is imported once. `SITE` is where the wheel is unpacked.
RUNNER = """
import json, sys
sys.path.insert(0, SITE)
from deeplabx import cli
if __name__ == "__main__":
    for words in json.load(open("commands.json")):
        print(">>>", *words, flush=True)
        try:
            cli.main(words)
        except SystemExit as ended:
            print("exit", ended.code, flush=True)
"""


class Story(NamedTuple):
    folder: Path
    site: Path
    said: dict[str, str]  # of each command, what was printed, with its exit code in the last line


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Every command in turn, in a folder that holds parts.py and an image."""
    site, folder = installed_in(tmp_path_factory.mktemp("wheel")), tmp_path_factory.mktemp("empty")
    (folder / "parts.py").write_text(FILE)
    Image.fromarray(np.full((50, 60, 3), 90, np.uint8)).save(folder / "photo.jpg")
    lines = [
        f"{COMMAND} hydra.run.dir=run",
        "deeplabx eval run plugins=parts.py",
        "deeplabx predict run photo.jpg out=out plugins=parts.py",
        "deeplabx show backbone=tiny backbone.width=32 plugins=parts.py",
        "deeplabx list loss plugins=parts.py",
        "deeplabx help loss.epsilon plugins=parts.py",
        f"{COMMAND} {SHORT} -m loss.epsilon=1,2 hydra.sweep.dir=sweep",
        f"{COMMAND} {SHORT} trainer.devices=2 hydra.run.dir=two",
        "deeplabx resume run plugins=parts.py",
    ]
    (folder / "commands.json").write_text(json.dumps([shlex.split(line)[1:] for line in lines]))
    (folder / "runner.py").write_text(RUNNER.replace("SITE", repr(str(site))))
    done = python("runner.py", cwd=folder)
    blocks = done.out.split(">>> ")[1:]
    assert len(blocks) == len(lines), done.err
    return Story(folder, site, {line: block.rstrip() for line, block in zip(lines, blocks, strict=True)})


def said(story: Story, *words: str) -> str:
    """What the one command printed whose line holds all these words; it must have ended with exit 0."""
    (found,) = [text for line, text in story.said.items() if all(word in line for word in words)]
    assert found.endswith("exit 0"), found
    return found


def test_the_documented_command_trains(story: Story) -> None:
    assert "deeplabv3plus on tiny" in said(story, COMMAND, "hydra.run.dir=run")
    result = json.loads((story.folder / "run" / "result.json").read_text())
    assert result["miou"] > 0.6  # it learns: all ground would be 0.45


def test_eval_and_predict_take_the_run(story: Story) -> None:
    assert "disc " in said(story, "deeplabx eval")
    assert "1 of 1 images predicted" in said(story, "deeplabx predict")
    with Image.open(story.folder / "out" / "photo.png") as ids:
        assert ids.size == (60, 50)


def test_show_list_and_help_know_its_options(story: Story) -> None:
    assert "backbone       tiny" in said(story, "deeplabx show")
    assert "Poly-1 (2204.12511)" in said(story, "deeplabx list")
    assert "at least -1 and at most 10" in said(story, "deeplabx help")


def test_it_is_swept_over(story: Story) -> None:
    assert "2 jobs: 2 done" in said(story, "-m loss.epsilon=1,2")


def test_two_processes_load_it(story: Story) -> None:
    assert "2 x cpu" in said(story, "trainer.devices=2")


def test_a_finished_run_is_resumed_with_it(story: Story) -> None:
    assert "run is finished" in said(story, "deeplabx resume")


def test_without_it_the_checkpoint_is_refused_with_exit_4(story: Story) -> None:
    code = f"import sys; sys.path.insert(0, {str(story.site)!r})\nfrom deeplabx import cli; cli.main()"
    ended = python("-c", code, "eval", "run", cwd=story.folder)
    assert ended == Ended(
        4,
        "",
        f"deeplabx: {newest(story.folder)} needs the plug-in parts, which registers backbone=tiny\n"
        "  type plugins=parts.py, with the path of that file\n",
    )


def newest(folder: Path) -> str:
    best = json.loads((folder / "run" / "checkpoints" / "best.json").read_text())
    return f"run/checkpoints/{best['checkpoint']}"
