"""A package of an extra that is absent is said in words."""

import sys

import pytest

from deeplabx.errors import ConfigError, needed


def test_a_module_that_is_there_is_imported() -> None:
    assert needed("json", extra="onnx").loads("1") == 1


def test_an_absent_package_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match="this needs the package onnxruntime, which is not") as found:
        needed("onnxruntime", extra="onnx")
    assert found.value.hint == "pip install 'deeplabx[onnx]'"
