"""Quoted paths against Hydra's own parser."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from deeplabx.command.quoting import quoted

PATHS = ("input", "dataset.root")


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
        "ends in \\",
        "'",
        "${seed}",
        "a b",
    ],
)
@pytest.mark.parametrize("key", ["input", "dataset.root", "+input", "hydra.run.dir"])
def test_a_path_arrives_as_it_was_typed(key: str, value: str) -> None:
    parsed = OverridesParser.create().parse_override(quoted(f"{key}={value}", paths=PATHS, sweep=False))
    assert parsed.value() == value


def test_in_a_sweep_a_comma_separates_paths() -> None:
    parsed = OverridesParser.create().parse_override(quoted("input=a (1),b=c", paths=PATHS, sweep=True))
    assert list(parsed.sweep_string_iterator()) == ["'a (1)'", "'b=c'"]


@pytest.mark.parametrize(
    "setting", ["input=null", "input=", "input='a b'", 'input="a,b"', "seed=(1)", "~input"]
)
def test_what_needs_no_quotes_stays_as_it_is(setting: str) -> None:
    assert quoted(setting, paths=PATHS, sweep=False) == setting
