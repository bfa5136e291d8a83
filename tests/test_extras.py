import json
from pathlib import Path

import pytest

from deeplabx.errors import ConfigError, needed


def test_a_module_that_is_there_is_imported() -> None:
    assert needed("json", extra="serve") is json


def test_one_that_is_absent_is_told_with_what_installs_it() -> None:
    with pytest.raises(ConfigError, match="needs the package surely_absent") as caught:
        needed("surely_absent.part", extra="serve")
    assert caught.value.hint == "pip install 'deeplabx[serve]'"


def test_what_a_module_itself_lacks_is_another_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "made_up_extra.py").write_text("import surely_absent\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="surely_absent"):
        needed("made_up_extra", extra="serve")
