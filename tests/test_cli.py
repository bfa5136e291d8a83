"""From argv to a command."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from deeplabx import __version__, cli
from deeplabx.command import arguments
from deeplabx.command.table import BY_WORDS, FIRST_WORDS, Command
from tests.conftest import Deeplabx, Ended, python, undone

# Runs a command line and prints on the last line of stderr which heavy modules it imported.
SPY = """
import sys
from deeplabx import cli
try:
    cli.main(sys.argv[1:])
finally:
    print([name for name in ("torch", "cv2", "hydra") if name in sys.modules], file=sys.stderr)
"""
# Ctrl-C while Hydra is imported.
INTERRUPTED = """
import sys
from deeplabx import cli
class Finder:
    def find_spec(self, name, *_):
        if name == "hydra":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Finder())
cli.main(["train"])
"""


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_help_imports_neither_hydra_nor_torch(tmp_path: Path, arguments: list[str]) -> None:
    done = python("-c", SPY, *arguments, cwd=tmp_path)
    assert done.code == 0
    assert all(f"  deeplabx {word}" in done.out for word in FIRST_WORDS)
    assert done.err == "[]\n"


def test_a_wrong_setting_is_answered_before_torch_is_imported(tmp_path: Path) -> None:
    done = python("-c", SPY, "train", "optimizer.lr=nan", cwd=tmp_path)
    *message, spied = done.err.splitlines()
    assert (done.code, spied) == (2, "['hydra']")
    assert message == ["deeplabx: optimizer.lr=nan is not a finite number: it must be above 0"]


def test_version_and_module(tmp_path: Path) -> None:
    assert python("-m", "deeplabx", "--version", cwd=tmp_path) == Ended(0, f"deeplabx {__version__}\n", "")


@pytest.mark.parametrize("line", ["-m deeplabx --help", "-m deeplabx train --help", "-u -m deeplabx --help"])
def test_a_reader_that_has_left_is_no_error(line: str) -> None:
    read, write = os.pipe()
    os.close(read)
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run([sys.executable, *line.split()], stdout=write, stderr=subprocess.PIPE, env=buffered)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


def test_control_c_while_hydra_is_imported_is_one_line_and_exit_130(tmp_path: Path) -> None:
    assert python("-c", INTERRUPTED, cwd=tmp_path) == Ended(130, "", "deeplabx: interrupted\n")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("trian", ["trian is not a command of deeplabx. Did you mean train?", "train, eval, predict"]),
        (
            "data fak",
            [
                "deeplabx data fak is not a command. Did you mean fake?",
                "data needs a second word: check",
            ],
        ),
        ("train camvid", ["'camvid' is not a setting", "dataset=camvid"]),
        ("train --mulitrun", ["--mulitrun is not an option. Did you mean --multirun?"]),
        ("train --multirun=2", ["--multirun=2 is not an option"]),
        ("train --experimental-rerun=x.pickle", ["--experimental-rerun=x.pickle is not an option"]),
        ("train --cfg jbo", ["--cfg jbo is not one of job, hydra, all. Did you mean job?"]),
        ("train --cfg=jbo", ["--cfg jbo is not one of job, hydra, all"]),
        ("train --run --package", ["--package needs a value"]),
    ],
)
def test_a_wrong_word_is_answered_with_right_ones(deeplabx: Deeplabx, line: str, words: list[str]) -> None:
    ended = deeplabx(*line.split())
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("deeplabx: ")
    assert len(ended.err.splitlines()) == 2
    assert all(word in ended.err for word in words), ended.err


def test_the_first_word_of_two_asks_for_the_second(deeplabx: Deeplabx) -> None:
    words = "data needs a second word: check, stats, preview, fake"
    example = "as in deeplabx data check"
    assert deeplabx("data", "--help") == Ended(0, f"{words}, {example}\n", "")
    assert deeplabx("data") == Ended(2, "", f"deeplabx: {words}\n  {example}\n")


@pytest.mark.parametrize(
    ("line", "settings"),
    [
        ("resume lr=0.1 seed=1", ["lr=0.1", "seed=1"]),
        ("resume runs/one seed=1", ["run='runs/one'", "seed=1"]),
        ("resume is=there seed=1", ["run='is=there'", "seed=1"]),
        ("resume seed=1 is=there", ["seed=1", "run='is=there'"]),
        ("eval ckpt=RUN", ["ckpt=RUN"]),
        ("eval RUN eval.flip=true", ["ckpt='RUN'", "eval.flip=true"]),
        ("predict RUN a.jpg", ["ckpt='RUN'", "input=['a.jpg']"]),
        ("predict RUN a.jpg out=x b,c.jpg", ["ckpt='RUN'", "out=x", "input=['a.jpg','b,c.jpg']"]),
        ("predict ckpt=RUN a.jpg b.jpg", ["ckpt=RUN", "input=['a.jpg','b.jpg']"]),
        ("predict a.jpg ckpt=RUN", ["ckpt=RUN", "input=['a.jpg']"]),
        ("predict RUN input=a.jpg", ["ckpt='RUN'", "input=a.jpg"]),
        ("predict RUN is=there", ["ckpt='RUN'", "input=['is=there']"]),
        ("predict ~/RUN a.jpg", ["ckpt='~/RUN'", "input=['a.jpg']"]),
    ],
)
def test_first_words_may_be_given_without_their_key(tmp_path: Path, line: str, settings: list[str]) -> None:
    (tmp_path / "is=there").mkdir()
    first, *words = line.split()
    with contextlib.chdir(tmp_path):
        found = arguments.flags_and_settings(words, BY_WORDS[first])
    assert found[0] == {}
    assert sorted(found[1]) == sorted(settings)


@pytest.mark.parametrize(
    ("words", "flags", "settings"),
    [
        (["a=1", "-m", "b=2"], {"--multirun": ""}, ["a=1", "b=2"]),
        (["a=1", "--cfg", "job", "b=2"], {"--cfg": "job"}, ["a=1", "b=2"]),
        (["--cfg=all", "--resolve"], {"--cfg": "all", "--resolve": ""}, []),
        (["--info", "a=1"], {"--info": "all"}, ["a=1"]),
        (["a=1", "-i", "defaults"], {"--info": "defaults"}, ["a=1"]),
        (["--config-dir", "x=y", "a=1"], {"--config-dir": "x=y"}, ["a=1"]),
        (["~augment"], {}, ["~augment"]),
    ],
)
def test_flags_and_settings_in_any_order(
    words: list[str], flags: dict[str, str], settings: list[str]
) -> None:
    assert arguments.flags_and_settings(words, BY_WORDS["train"]) == (flags, settings)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("deeplabx tr", "train"),
        ("deeplabx data ", "fake"),
        ("deeplabx train backbone=resn", "backbone=resnet50"),
        ("deeplabx eval dataset=cam", "dataset=camvid"),
        ("deeplabx data fake dataset=cam", "dataset=camvid"),
    ],
)
def test_tab_completes_commands_and_settings(deeplabx: Deeplabx, line: str, expected: str) -> None:
    ended = deeplabx("-sc", "query", COMP_LINE=line)
    assert ended.code == 0
    assert expected in ended.out.split()


# What each shell does when TAB is pressed after `deeplabx train backbone=resnet1`, without a terminal.
PRESS_TAB = {
    "bash": """
eval "$(deeplabx -sc install=bash)"
COMP_LINE='deeplabx train backbone=resnet15' COMP_WORDS=(deeplabx train backbone=resnet15) COMP_CWORD=2
_deeplabx 2>/dev/null
echo "${COMPREPLY[@]}" """,
    "zsh": """
compdef() {}
compadd() { print -r -- "$@" }
eval "$(deeplabx -sc install=zsh)"
words=(deeplabx train backbone=resnet15) CURRENT=3
_deeplabx""",
    "fish": """
deeplabx -sc install=fish | source
complete -C 'deeplabx train backbone=resnet15'""",
}


@pytest.mark.parametrize("shell", PRESS_TAB)
def test_the_script_of_each_shell_completes(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    command = tmp_path / "deeplabx"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m deeplabx "$@"\n')
    command.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path)}
    done = subprocess.run(
        [shell, "-c", PRESS_TAB[shell]], capture_output=True, text=True, env=environment, timeout=120
    )
    assert done.stdout.split()[-1:] == ["backbone=resnet152"], done.stderr


@pytest.mark.parametrize("words", [[], ["install=tcsh"]])
def test_an_unknown_shell_is_answered(deeplabx: Deeplabx, words: list[str]) -> None:
    ended = deeplabx("-sc", *words)
    assert ended.code == 2
    assert "-sc needs install=bash, install=zsh or install=fish" in ended.err


def kill_own_process(words: list[str]) -> None:
    os.kill(os.getpid(), int(words[0]))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
def test_a_signal_to_a_training_that_is_only_starting_lets_it_be_started_again(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    command = Command(words="stopped", about="", run="tests.test_cli:kill_own_process", trains=True)
    with undone(), pytest.raises(SystemExit) as ended:
        cli.execute(command, {}, [str(int(number))])
    assert ended.value.code == 75
    said = f"deeplabx: {number.name} received before the first step: nothing is lost, start it again\n"
    assert capsys.readouterr().err == said


def test_a_training_under_nohup_starts_although_its_terminal_is_closed() -> None:
    command = Command(words="stopped", about="", run="tests.test_cli:kill_own_process", trains=True)
    with undone():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with pytest.raises(SystemExit) as ended:
            cli.execute(command, {}, [str(int(signal.SIGHUP))])
    assert ended.value.code == 0
