"""What pyproject.toml declares is what the package imports."""

import ast
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
# Distributions whose name is not that of the module
DISTRIBUTIONS = {
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "hydra": "hydra-core",
    "torch.utils.tensorboard": "tensorboard",
    "yaml": "pyyaml",
}
NOT_IMPORTED_YET: set[str] = set()


def declared(pyproject: str) -> set[str]:
    """The distributions of a pyproject.toml's dependencies and of its extras but `dev`."""
    project = tomllib.loads(pyproject)["project"]
    extras = {name: lines for name, lines in project["optional-dependencies"].items() if name != "dev"}
    lines = [*project["dependencies"], *(line for lines in extras.values() for line in lines)]
    return {canonicalize_name(Requirement(line).name) for line in lines}


def imported(package: Path) -> set[str]:
    """The distributions that a package's code imports, also inside functions and as `needed("module")`."""
    modules: set[str] = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(), path)):
            if isinstance(node, ast.Import):
                modules.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                # `from torch.utils import tensorboard` imports a module, `from torch import Tensor` does not
                modules.update(f"{node.module}.{alias.name}" for alias in node.names)
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == "needed" and node.args:
                modules |= {str(one.value) for one in node.args[:1] if isinstance(one, ast.Constant)}
    found: set[str] = set()
    for names in (module.split(".") for module in modules):
        prefixes = {".".join(names[:length]) for length in range(1, len(names) + 1)}
        found |= {DISTRIBUTIONS[prefix] for prefix in prefixes & DISTRIBUTIONS.keys()}
        if names[0] not in {package.name, *sys.stdlib_module_names, *DISTRIBUTIONS}:
            found.add(canonicalize_name(names[0]))
    return found


def test_every_declared_dependency_is_imported() -> None:
    unused = declared((ROOT / "pyproject.toml").read_text()) - imported(ROOT / "deeplabx")
    assert unused == NOT_IMPORTED_YET


def test_every_imported_dependency_is_declared() -> None:
    assert imported(ROOT / "deeplabx") <= declared((ROOT / "pyproject.toml").read_text())


def test_declared_are_dependencies_and_extras_but_not_those_of_development() -> None:
    text = """
        [project]
        dependencies = ["torch>=2.10", "PyYAML>=6", "hydra_core>=1.3,<1.5"]
        [project.optional-dependencies]
        tiff = ["tifffile[all]>=2024; python_version >= '3.11'"]
        dev = ["ruff"]
    """
    assert declared(text) == {"torch", "pyyaml", "hydra-core", "tifffile"}


@pytest.mark.parametrize(
    ("code", "distributions"),
    [
        ("import os.path, json\nfrom xml import etree", set()),
        ("import made_up\nfrom made_up.part import other\nfrom . import cv2\nfrom .yaml import x", set()),
        ("import surely_absent.part as part", {"surely-absent"}),
        ("def late():\n    if True:\n        from PIL import Image", {"pillow"}),
        ("import yaml, cv2", {"pyyaml", "opencv-python-headless"}),
        ("from hydra.core import plugins", {"hydra-core"}),
        ("from torch.utils.data import Dataset", {"torch"}),
        ("from torch.utils.tensorboard import SummaryWriter", {"torch", "tensorboard"}),
        ("from torch.utils import tensorboard", {"torch", "tensorboard"}),
        ("import torch.utils.tensorboard.writer", {"torch", "tensorboard"}),
        ("# import cv2\ntext = 'import yaml'", set()),
    ],
)
def test_imported_is_what_code_imports_from_elsewhere(
    tmp_path: Path, code: str, distributions: set[str]
) -> None:
    folder = tmp_path / "made_up" / "part"
    folder.mkdir(parents=True)
    (folder / "module.py").write_text(code)
    assert imported(tmp_path / "made_up") == distributions
