"""Overrides as they are written for Hydra, against its own parser."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from deeplabx.command.overrides import prepared, quoted
from deeplabx.command.table import BY_WORDS
from deeplabx.errors import ConfigError

PATHS = ("input", "dataset.root")


@pytest.mark.parametrize(
    "value",
    [
        "photo (1).jpg",
        "a,b=c.png",
        "x~[1].png",
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


@pytest.mark.parametrize(
    ("setting", "sweep", "expected"),
    [
        ("eval.scales=0.5", False, "eval.scales=[0.5]"),
        ("eval.scales=[0.5,1.0]", False, "eval.scales=[0.5,1.0]"),
        ("eval.scales=0.5,1.0", True, "eval.scales=[0.5],[1.0]"),
        ("eval.scales=choice([0.5],[1.0])", True, "eval.scales=choice([0.5],[1.0])"),
        ("eval.scales=${x}", False, "eval.scales=${x}"),
        ("eval.crop=null", False, "eval.crop=null"),
        ("input=a,b.jpg", False, "input=['a,b.jpg']"),
        ("input='a,b.jpg'", False, "input=['a,b.jpg']"),
        ("input=[a.jpg,b.jpg]", False, "input=['a.jpg','b.jpg']"),
        ("input=[~/a (1),'b,c.jpg']", False, "input=['~/a (1)','b,c.jpg']"),
        ("input=[a.jpg,b.jpg],[c.jpg]", True, "input=[a.jpg,b.jpg],[c.jpg]"),
    ],
)
def test_a_list_of_one_may_be_given_bare(setting: str, sweep: bool, expected: str) -> None:
    assert quoted(setting, paths=PATHS, sweep=sweep, is_list=True) == expected


def test_several_elements_without_brackets_are_answered() -> None:
    with pytest.raises(ConfigError, match=r"type 'eval.scales=\[0.5,1.0\]', or -m for a sweep"):
        quoted("eval.scales=0.5,1.0", paths=PATHS, sweep=False, is_list=True)


@pytest.mark.parametrize("words", ["eval", "predict", "extend"])
@pytest.mark.parametrize(
    "setting", ["dataset.mask_alpha=keep", "dataset.mask_suffix=_mask", "dataset.val_fraction=0.2"]
)
def test_a_setting_of_the_stored_option_alone_can_be_replaced(words: str, setting: str) -> None:
    """Hydra knows only the settings of every option: it adds this one, which the checkpoint's option has."""
    command = BY_WORDS[words]
    assert prepared(command, [setting, "dataset.on_bad=skip"]) == [f"+{setting}", "dataset.on_bad=skip"]
    assert prepared(command, [f"+{setting}"]) == [f"+{setting}"]
    assert prepared(BY_WORDS["train"], [setting]) == [setting]


def test_a_setting_of_an_option_that_is_chosen_anew_needs_no_plus() -> None:
    given = ["dataset=folder", "dataset.mask_alpha=keep"]
    assert prepared(BY_WORDS["eval"], given) == given
