"""A command, and the exit code and the words that it ends with."""

from pathlib import Path

import pytest

from deeplabx.command import dispatch
from deeplabx.command.table import Command
from tests.conftest import Deeplabx


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("train dataset=camvid dataset.root=nowhere", 3, "dataset.root=nowhere: there is no such folder"),
        ("train dataset=camvid", 3, "dataset.root is not set"),
        ("train init_from=nowhere", 4, "init_from=nowhere does not exist"),
        ("train hydra.run.dir=/proc/x", 6, "/proc/x cannot be created or read"),
        ("eval ckpt=nowhere", 4, "ckpt=nowhere does not exist"),
        ("eval RUN", 4, "ckpt=RUN does not exist"),
        (
            "predict ckpt=nowhere input=x(1).jpg",
            4,
            "ckpt=nowhere does not exist; input=x(1).jpg does not exist",
        ),
        (f"predict ckpt=nowhere input=x out={'x' * 300}", 6, ": File name too long"),
        ("resume", 2, "resume needs the folder of a run"),
        ("resume seed=1", 2, "resume needs the folder of a run"),
        ("resume ~seed", 2, "resume needs the folder of a run"),
        ("resume nowhere", 4, "nowhere is not the folder of a run"),
        (f"resume {'x' * 300}", 4, "is not the folder of a run"),
        ("weights import source=nowhere.pth out=x", 4, "source=nowhere.pth does not exist"),
        ("weights list resnet50_imagenet", 4, "or resnet50_imagenet_keras?"),
        ("doctor x=1", 2, "doctor takes no settings: x=1"),
    ],
)
def test_exit_codes(deeplabx: Deeplabx, tmp_path: Path, words: str, code: int, said: str) -> None:
    ended = deeplabx(*words.split())
    assert (ended.code, ended.out) == (code, "")
    assert said in ended.err
    assert ended.err.startswith("deeplabx: ")
    assert len(ended.err.splitlines()) <= 3
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def interrupt(words: list[str]) -> None:
    raise KeyboardInterrupt


def test_control_c_in_a_command_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    command = Command(words="interrupt", about="", run="tests.command.test_dispatch:interrupt")
    assert dispatch.run(command, {}, []) == 130
    assert capsys.readouterr().err == "deeplabx: interrupted\n"
