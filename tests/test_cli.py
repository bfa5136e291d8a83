"""The command line as a user types it: each case is a process of its own."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from deeplabx import __version__, cli
from deeplabx.command.compose import choices

# Runs a command line and tells on the last line of stderr which heavy modules it imported.
SPY = """
import sys
from deeplabx import cli
try:
    cli.main(sys.argv[1:])
finally:
    print([name for name in ("torch", "cv2", "hydra") if name in sys.modules], file=sys.stderr)
"""


def deeplabx(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SPY, *arguments], capture_output=True, text=True, cwd=cwd, timeout=300
    )


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_imports_neither_hydra_nor_torch(tmp_path: Path, arguments: list[str]) -> None:
    done = deeplabx(*arguments, cwd=tmp_path)
    assert done.returncode == 0
    assert all(command in done.stdout for command in cli.COMMANDS)
    assert done.stderr == "[]\n"


def test_version_and_module(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "deeplabx", "--version"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.stdout == f"deeplabx {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trian"], ["trian is not a command", "Did you mean train?"]),
        (
            ["train", "optimizer.lrr=0.1"],
            ["optimizer.lrr is not a setting", "Did you mean optimizer.lr?", "momentum"],
        ),
        (["train", "lr=0.1"], ["lr is not a setting", "Did you mean optimizer.lr?"]),
        (["train", "backbone=resnet51"], ["backbone=resnet51", "Did you mean resnet50?", "mobilenetv2"]),
        (["train", "dataset=camvd"], ["Did you mean camvid?"]),
        (["train", "bakbone=resnet50"], ["bakbone", "Did you mean backbone?"]),
        (["train", "schedule.max_iters=abc"], ["schedule.max_iters=abc must be a whole number"]),
        (
            ["train", "backbone.multi_grid=[1,2]"],
            ["backbone.multi_grid is not a setting of the backbone chosen"],
        ),
        (["train", "optimizer.lr=nan"], ["optimizer.lr=nan is not a finite number"]),
        (["train", "optimizer.lr=${nothing}"], ["optimizer.lr", "nothing"]),
        (["train", "camvid"], ["'camvid' is not a setting", "dataset=camvid"]),
        (["train", "seed=(("], ["seed=((", "cannot be read"]),
        (["train", "backbone=[1]"], ["cannot be composed"]),
        (["train", "backbone=null"], ["cannot be composed"]),
        (["train", "--mulitrun"], ["--mulitrun is not an option", "Did you mean --multirun?"]),
        (["train", "--cfg", "jbo"], ["--cfg jbo is not one of job, hydra, all"]),
        (["train", "--config-dir", "nowhere"], ["nowhere"]),
        (["train", "-m", "backbone=resnet18,resnet51"], ["backbone=resnet51"]),
        (["train", "+recipe=nothing"], ["recipe=nothing is not an option of recipe"]),
        (["train", "~seed"], ["seed must be given"]),
        (["train", "~model"], ["model.name must be given"]),
        (["train", "--config-name", "nope"], ["Cannot find primary config 'nope'"]),
        (["train", "--run", "--package"], ["--package needs a value"]),
        (["train", "--cfg=jbo"], ["these options cannot be read", "--cfg"]),
        (["train", "--experimental-rerun=x.pickle"], ["--experimental-rerun=x.pickle is not an option"]),
        (["resume", "seed=1"], ["resume needs the folder of a run"]),
        (["resume", "~seed"], ["resume needs the folder of a run"]),
        (["eval"], ["ckpt= must be given"]),
        (["predict", "ckpt=x"], ["input= must be given"]),
        (["predict", "ckpt=x", "~input"], ["input= must be given"]),
        (["eval", "ckpt=null"], ["ckpt=null must be a text"]),
        (["eval", "ckpt=${nothing}"], ["ckpt: Interpolation key 'nothing' not found"]),
        (["eval", "ckpt=x", "dataset.rot=y"], ["dataset.rot is not a setting", "Did you mean dataset.root?"]),
        (["resume"], ["resume needs the folder of a run"]),
        (["list", "backbones"], ["backbones is not a group", "Did you mean backbone?"]),
    ],
    ids=lambda value: (
        " ".join(value) if isinstance(value, list) and value and value[0] in cli.COMMANDS else None
    ),
)
def test_a_wrong_command_line_is_answered_in_words_before_torch(
    tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    done = deeplabx(*arguments, cwd=tmp_path)
    *message, spied = done.stderr.splitlines()
    assert done.returncode == 2, done.stderr
    assert all(word in done.stderr for word in words), done.stderr
    assert 1 <= len(message) <= 3, done.stderr
    assert message[0].startswith("deeplabx: ")
    assert "torch" not in spied
    left = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert not left or left == ["multirun.yaml"]  # Hydra's own note of the sweep that was asked for


def test_cfg_prints_the_whole_config(tmp_path: Path) -> None:
    done = deeplabx("train", "backbone=resnet50", "dataset=camvid", "--cfg", "job", "--resolve", cwd=tmp_path)
    assert done.returncode == 0
    assert "name: resnet50" in done.stdout
    assert "crop_size: 353" in done.stdout


def test_hydras_help_and_info(tmp_path: Path) -> None:
    help_text = deeplabx("train", "--help", cwd=tmp_path)
    assert help_text.returncode == 0
    assert "backbone: efficientnet_lite0, mobilenetv2" in help_text.stdout
    assert deeplabx("train", "--info", "defaults", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize(
    "arguments", [["data", "fake", "--help"], ["list", "--help"], ["data", "--help"], ["resume", "--help"]]
)
def test_help_of_every_command_is_exit_0(tmp_path: Path, arguments: list[str]) -> None:
    done = deeplabx(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, done.stderr.splitlines()[-1] + "\n")
    assert done.stdout


def test_control_c_before_the_job_is_one_line_and_exit_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(command: str, arguments: list[str]) -> None:
        raise KeyboardInterrupt  # as while Hydra is imported

    monkeypatch.setattr(cli, "start", interrupted)
    with pytest.raises(SystemExit) as exit_:
        cli.main(["train"])
    assert (exit_.value.code, capsys.readouterr().err) == (130, "deeplabx: interrupted\n")


def test_a_folder_that_looks_like_a_setting_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.name_the_run(["lr=0.1", "seed=1"]) == ["lr=0.1", "seed=1"]
    (tmp_path / "lr=0.1").mkdir()
    assert cli.name_the_run(["lr=0.1", "seed=1"]) == ["run=lr=0.1", "seed=1"]


def test_a_config_folder_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine" / "backbone").mkdir(parents=True)
    (tmp_path / "mine" / "backbone" / "small.yaml").write_text(
        "defaults:\n  - /schema/backbone/mobilenetv2@_here_\n  - _self_\nname: mobilenetv2\noutput_stride: "
        "32\nweights: null\n"
    )
    done = deeplabx("train", "backbone=small", "--cfg", "job", "--config-dir", "mine", cwd=tmp_path)
    assert "output_stride: 32" in done.stdout, done.stderr


def test_list_prints_groups_and_options(tmp_path: Path) -> None:
    done = deeplabx("list", cwd=tmp_path)
    assert f"backbone   {' '.join(choices('backbone'))}\n" in done.stdout
    assert "xception65" in done.stdout
    assert "torch" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["a=1", "-m", "b=2"], ["-m", "a=1", "b=2"]),
        (["a=1", "--cfg", "job", "b=2"], ["--cfg", "job", "a=1", "b=2"]),
        (["--info", "a=1"], ["--info", "all", "a=1"]),
        (["a=1", "--info", "defaults"], ["--info", "defaults", "a=1"]),
        (["--config-dir", "x=y", "a=1"], ["--config-dir", "x=y", "a=1"]),
        (["~augment"], ["~augment"]),
    ],
)
def test_flags_go_before_settings(arguments: list[str], expected: list[str]) -> None:
    assert cli.hydra_arguments(arguments) == expected


@pytest.mark.parametrize(
    "value",
    [
        "photo (1).jpg",
        "a,b=c.png",
        "~/x[1].png",
        "größe ä.jpg",
        "it's.jpg",
        "back\\slash.jpg",
        "C'\\'x.jpg",
        "a b",
    ],
)
@pytest.mark.parametrize("key", ["input", "ckpt", "dataset.root", "init_from", "backbone.weights"])
def test_a_path_arrives_as_it_was_typed(key: str, value: str) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_override(cli.quoted(f"{key}={value}", sweep=False))
    assert parsed.value() == value


def test_in_a_sweep_a_comma_separates_paths_and_null_stays_null() -> None:
    assert cli.quoted("init_from=a (1),b", sweep=True) == "init_from='a (1)','b'"
    assert cli.quoted("init_from=null", sweep=False) == "init_from=null"
    assert cli.quoted("seed=(1)", sweep=False) == "seed=(1)"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("deeplabx tr", "train"),
        ("deeplabx train backbone=resn", "backbone=resnet50"),
        ("deeplabx eval dataset=cam", "dataset=camvid"),
        ("deeplabx data ", "fake"),
        ("deeplabx data fake dataset=cam", "dataset=camvid"),
    ],
)
def test_tab_completion(tmp_path: Path, line: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    done = deeplabx("-sc", "query=bash", cwd=tmp_path)
    assert expected in done.stdout.split(), done.stderr


def test_the_second_word_of_data(tmp_path: Path) -> None:
    done = deeplabx("data", "fak", cwd=tmp_path)
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        2,
        "deeplabx: deeplabx data fak is not a command. Did you mean fake?",
    )
    done = deeplabx("data", "fake", "dataset=voc", "out=made up", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "made up").rglob("*.jpg"))) == 12
    assert deeplabx("data", "fake", "dataset=voc", "out=made up", cwd=tmp_path).returncode == 3
    assert deeplabx("data", "fake", "dataset=voc", cwd=tmp_path).returncode == 2


def test_list_says_what_options_are(tmp_path: Path) -> None:
    done = deeplabx("list", "recipe", "dataset", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "val mIoU 79.79" in done.stdout
    assert "splits train val trainval train_aug" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_a_training_that_is_only_starting_lets_it_be_started_again(
    number: signal.Signals, tmp_path: Path
) -> None:
    code = "import os, sys; sys.argv[1:] = []; from deeplabx import cli\n"
    code += (
        f"sys.modules['deeplabx.apps'] = type('Apps', (), {{'run': lambda *_: os.kill(os.getpid(), "
        f"{int(number)})}})\n"
    )
    code += "import deeplabx; deeplabx.apps = sys.modules['deeplabx.apps']; cli.main(['train'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 75, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert f"{number.name} received before the first step: nothing is lost" in done.stderr
