"""Random command lines: each is answered by what was asked for, or by exit code 2 and one to three lines.

Everything up to a command's own function runs: cli.main, Hydra, the schema, the checks.
"""

import functools
import logging
import random
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from deeplabx.command import inputs, jobs, weights
from deeplabx.command.compose import training_config
from deeplabx.command.job import Job
from deeplabx.command.table import COMMANDS, FLAGS, SHORT_FLAGS, Command
from deeplabx.command.yaml_files import choices
from deeplabx.config import schema
from deeplabx.config.fields import setting_keys, setting_type, type_words
from deeplabx.registry import GROUPS, families
from tests.conftest import Deeplabx, Ended

LINES = 25  # of a seed
FAST_SEEDS, SEEDS = 4, 80  # 2,000 lines in all
WITH_SETTINGS = [command for command in COMMANDS if command.schema]
GIVEN = {  # what a command needs
    "eval": ["ckpt=run"],
    "predict": ["ckpt=run", "input=run"],
    "resume": ["run=run"],
    "extend": ["run=run", "schedule.max_iters=900"],
    "data fake": ["dataset=voc", "out=new"],
    "weights import": ["source=file", "out=new"],
    "weights verify": ["source=file"],
}


def values(words: str) -> list[str]:
    return words.split()


NUMBERS = [*values("0 -1 1 2 0.5 1e-3 -0.0 1e400 nan inf -inf 1_000 0x10 1e ٣ ½ 1e5j"), "9" * 400]
TEXTS = [
    *values("null true off ~ ' \" '' a=b = größe 写真 🙂 \u202ea e\u0301 a\\ \\ # %s {}"),
    "",
    "a b",
    "\t",
    "!!int x",
]
PATHS = [*values("nowhere ./x ~ .. /proc/none -x C:\\x"), "a b (1).jpg", "x" * 300]
LISTS = values("[ ] [] [1,2] [1,[2,3]] [a,b] [1, { } {} {a:1} {a:{b:[1]}} {lr:0.1} [null] [nan] (( )) [1.5]")
INTERPOLATIONS = values(
    "${seed} ${nothing} ${ } ${oc.env:HOME} ${now:%Y} ${oc.decode:'[1'} ${hydra:job.num} ???"
    " ${seed:1} ${..seed}"
)
SWEEPS = values(
    "1,2 a,b , 1, range(1,3) choice(1,2) interval(0,1) glob(*) sort(3,1) shuffle(1,2) int(1.5) str(1) f(x)"
)
OF_HYDRA = values(
    "hydra hydra/launcher hydra.mode hydra.verbose hydra.job.name hydra.run.dir hydra.sweep.dir"
)
OPTIONS = [*FLAGS, *SHORT_FLAGS, *values("--cfg=job -x -- - --package=model --nothing=1")]
CHARACTERS = "abcxyz0123456789=.,:;+-~_@!%^&*?'\"`\\#$()[]{}<>| \täß写\u200b"
PLAUSIBLE = {  # by the words of a setting's type, so that the checks behind the schema are reached
    "a whole number": values("0 1 2 8 16 -3 513 99999999999999999999 null"),
    "a number": values("0 0.5 1 1e-5 7.5 -0.1 1e308 nan inf null"),
    "true or false": values("true false 1 null"),
    "text": [*values("auto cpu 3 deeplabv3 batch frozen sync null run"), "a b"],
    type_words(list[int]): values("[1,2,4] [6] [] [0] [1.5] [8,8] null [-1]"),
}


# --- a command line -----------------------------------------------------------------------------------------


def command_line(rng: random.Random) -> list[str]:
    """A command with one to four random words; mostly with what it needs."""
    command = rng.choice(WITH_SETTINGS)
    given = GIVEN.get(command.words, []) if rng.random() < 0.8 else []
    return [*command.words.split(), *given, *(word(rng, command) for _ in range(rng.randint(1, 4)))]


def word(rng: random.Random, command: Command) -> str:
    if rng.random() < 0.04:
        return rng.choice(OPTIONS)
    if rng.random() < 0.06:
        return noise(rng)
    key, prefix = setting_key(rng, command), rng.choice(["", "", "", "", "", "", "~", "+", "++"])
    return f"~{key}" if prefix == "~" and rng.random() < 0.7 else f"{prefix}{key}={value(rng, key)}"


def setting_key(rng: random.Random, command: Command) -> str:
    """Mostly a key of the command; else of another command, with a typing error, or of Hydra."""
    key = rng.choice([*GROUPS, "recipe"]) if rng.random() < 0.25 else rng.choice(keys_of(command.settings))
    if rng.random() < 0.2:
        key = rng.choice(keys_of(schema.TrainConfig))
    if rng.random() < 0.2:
        place = rng.randrange(len(key))
        inserted = key[:place] + rng.choice("xe._@[") + key[place:]
        key = rng.choice([key[:place] + key[place + 1 :], inserted, key.upper(), f"{key}.x"])
    return rng.choice(OF_HYDRA) if rng.random() < 0.03 else key


def keys_of(settings: type) -> list[str]:
    return setting_keys(settings, families())


def value(rng: random.Random, key: str) -> str:
    kind = rng.random()
    if key in GROUPS and kind < 0.6:
        return rng.choice(choices(key))
    if kind < 0.5:
        declared = (setting_type(command.settings, key, families()) for command in WITH_SETTINGS)
        words = type_words(next((hint for hint in declared if hint is not None), str)).removesuffix(
            " or null"
        )
        return rng.choice(PLAUSIBLE.get(words, NUMBERS))
    if kind < 0.9:
        return rng.choice(rng.choice([NUMBERS, NUMBERS, TEXTS, PATHS, LISTS, INTERPOLATIONS, SWEEPS]))
    return noise(rng)


def noise(rng: random.Random) -> str:
    return "".join(rng.choices(CHARACTERS, k=rng.randint(1, 12)))


# --- its answer ---------------------------------------------------------------------------------------------


def checks_only(command: Command) -> Any:
    """In place of what a command does: the checks that it begins with. Those of a command without a stored
    config have been made by then.
    """

    def check(job: Job) -> None:
        if command.words.startswith("weights"):
            training_config(weights.typed_of(job))
        elif command.overrides_stored:
            job.changed(default_config(), training=command.trains)

    return check


@functools.cache
def default_config() -> schema.TrainConfig:
    return training_config()


@contextmanager
def logging_restored() -> Iterator[None]:
    """Hydra's --info and hydra.verbose change the logging of the whole process."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    try:
        yield
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers


def what_is_wrong(ended: Ended) -> str:
    """With the answer to a command line; nothing where it is as it should be."""
    lines = ended.err.splitlines()
    if "Traceback" in ended.out + ended.err or "internal error" in ended.err:
        return "an internal error"
    reasons = {4: "is not the folder of a run", 6: "File name too long", 8: "jobs failed"}
    if ended.code not in (0, 2) and reasons.get(ended.code, "\0") not in ended.err:
        return f"exit code {ended.code}"
    if ended.code == 2 and not (ended.err.startswith("deeplabx: ") and len(lines) <= 3):
        return f"{len(lines)} lines"
    return ""


@pytest.mark.parametrize(
    "seed",
    [*range(FAST_SEEDS), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(FAST_SEEDS, SEEDS))],
)
def test_random_command_lines_are_answered_in_words(
    seed: int, deeplabx: Deeplabx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "function_of", checks_only)
    monkeypatch.setattr(inputs, "refuse_absent", lambda command, config: None)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").write_text("{}")
    rng, wrong = random.Random(seed), []
    for _ in range(LINES):
        line = command_line(rng)
        try:
            with logging_restored():
                ended = deeplabx(*line)
        except Exception as error:
            error.add_note(f"deeplabx {shlex.join(line)}")
            raise
        if problem := what_is_wrong(ended):
            wrong.append(f"{problem}: deeplabx {shlex.join(line)}\n{ended.err}")
    assert not wrong, "\n".join(wrong)
    left = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert left <= {"config.yaml", "multirun.yaml", "sweep.json", "FAILED"}
