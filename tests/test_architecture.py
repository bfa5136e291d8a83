"""The floors: imports run downwards only."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "deeplabx"
FLOORS = {
    **dict.fromkeys(["errors", "__init__"], 0),
    "config": 0.3,
    **dict.fromkeys(["checks", "stored"], 0.6),
    **dict.fromkeys(["backbone", "dataset", "loss", "optimizer", "schedule"], 1),
    "model": 2,
    **dict.fromkeys(["engine", "report", "weights"], 3),
    "build": 3.8,  # the commands share it, and what a run leaves in its folder
    **dict.fromkeys(["run_folder", "start"], 3.9),
    "resume": 4.2,
    **dict.fromkeys(["api", "train", "evaluate", "predict", "show", "data", "doctor", "import_weights"], 4),
    "explain": 4.5,
    "composed": 4.5,
    "apps": 5,
    "cli": 6,
    "__main__": 7,
}
TORCHLESS = {
    "cli",
    "__main__",
    "apps",
    "explain",
    "composed",
    "config",
    "checks",
    "stored",
    "errors",
    "__init__",
}
FILES = sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else path.stem


def imported(path: Path, *, top_level_only: bool) -> set[str]:
    """The modules that a file imports, dotted."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
            if node.module == "deeplabx":
                names |= {f"deeplabx.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_downwards(path: Path) -> None:
    own = room(path)
    for name in imported(path, top_level_only=own == "__init__"):
        if not name.startswith("deeplabx."):
            continue
        other = name.split(".")[1]
        if other in FLOORS and other != own:
            assert FLOORS[other] < FLOORS[own], f"{own} imports {name}"


@pytest.mark.parametrize(
    "path", [path for path in FILES if room(path) in TORCHLESS], ids=lambda path: path.stem
)
def test_the_way_to_a_config_error_imports_no_torch(path: Path) -> None:
    assert not {
        name
        for name in imported(path, top_level_only=True)
        if name.split(".")[0] in ("torch", "cv2", "numpy", "PIL")
    }


def test_cli_imports_the_standard_library_only() -> None:
    assert imported(PACKAGE / "cli.py", top_level_only=True) <= {
        "os",
        "re",
        "signal",
        "sys",
        "typing",
        "deeplabx",
        "deeplabx.__version__",
    }


def test_a_model_knows_no_particular_backbone() -> None:
    for path in (PACKAGE / "model").glob("*.py"):
        used = {name for name in imported(path, top_level_only=False) if name.startswith("deeplabx.backbone")}
        assert used <= {"deeplabx.backbone.contract"}, path


def test_every_module_has_a_floor() -> None:
    assert {room(path) for path in FILES} == set(FLOORS)


def test_nothing_is_built_from_a_name_in_a_config() -> None:
    for path in [*FILES, *(PACKAGE.parent / "conf").rglob("*.yaml")]:
        assert path.stem == "composed" or "_target_" not in path.read_text(), path  # which refuses them
        assert "hydra.utils" not in path.read_text(), path
