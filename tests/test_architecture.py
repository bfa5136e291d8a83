"""The house: floors, along which imports run downwards only, and who may know a config."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "deeplabx"
FLOORS = {
    **dict.fromkeys(["cli", "__init__"], 10),
    "api": 9,
    "command": 8,
    "run": 7,
    **dict.fromkeys(["export", "report", "server", "weights"], 6),
    "engine": 5,
    "model": 4,
    **dict.fromkeys(
        ["backbone", "dataset", "augment", "loss", "optimizer", "schedule", "process", "tracker"], 3
    ),
    "registry": 2,
    "config": 1,
    "errors": 0,
}
LOWEST_WITH_CONFIG = 7
TORCH_FREE = {"cli", "__init__", "registry", "config", "errors"}
TORCH_FREE_COMMANDS = {
    *("table", "arguments", "completion", "quoting", "overrides", "yaml_files", "help", "settings_page"),
    *("dispatch", "compose", "jobs", "job", "inputs", "sweep", "sweep_settings", "sweep_record"),
    *("sweep_search", "sweep_processes", "sweep_slurm", "sweep_job", "sweep_resume", "sweep_show"),
}  # the way to a config error
HEAVY = {"torch", "cv2", "numpy", "PIL", "matplotlib"}
FILES = sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    """The folder of a file, or the file itself; __main__ is cli under the name that `python -m` asks for."""
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else path.stem.replace("__main__", "cli")


def imported(path: Path, *, top_level_only: bool = False) -> set[str]:
    """The modules that a file imports, dotted; of the package, also what it imports from one."""
    tree = ast.parse(path.read_text())
    names: set[str] = set()
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def rooms_imported(path: Path) -> set[str]:
    """The rooms of the package that a file imports."""
    names = {name.split(".")[1] for name in imported(path) if name.startswith("deeplabx.")}
    return names - {"__version__"}


def test_every_module_has_a_floor_which_is_a_whole_number() -> None:
    assert {room(path) for path in FILES} == set(FLOORS)
    assert all(type(floor) is int for floor in FLOORS.values())


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_downwards(path: Path) -> None:
    own = room(path)
    for other in rooms_imported(path) - {own}:
        assert FLOORS[other] < FLOORS[own], f"{own} imports {other}"


def configs_known(source: str) -> list[str]:
    """Where a source file knows a config: imports that lead to one, and parameters that are one."""
    tree = ast.parse(source)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            found += [name for name in names if name.startswith(("deeplabx.config", "deeplabx.registry"))]
            found += [name for name in names[:1] if name.split(".")[0] in ("omegaconf", "hydra")]
        if isinstance(node, ast.arg):
            annotation = "" if node.annotation is None else ast.unparse(node.annotation)
            if node.arg in ("config", "cfg") or annotation.endswith(("Config", "Settings")):
                found.append(f"{node.arg}: {annotation}")
    return found


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if 2 < FLOORS[room(path)] < LOWEST_WITH_CONFIG],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_nothing_below_the_run_knows_a_config(path: Path) -> None:
    assert not configs_known(path.read_text())


@pytest.mark.parametrize(
    "source",
    [
        "from deeplabx.config import schema",
        "from deeplabx.registry import build",
        "def build(config): ...",
        "def build(*, trainer: schema.TrainerConfig): ...",
        "def build(one: LossSettings): ...",
        "from omegaconf import DictConfig",
    ],
)
def test_a_config_is_noticed(source: str) -> None:
    assert configs_known(source)


def is_torch_free(path: Path) -> bool:
    return room(path) in TORCH_FREE or (room(path) == "command" and path.stem in TORCH_FREE_COMMANDS)


@pytest.mark.parametrize("path", [path for path in FILES if is_torch_free(path)], ids=lambda path: path.stem)
def test_the_way_to_a_config_error_imports_no_torch(path: Path) -> None:
    names = {name.split(".")[0] for name in imported(path, top_level_only=True)}
    assert not names & HEAVY


STANDARD_LIBRARY_ONLY = (
    *("cli", "command.table", "command.arguments", "command.completion", "command.quoting"),
    *("errors", "process.ending", "process.terminal", "process.threads"),
)


@pytest.mark.parametrize("module", STANDARD_LIBRARY_ONLY)
def test_help_imports_the_standard_library_only(module: str) -> None:
    names = imported(PACKAGE / f"{module.replace('.', '/')}.py", top_level_only=True)
    own = {name.removeprefix("deeplabx.") for name in names if name.startswith("deeplabx")}
    third_party = {"hydra", "omegaconf", "yaml", "tqdm"} | HEAVY
    assert all(name.startswith((*STANDARD_LIBRARY_ONLY, "__version__")) for name in own), own
    assert not {name.split(".")[0] for name in names} & third_party


def test_a_model_knows_no_particular_backbone() -> None:
    for path in (PACKAGE / "model").glob("*.py"):
        used = {name for name in imported(path) if name.startswith("deeplabx.backbone.")}
        assert {name.split(".")[2] for name in used} <= {"contract", "layers"}, path


def test_hydras_internals_are_imported_in_one_file_with_reasons() -> None:
    users = {path: {name for name in imported(path) if "hydra._internal" in name} for path in FILES}
    (path,) = [path for path, names in users.items() if names]
    assert path == PACKAGE / "command" / "compose.py"
    names = {name.rpartition(".")[2] for name in users[path]}
    assert names == {"ConfigLoaderImpl", "FileConfigSource", "Hydra"}
    reasons = ast.get_docstring(ast.parse(path.read_text())) or ""
    assert all(f"- {name} " in reasons for name in names)


def test_nothing_is_built_from_a_name_in_a_config() -> None:
    for path in [*FILES, *(PACKAGE.parent / "conf").rglob("*.yaml")]:
        assert path.stem == "trusted" or "_target_" not in path.read_text(), path  # which refuses them
        assert "hydra.utils" not in path.read_text(), path
        assert "instantiate" not in path.read_text(), path


def without_encoding(source: str) -> list[str]:
    """Calls that read or write text in the encoding of the locale."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or any(one.arg == "encoding" for one in node.keywords):
            continue
        called = ast.unparse(node.func)
        words = " ".join(ast.unparse(one) for one in (*node.args[:2], *(key.value for key in node.keywords)))
        binary = re.search(r"'[rwax+]*b[rwax+]*'", words) is not None
        other = called in ("os.open", "Image.open", "tarfile.open", "opener.open", "rasterio.open")
        opens = called.rpartition(".")[2] in ("open", "fdopen") and not binary and not other
        decodes = any(key.arg in ("text", "universal_newlines") for key in node.keywords)
        if opens or decodes or called.endswith((".read_text", ".write_text")):
            found.append(ast.unparse(node))
    return found


BENCHMARKS = sorted((PACKAGE.parent / "benchmarks").rglob("*.py"))


@pytest.mark.parametrize(
    "path", [*FILES, *BENCHMARKS], ids=lambda path: str(path.relative_to(PACKAGE.parent))
)
def test_text_has_an_encoding_of_its_own(path: Path) -> None:
    assert not without_encoding(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "source",
    [
        "open(path)",
        "path.open('a', buffering=1)",
        "path.read_text()",
        "path.write_text(f'{one}', errors='replace')",
        "subprocess.run(command, text=True)",
        "os.fdopen(number, 'w')",
    ],
)
def test_text_without_an_encoding_is_noticed(source: str) -> None:
    assert without_encoding(source)
    assert not without_encoding("path.open('rb').read(); os.open(path, 0); path.open('w', encoding='utf-8')")
