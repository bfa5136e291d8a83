"""Random command lines: whatever is typed is answered by what was asked for or by an exit code of 2 and a
line in words.

Everything up to torch is the real thing: cli.main, Hydra, the schema, the checks. Only what would train or
write is left out.
"""

import contextlib
import copy
import gc
import io
import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig

from benchmarks.chaos.row import Measured, Row
from deeplabx import apps, checks, cli, config, stored

COMMANDS = ("train", "eval", "predict", "resume", "extend", "show", "data fake")
FEW, MANY = 100, 2000
PROCESSES = 2
NUMBERS = (
    "0",
    "-1",
    "1",
    "2",
    "0.5",
    "1e-3",
    "-0.0",
    "1e400",
    "nan",
    "inf",
    "-inf",
    "9" * 400,
    "1_000",
    "0x10",
    "1e",
    "٣",
    "½",
    "1e5j",
)
TEXTS = (
    "",
    "null",
    "true",
    "off",
    "~",
    "'",
    '"',
    "''",
    "a b",
    "a=b",
    "=",
    "größe",
    "写真",
    "🙂",
    "\u202ea",
    "e\u0301",
    "\t",
    "a\\",
    "\\",
    "#",
    "!!int x",
    "%s",
    "{}",
)
PATHS = ("nowhere", "a b (1).jpg", "./x", "~", "..", "x" * 300, "/proc/none", "-x", "C:\\x")
LISTS = (
    "[",
    "]",
    "[]",
    "[1,2]",
    "[1,[2,3]]",
    "[a,b]",
    "[1,",
    "{",
    "}",
    "{}",
    "{a:1}",
    "{a:{b:[1]}}",
    "{lr:0.1}",
    "[null]",
    "[nan]",
    "((",
    "))",
    "[1.5]",
)
ODD = (
    "${seed}",
    "${nothing}",
    "${",
    "}",
    "${oc.env:HOME}",
    "${now:%Y}",
    "${oc.decode:'[1'}",
    "${hydra:job.num}",
    "???",
    "${seed:1}",
    "${..seed}",
)
SWEEPS = (
    "1,2",
    "a,b",
    ",",
    "1,",
    "range(1,3)",
    "choice(1,2)",
    "interval(0,1)",
    "glob(*)",
    "sort(3,1)",
    "shuffle(1,2)",
    "int(1.5)",
    "str(1)",
    "f(x)",
)
FLAGS = (
    "--cfg",
    "--cfg=job",
    "--info",
    "--help",
    "-h",
    "--resolve",
    "-m",
    "--run",
    "-x",
    "--",
    "-",
    "--package=model",
    "--nothing=1",
    "-cp",
)
OTHER_CODES = {  # which a line may earn by what it says, and by nothing else
    4: "is not the folder of a run",  # a word after resume that could be a folder
    6: "File name too long",
    8: "jobs failed",  # a sweep of one job, each of which was told of in words
}
PLAUSIBLE = {
    "a whole number": ("0", "1", "2", "8", "16", "-3", "513", "99999999999999999999", "null"),
    "a number": ("0", "0.5", "1", "1e-5", "7.5", "-0.1", "1e308", "nan", "inf", "null"),
    "true or false": ("true", "false", "1", "null"),
    "a text": ("auto", "cpu", "3", "deeplabv3", "batch", "frozen", "sync", "null", "a b", "run"),
    "a list of numbers such as [6,12,18]": ("[1,2,4]", "[6]", "[]", "[0]", "[1.5]", "[8,8]", "null", "[-1]"),
}
CHARACTERS = "abcxyz0123456789=.,:;+-~_@!%^&*?'\"`\\#$()[]{}<>| \täß写\u200b"


# --- command lines ------------------------------------------------------------------------------------------


def command_line(rng: random.Random) -> list[str]:
    """A command with one to four random words; half of the time with what the command must be given."""
    command = rng.choice(COMMANDS)
    given = {
        "eval": ["ckpt=run"],
        "predict": ["ckpt=run", "input=run"],
        "resume": ["run=run"],
        "extend": ["run=run", "schedule.max_iters=900"],
        "data fake": ["dataset=voc", "out=new"],
    }
    words = given.get(command, []) if rng.random() < 0.8 else []
    return [*command.split(), *words, *(override(rng, command) for _ in range(rng.randint(1, 4)))]


def override(rng: random.Random, command: str) -> str:
    if rng.random() < 0.04:
        return rng.choice(FLAGS)
    if rng.random() < 0.06:
        return noise(rng)
    name = key(rng, command)
    prefix = rng.choice(("", "", "", "", "", "", "~", "+", "++"))
    if prefix == "~" and rng.random() < 0.7:
        return prefix + name
    return f"{prefix}{name}={value(rng, name)}"


def key(rng: random.Random, command: str) -> str:
    keys = config.setting_keys(config.COMMANDS[command.replace(" ", "_")])
    groups = [*config.FAMILIES, "recipe"]
    name = rng.choice(groups) if rng.random() < 0.25 else rng.choice(keys)
    if rng.random() < 0.2:  # of another command
        name = rng.choice(config.setting_keys(config.TrainConfig))
    if rng.random() < 0.2:  # a near miss
        place = rng.randrange(len(name))
        name = rng.choice(
            (
                name[:place] + name[place + 1 :],
                name[:place] + rng.choice("xe._@[") + name[place:],
                name.upper(),
                name + ".x",
            )
        )
    if rng.random() < 0.03:
        name = rng.choice(
            (
                "hydra.mode",
                "hydra.verbose",
                "hydra.job.name",
                "hydra/launcher",
                "hydra",
                "hydra.sweep.dir",
                "hydra.run.dir",
            )
        )
    return name


def value(rng: random.Random, name: str) -> str:
    kind = rng.random()
    if name in config.FAMILIES and kind < 0.6:
        return rng.choice(config.options(name))
    if kind < 0.5:  # of about the right type, so that the checks behind the schema are reached
        return rng.choice(PLAUSIBLE.get(words_of_type(name), NUMBERS))
    if kind < 0.9:
        return rng.choice(rng.choice((NUMBERS, NUMBERS, TEXTS, PATHS, LISTS, ODD, SWEEPS)))
    return noise(rng)


def words_of_type(name: str) -> str:
    declared = next(
        (
            found
            for root in config.COMMANDS.values()
            if (found := config.setting_type(root, name)) is not None
        ),
        str,
    )
    return config.type_words(declared).removesuffix(" or null")


def noise(rng: random.Random) -> str:
    return "".join(rng.choice(CHARACTERS) for _ in range(rng.randint(1, 12)))


# --- one of them --------------------------------------------------------------------------------------------


def only_checks(stored_config: Any) -> dict[str, Callable[[DictConfig, Path], float | None]]:
    """The commands as far as their checks: those that start from a checkpoint apply what was typed to
    `stored_config`.
    """

    def checked(config: DictConfig, folder: Path) -> None:
        checks.checked(config)

    def change(*required: str, training: bool = False) -> Callable[[DictConfig, Path], None]:
        def task(config: DictConfig, folder: Path) -> None:
            for name in required:
                apps.required(config, name, "a path")
            apps.typed_settings(config, training=training)(copy.deepcopy(stored_config))

        return task

    def data_fake(config: DictConfig, folder: Path) -> None:
        apps.required(config, "out", "a folder")
        checks.checked(config)

    return {
        "train": checked,
        "show": checked,
        "eval": change("ckpt"),
        "predict": change("ckpt", "input"),
        "resume": change(training=True),
        "extend": change(training=True),
        "data_fake": data_fake,
    }


def defect(line: list[str], *, stored_config: Any) -> tuple[int, str]:
    """The exit code of a command line, and what is wrong with the answer, or nothing."""
    said, told = io.StringIO(), io.StringIO()
    apps.TASKS.update(only_checks(stored_config))
    try:
        with contextlib.redirect_stderr(told), contextlib.redirect_stdout(said):
            cli.main(line)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    except BaseException as error:  # noqa: BLE001 - a traceback is what is counted
        return 1, f"traceback: {type(error).__name__}: {str(error)[:200]}"
    else:
        return 0, "cli.main returned"
    words = told.getvalue()
    if "Traceback" in words or "Traceback" in said.getvalue():
        return code, "traceback"
    if "a bug of ours" in words:
        return code, words[:300]
    if any(code == other and reason in words for other, reason in OTHER_CODES.items()):
        return code, ""
    if code not in (0, 2):
        return code, f"exit code {code}: {words[:300]}"
    if code == 2 and not (words.startswith("deeplabx: ") and len(words.splitlines()) <= 3):
        return code, f"not in one to three lines: {words[:300]!r}"
    return code, ""


def run_lines(count: int, seed: int) -> dict[str, Any]:
    """`count` command lines in the working folder: how often each exit code, and the defects."""
    (Path("run")).mkdir(exist_ok=True)
    stored_config = default_config()
    Path("run/config.yaml").write_text(yaml.safe_dump(stored.to_plain(stored_config)))
    rng = random.Random(seed)
    codes: Counter[int] = Counter()
    defects = []
    for number in range(count):
        line = command_line(rng)
        code, wrong = defect(line, stored_config=stored_config)
        codes[code] += 1
        if wrong:
            defects.append({"line": line, "wrong": wrong})
        if number % 50 == 0:
            gc.collect()
    return {"codes": dict(codes), "defects": defects}


def default_config() -> Any:
    """The config of a plain `deeplabx train`, as a checkpoint would hold it."""
    import hydra

    config.register_schemas("train")
    with hydra.initialize_config_dir(str(config.conf_dir()), version_base=None):
        return checks.checked(hydra.compose("train"))


# --- the row ------------------------------------------------------------------------------------------------


def random_overrides(work: Path, short: bool) -> Measured:
    count = FEW if short else MANY
    processes = []
    for seed in range(PROCESSES):
        folder = work / str(seed)
        folder.mkdir()
        command = [sys.executable, "-m", "benchmarks.chaos.overrides", str(count // PROCESSES), str(seed)]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        processes.append(
            subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
        )
    results = [json.loads(process.communicate()[0].splitlines()[-1]) for process in processes]
    codes: Counter[str] = Counter()
    for result in results:
        codes.update(result["codes"])
    defects = [found for result in results for found in result["defects"]]
    (work / "defects.json").write_text(json.dumps(defects, indent=1, ensure_ascii=False))
    left = [
        path
        for path in work.rglob("*")
        if path.is_file()
        and path.name not in ("config.yaml", "defects.json", "multirun.yaml", "sweep.json", "FAILED")
    ]
    words = (
        f"{count} command lines: "
        f"{', '.join(f'exit {code} {times}' for code, times in sorted(codes.items()))}; {len(defects)} "
        "defects"
    )
    if defects:
        words += f", the first: {' '.join(defects[0]['line'])[:120]} ({defects[0]['wrong'][:120]})"
    return Measured(words + (f"; {len(left)} files left" if left else ""), not defects and not left)


ROWS = [Row(12, "2,000 random overrides", "no raw traceback, exit codes 0 or 2", random_overrides)]

if __name__ == "__main__":
    print(json.dumps(run_lines(int(sys.argv[1]), int(sys.argv[2]))))
