"""Plug-ins in this process. tests/test_extending.py runs the documented one against the wheel."""

import json
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import pytest

import deeplabx as package
from deeplabx import registry
from deeplabx.errors import CheckpointError, ConfigError, PluginError
from deeplabx.run import plugins
from deeplabx.run.description import stored_model
from tests.conftest import TINY, Deeplabx

PLUGIN = """
from dataclasses import dataclass
import deeplabx
from deeplabx.config.fields import number
from deeplabx.config.schema import LossSettings
from deeplabx.loss.cross_entropy import CrossEntropy

@dataclass
class ScaledSettings(LossSettings):
    factor: float = number(above=0, default=1.0, words="what the loss is multiplied by")

class Scaled(CrossEntropy):
    def __init__(self, *, factor):
        super().__init__()
        self.factor = factor

    def forward(self, logits, labels, *, ignore_index):
        return self.factor * super().forward(logits, labels, ignore_index=ignore_index)

deeplabx.register("loss", "scaled", build=Scaled, settings=ScaledSettings, words="Scaled cross-entropy")
"""
ONE_STEP = [*TINY, "schedule.max_iters=1", "trainer.samples=0"]


@pytest.fixture(autouse=True)
def unloaded(own_options: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Plug-ins that one test loads are unloaded after it."""
    modules = set(sys.modules)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for table in (plugins.LOADED, plugins.GIVEN):
        monkeypatch.setattr(plugins, "LOADED" if table is plugins.LOADED else "GIVEN", {})
    yield
    for name in set(sys.modules) - modules:
        if getattr(sys.modules[name], "__file__", None) and "pytest" in str(sys.modules[name].__file__):
            del sys.modules[name]


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    path = tmp_path / "scaled_parts.py"
    path.write_text(PLUGIN)
    return path


@pytest.fixture
def trained(parts: Path, tmp_path: Path) -> Path:
    """A run with the plug-in's loss."""
    return package.train([f"plugins={parts}", "loss=scaled", *ONE_STEP], tmp_path / "run").folder


def forget(parts: Path) -> None:
    """As in a new process."""
    del registry.OPTIONS["loss"]["scaled"]
    del sys.modules[parts.stem]
    plugins.LOADED.clear()
    plugins.GIVEN.clear()


def test_an_option_of_a_file_has_its_defaults_its_range_and_its_help(deeplabx: Deeplabx, parts: Path) -> None:
    given = f"plugins={parts}"
    assert "factor: 1.0" in deeplabx("train", given, "loss=scaled", "--cfg", "job").out
    ended = deeplabx("train", given, "loss=scaled", "loss.factor=0")
    assert ended.code == 2
    assert "loss.factor=0.0 is out of range: it must be above 0" in ended.err
    assert "scaled" in deeplabx("list", "loss", given).out
    assert "what the loss is multiplied by" in deeplabx("help", "loss.factor", given).out
    assert "scaled" in deeplabx("train", "--help", given).out


def test_it_may_import_from_beside_it_and_be_a_package_or_a_module(
    parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (parts.parent / "beside_it.py").write_text("import scaled_parts\n")
    (parts.parent / "pack").mkdir()
    (parts.parent / "pack" / "__init__.py").write_text("from pack import inner\n")
    (parts.parent / "pack" / "inner.py").write_text(PLUGIN.replace('"scaled"', '"packed"'))
    plugins.load([str(parts.parent / "beside_it.py"), str(parts.parent / "pack")])
    assert {"scaled", "packed"} <= set(registry.OPTIONS["loss"])
    monkeypatch.syspath_prepend(str(parts.parent))
    (parts.parent / "other_module.py").write_text(PLUGIN.replace('"scaled"', '"third"'))
    plugins.load(["other_module"])
    assert "third" in registry.OPTIONS["loss"]
    (parts.parent / "tower").mkdir()
    (parts.parent / "tower" / "__init__.py").touch()
    (parts.parent / "tower" / "floor.py").write_text(PLUGIN.replace('"scaled"', '"fourth"'))
    plugins.load(["tower.floor"])
    assert "fourth" in registry.OPTIONS["loss"]


def test_one_that_is_loaded_is_not_loaded_again(parts: Path) -> None:
    for _ in range(2):
        plugins.load([str(parts)])
    parts.write_text(PLUGIN + "\n# changed")
    with pytest.raises(ConfigError, match=r"has changed since it was loaded\nrestart Python"):
        plugins.load([str(parts)])


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("absent.py", None, "plugins=.*absent.py: there is no such file"),
        ("two-words.py", PLUGIN, "two-words.py is not a name that Python can import"),
        ("json.py", PLUGIN, "another module is named json"),
        ("silent.py", "x = 1", "registers nothing"),
        ("twice.py", PLUGIN + PLUGIN.split("\n\n")[-1], "loss=scaled is already registered"),
        ("wrong.py", PLUGIN.replace('"loss", "sc', '"lss", "sc'), "lss is not a group. Did you mean loss?"),
    ],
)
def test_what_is_no_plug_in_is_refused_and_nothing_is_kept(
    tmp_path: Path, name: str, content: str | None, words: str
) -> None:
    before = {group: dict(options) for group, options in registry.OPTIONS.items()}
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError, match=words):
        plugins.load([str(tmp_path / name)])
    assert before == registry.OPTIONS


@pytest.mark.parametrize(
    ("change", "last"),
    [
        (("import deeplabx", "import nothing_there"), "ModuleNotFoundError: No module named 'nothing_there'"),
        (("@dataclass", "@@dataclass"), "SyntaxError: invalid syntax"),
    ],
)
def test_a_file_that_fails_shows_its_own_traceback(
    deeplabx: Deeplabx, parts: Path, change: tuple[str, str], last: str
) -> None:
    parts.write_text(PLUGIN.replace(*change))
    ended = deeplabx("train", f"plugins={parts}")
    *trace, message = ended.err.splitlines()
    assert ended.code == 2
    assert str(parts) in "".join(trace)
    assert trace[-1] == last
    assert "deeplabx/" not in "".join(trace).replace(str(parts.parent), "")
    assert message.startswith(f"deeplabx: plugins={parts} cannot be imported: {last}")


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_a_class_of_the_users_own_is_not_called_ours(
    deeplabx: Deeplabx, parts: Path, tmp_path: Path, workers: int
) -> None:
    parts.write_text(
        PLUGIN.replace("self.factor * ", "self.factr * ")
        + """
from deeplabx.config.schema import DatasetSettings
from deeplabx.dataset.shapes import Shapes

class Broken(Shapes):
    def __init__(self, *, split, root):
        super().__init__(split=split, train_images=8, val_images=2)

    def __getitem__(self, index):
        return self.nothing

deeplabx.register("dataset", "broken", build=Broken, settings=DatasetSettings, words="")
"""
    )
    rest = [one for one in ONE_STEP if not one.startswith("dataset.")]
    own = ["dataset=broken", f"trainer.workers={workers}"] if workers else ["loss=scaled"]
    ended = deeplabx("train", f"plugins={parts}", *(rest if workers else ONE_STEP), *own, "hydra.run.dir=run")
    assert ended.code == 2
    first, *_, last = ended.err.splitlines()
    assert first == "Traceback (most recent call last):"
    assert f"deeplabx: {parts}, line " in last
    assert ("object has no attribute 'nothing'" if workers else "has no attribute 'factr'") in last
    assert "internal error" not in ended.err
    assert not list(tmp_path.rglob("error.log"))


# --- installed packages -------------------------------------------------------------------------------------


def test_a_plug_in_of_an_installed_package_is_loaded_without_being_named(
    deeplabx: Deeplabx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site" / "their_parts").mkdir(parents=True)
    (tmp_path / "site" / "their_parts" / "__init__.py").write_text(PLUGIN)
    information = tmp_path / "site" / "their_parts-1.2.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: their-parts\nVersion: 1.2\n")
    (information / "entry_points.txt").write_text("[deeplabx.plugins]\ntheirs = their_parts\n")
    (information / "RECORD").write_text("their_parts/__init__.py,,\n")
    (information / "top_level.txt").write_text("their_parts\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    plugins.load_installed.cache_clear()
    assert "scaled" in deeplabx("list", "loss").out
    assert "what the loss is multiplied by" in deeplabx("help", "loss.factor").out
    assert "scaled" in deeplabx("train", "--help").out
    ended = deeplabx("train", "loss=scaled", *ONE_STEP, "hydra.run.dir=run")
    assert ended.code == 0, ended.err
    (path,) = tmp_path.glob("run/checkpoints/step-*/config.json")
    (record,) = json.loads(path.read_text())["plugins"]
    assert record == {
        "name": "their_parts",
        "given": "their_parts",
        "options": ["loss=scaled"],
        "version": "1.2",
    }


def test_one_that_fails_names_its_package(monkeypatch: pytest.MonkeyPatch, deeplabx: Deeplabx) -> None:
    broken = EntryPoint(name="theirs", value="nothing_there", group=plugins.ENTRY_POINTS)
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [broken])
    plugins.load_installed.cache_clear()
    ended = deeplabx("train", "--cfg", "job")
    assert ended.code == 2
    assert "nothing_there, a plug-in of the package theirs, cannot be imported" in ended.err
    monkeypatch.setattr("importlib.metadata.entry_points", entry_points)


def test_a_config_cannot_name_one(deeplabx: Deeplabx, parts: Path, tmp_path: Path) -> None:
    (tmp_path / "own" / "recipe").mkdir(parents=True)
    (tmp_path / "own/recipe/mine.yaml").write_text(f"# @package _global_\nplugins: [{parts}]\n")
    ended = deeplabx("train", "--config-dir", "own", "+recipe=mine")
    assert ended.code == 2
    assert "plugins is not a setting" in ended.err
    assert parts.stem not in sys.modules


# --- checkpoints --------------------------------------------------------------------------------------------


def test_a_checkpoint_notes_the_plug_in_and_is_read_with_it(
    trained: Path, parts: Path, deeplabx: Deeplabx
) -> None:
    (path,) = trained.glob("checkpoints/step-*/config.json")
    (record,) = json.loads(path.read_text())["plugins"]
    assert (record["name"], record["given"], record["options"]) == (
        "scaled_parts",
        "scaled_parts.py",
        ["loss=scaled"],
    )
    assert len(record["sha256"]) == 64
    forget(parts)
    ended = deeplabx("eval", str(trained), f"plugins={parts}", "trainer.devices=cpu")
    assert (ended.code, ended.err) == (0, "")


@pytest.mark.parametrize("words", ["eval", "resume", "extend"])
def test_without_the_plug_in_it_is_refused_with_what_to_type(
    trained: Path, parts: Path, deeplabx: Deeplabx, words: str
) -> None:
    forget(parts)
    more = ["schedule.max_iters=2"] if words == "extend" else []
    ended = deeplabx(words, str(trained), *more)
    assert ended.code == 4
    assert "needs the plug-in scaled_parts, which registers loss=scaled" in ended.err
    assert "type plugins=scaled_parts.py" in ended.err


def test_with_a_changed_plug_in_resume_is_refused_and_eval_warns(
    trained: Path, parts: Path, deeplabx: Deeplabx
) -> None:
    (trained / "DONE").unlink()
    forget(parts)
    parts.write_text(PLUGIN + "\n# changed")
    evaluated = deeplabx("eval", str(trained), f"plugins={parts}", "trainer.devices=cpu")
    assert evaluated.code == 0
    assert evaluated.err.startswith("warning: the plug-in scaled_parts has changed: its sha256 was ")
    resumed = deeplabx("resume", str(trained), f"plugins={parts}")
    assert resumed.code == 2
    assert "the plug-in scaled_parts has changed" in resumed.err
    assert "init_from=RUN" in resumed.err
    with pytest.warns(UserWarning, match="has changed"):
        package.load(trained)


def test_a_changed_file_beside_it_counts_too(parts: Path, tmp_path: Path) -> None:
    (tmp_path / "helper_of_it.py").write_text("x = 1\n")
    parts.write_text("import helper_of_it\n" + PLUGIN)
    plugins.load([str(parts)])
    before = plugins.fingerprint(sys.modules[parts.stem])
    (tmp_path / "unrelated.py").write_text("y = 1\n")
    assert plugins.fingerprint(sys.modules[parts.stem]) == before
    (tmp_path / "helper_of_it.py").write_text("x = 2\n")
    assert plugins.fingerprint(sys.modules[parts.stem]) != before


@pytest.mark.parametrize(
    "record",
    [
        7,
        [7],
        [{"name": "x"}],
        [{"name": "x", "given": "x.py", "options": []}],
        [{"name": "x", "given": "x.py", "options": ["loss"]}],
        [{"name": "x\x1b[2J", "given": "x.py", "options": ["loss=x"]}],
        None,
    ],
)
def test_what_no_run_writes_is_refused(tiny_run: Path, tmp_path: Path, record: Any) -> None:
    copy = shutil.copytree(tiny_run, tmp_path / "copy")
    with pytest.raises(CheckpointError, match="plugins is not what a run writes there"):
        plugins.refuse_absent(record, source=copy)


def test_a_run_of_built_in_parts_needs_none(tiny_run: Path) -> None:
    assert stored_model(str(tiny_run)).checkpoint.description["plugins"] == []


def test_a_plug_ins_error_keeps_its_traceback_between_processes() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(PluginError("a", trace="b", hint="c")))
    assert (error.message, error.trace, error.hint) == ("a", "b", "c")
