"""What is asked of Hydra: two versions of it, threads, and nothing of it changed for others."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import hydra
import pytest
from hydra._internal import hydra as hydra_app
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.hydra import Hydra
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.global_hydra import GlobalHydra

import deeplabx
from deeplabx.errors import ConfigError
from tests.conftest import TINY

ROOT = Path(__file__).parents[2]
VERSIONS = ("1.3.8", "1.4.0rc3")  # the newest of each line that pyproject.toml allows


@pytest.mark.slow
def test_compose_works_in_threads() -> None:
    def learning_rate(number: int) -> float:
        wrong = number % 5 == 4
        try:
            config = deeplabx.compose([f"optimizer.lr={number + 1}", *(["optimizer.lrr=1"] if wrong else [])])
        except ConfigError:
            assert wrong
            return number + 1
        assert not wrong
        return config.optimizer.lr

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(learning_rate, range(20))) == [number + 1 for number in range(20)]


def test_hydra_is_for_others_as_it_was(tmp_path: Path) -> None:
    get_mode = Hydra.get_mode
    deeplabx.compose(["backbone=resnet18"])
    assert vars(hydra_app)["ConfigLoaderImpl"] is ConfigLoaderImpl
    assert SourcesRegistry.instance().types["file"].__module__ == FileConfigSource.__module__
    assert Hydra.get_mode is get_mode
    assert not GlobalHydra.instance().is_initialized()
    (tmp_path / "other.yaml").write_text("callbacks: {x: {_target_: os.mkdir}}\nlr: 1\n")
    with hydra.initialize_config_dir(str(tmp_path), version_base="1.3"):
        assert hydra.compose("other", ["lr=2"]).lr == 2
        assert deeplabx.compose(["optimizer.lr=3"]).optimizer.lr == 3  # also while another program uses Hydra


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_a_version_of_hydra_composes_trains_sweeps_and_refuses(version: str, tmp_path: Path) -> None:
    """Each in processes of its own: a process has one Hydra."""
    site = tmp_path / "site"
    install = ["install", "--quiet", "--target", str(site), f"hydra-core=={version}"]
    if subprocess.run([sys.executable, "-m", "pip", *install]).returncode:
        pytest.skip(f"hydra-core {version} cannot be installed here")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)]),
        "PYTHONWARNINGS": "error",
    }
    environment["PYTHONWARNINGS"] += (
        ",ignore::DeprecationWarning:torch,ignore::DeprecationWarning:tensorboard"
    )

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *words]
        return subprocess.run(
            command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=300
        )

    def command(*words: str) -> tuple[int, str, str]:
        done = run("-m", "deeplabx", *words)
        return done.returncode, done.stdout, done.stderr

    assert run("-c", "import hydra; print(hydra.__version__)").stdout == f"{version}\n"
    code, printed, told = command("train", "backbone=resnet18", "--cfg", "job", "--resolve")
    assert (code, told) == (0, "")
    assert "name: resnet18" in printed
    for flags in (["--help"], ["--info", "defaults"], ["--info", "searchpath"]):
        code, printed, told = command("train", *flags)
        assert (code, told) == (0, ""), flags
        assert printed
    code, printed, told = command("train", "-m", *TINY, "schedule.max_iters=1", "optimizer.lr=0.01,nan")
    assert code == 8, told
    assert "1 of 2 jobs failed" in told
    code, printed, told = command("train", *TINY, "schedule.max_iters=1", "hydra.run.dir=run")
    assert (code, told) == (0, "")
    (tmp_path / "theirs" / "recipe").mkdir(parents=True)
    (tmp_path / "theirs/recipe/nice.yaml").write_text(
        "# @package _global_\nhydra: {callbacks: {x: {_target_: os.mkdir, path: ran}}}\n"
    )
    for words, reason in (
        (["optimizer.lrr=1"], "optimizer.lrr is not a setting. Did you mean optimizer.lr?"),
        (["schedule.max_iters=x"], "schedule.max_iters=x must be a whole number"),
        (["backbone=resnet51"], "backbone=resnet51 is not an option of backbone. Did you mean resnet50?"),
        (["hydra.mode=MULTIRUN"], "hydra.mode"),
        (["--config-dir", "theirs", "+recipe=nice"], "hydra.callbacks is not supported"),
    ):
        code, printed, told = command("train", *words)
        assert code == 2, (words, told)
        assert reason in told
        assert len(told.splitlines()) <= 3
    assert not (tmp_path / "ran").exists()
