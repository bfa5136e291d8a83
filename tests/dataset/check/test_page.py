"""docs/checking.md names every kind of finding."""

import ast
import re
from pathlib import Path

import deeplabx
from deeplabx.dataset.check.files import WORDS
from tests.dataset.check.planted import FAULTS

ROOT = Path(__file__).parents[3]
KIND = re.compile(r"[a-z_0-9]+")


def kinds_in_code() -> set[str]:
    """The first argument of each call that makes a finding."""
    found = set()
    for path in (Path(deeplabx.__file__).parent / "dataset/check").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
                first = node.args[0]
                makes = node.func.id in ("Finding", "finding", "shown", "sized")
                if makes and isinstance(first, ast.Constant) and KIND.fullmatch(str(first.value)):
                    found.add(str(first.value))
    return found


def test_the_table_has_every_kind_once() -> None:
    page = (ROOT / "docs/checking.md").read_text(encoding="utf-8")
    table = page.partition("## What is found")[2].partition("\n## ")[0]
    named = re.findall(r"^\| `([a-z_0-9]+)` \|", table, re.MULTILINE)
    assert len(named) == len(set(named))
    expected = {*FAULTS, *WORDS, *kinds_in_code()}
    assert len(expected) > 40
    assert expected - set(named) == set()
