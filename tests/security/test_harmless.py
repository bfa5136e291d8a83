"""The check that the tests of malicious files rest on."""

import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from deeplabx import cli
from tests.security.conftest import MEMORY, Harmless, Place, fault

HARMS: dict[str, Callable[[Place], Any]] = {
    "a changed file": lambda place: place.write("../outside/decoy.txt", "changed"),
    "a new file": lambda place: place.write("../outside/new.txt", "new"),
    "code that ran": lambda place: place.write("out/RAN", ""),
    "an exit code": lambda place: sys.exit(1),
    "time": lambda place: time.sleep(3),
}


@pytest.mark.parametrize("kind", HARMS)
def test_harm_is_noticed(
    kind: str, place: Place, harmless: Harmless, monkeypatch: pytest.MonkeyPatch
) -> None:
    def main(argv: list[str]) -> None:
        HARMS[kind](place)
        print("deeplabx: no", file=sys.stderr)
        sys.exit(2)

    monkeypatch.setattr(cli, "main", main)
    monkeypatch.setattr("tests.security.conftest.SECONDS", 1)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        harmless("train")


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_memory_is_limited(harmless: Harmless, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "main", lambda argv: bytearray(2 * MEMORY))
    with pytest.raises(MemoryError):
        harmless("train")


@pytest.mark.parametrize(
    ("code", "answer", "wrong"),
    [
        (3, "a warning\ndeeplabx: a.png cannot be read\n  a hint\n", ""),
        (0, "", "exit code 0"),
        (2, "deeplabx: internal error: KeyError: 7\n", "an internal error"),
        (2, "no\n", "1 lines"),
        (2, "deeplabx: no\n1\n2\n3\n", "4 lines"),
        (2, f"deeplabx: {'x' * 2000}\n", "2011 characters"),
        (2, "deeplabx: \x1b[2J\n", "control characters"),
    ],
)
def test_an_unclear_answer_is_noticed(code: int, answer: str, wrong: str) -> None:
    assert fault(code, answer) == wrong
