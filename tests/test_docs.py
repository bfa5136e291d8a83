"""The README and the pages of docs/ are right: commands run, settings exist, links lead somewhere.

A block marked `sh` is run. In one marked `sh data`, and in inline code, commands are parsed, composed and
checked, but not run. A block marked `sh install` holds lines for pip and make, which are looked up.
"""

import ast
import contextlib
import functools
import importlib
import itertools
import re
import shlex
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

import deeplabx as package
from deeplabx import registry
from deeplabx.command.list import expected_words
from deeplabx.command.overrides import known_keys, of_stage
from deeplabx.command.table import BY_WORDS, COMMANDS, FIRST_WORDS
from deeplabx.command.yaml_files import choices
from deeplabx.config import schema
from deeplabx.config.fields import setting_keys
from deeplabx.run import plugins
from tests.conftest import TINY, Deeplabx, compose_plain

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
SLOW = (
    "augmentation",
    "comparing",
    "data",
    "evaluation",
    "extending",
    "losses",
    "models",
    "reliability",
    "reports",
    "training",
)  # pages of many trainings
FENCE = re.compile(r"^```(.*)$")
SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
SHORT = [
    "augment.crop_size=33",
    "trainer.batch_size=4",
    "trainer.workers=0",
    "trainer.samples=0",
    "trainer.devices=cpu",
    "trainer.precision=fp32",
    "schedule.max_iters=2",
]
FEW_SHAPES = ["dataset.train_images=8", "dataset.val_images=2"]
# What stands for something in the documents, and an example of it.
EXAMPLES = {
    "PATH": "data",
    "DIR": "new",
    "FILE": "file.pth",
    "FOLDER": "new",
    "IMAGE": "photo.jpg",
    "INPUT": "photo.jpg",
    "KEY": "trainer.ema_decay",
    "SETTING": "trainer.ema_decay",
    "GROUP": "loss",
    "COMMAND": "train",
    "NAME": "deeplabv3_mobilenetv2_voc_google",
    "N": "2",
    "schedule.max_iters=N": "2000",
}
OTHERS = (
    "hydra",
    "plugins",
    "ckpt",
    "run",
    "input",
    "sweep",
    "recipe",
    "KEY",
    "GROUP",
    "SETTING",
    "key",
    "group",
)
CALL = re.compile(r"^((srun|torchrun|eval) .*)?deeplabx ")
MESSAGES = 25  # at least, in troubleshooting.md


class Block(NamedTuple):
    """A fenced block."""

    info: tuple[str, ...]  # as ("sh", "data")
    text: str
    where: str


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, *info: str) -> list[Block]:
    """The fenced blocks of a page, with that info string if one is given."""
    found: list[Block] = []
    lines: list[str] = []
    opened: tuple[tuple[str, ...], int] | None = None
    for number, line in enumerate(page.read_text().splitlines(), start=1):
        fence = FENCE.match(line)
        if fence and opened is None:
            opened, lines = (tuple(fence[1].split()), number), []
        elif fence and opened is not None:
            found.append(Block(opened[0], "\n".join(lines), f"{name_of(page)}, line {opened[1]}"))
            opened = None
        else:
            lines.append(line)
    assert opened is None, f"{name_of(page)}: a block is not closed"
    return [block for block in found if not info or block.info == info]


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    outside, inside = [], False
    for line in page.read_text().splitlines():
        if FENCE.match(line):
            inside = not inside
        elif not inside:
            outside.append(line)
    return "\n".join(outside)


def lines_of(block: Block) -> list[str]:
    """The shell's lines: continued ones joined, without comments."""
    joined = re.sub(r"\\\n\s*", "", block.text)
    return [line for line in joined.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def deeplabx_words(line: str) -> list[str] | None:
    """What follows `deeplabx` in a line of a shell, as under `srun` or in `$( )`; None where it is not
    called.
    """
    inner = re.search(r"\$\((deeplabx [^)]*)\)", line)
    words = shlex.split(inner[1] if inner else line, comments=True)
    if "deeplabx" not in words:
        return None
    called = words[words.index("deeplabx") + 1 :]
    return list(itertools.takewhile(lambda word: word not in ("|", ">", "&&", ";"), called))


def filled_in(word: str, run: Path) -> str:
    """A word of a document with what its placeholders stand for."""
    key, equals, value = word.rpartition("=")
    value = value.partition("|")[0] if equals else value
    examples = {"RUN": str(run), **EXAMPLES}
    return f"{key}{equals}{examples.get(word, examples.get(value, value))}"


def without_stand_ins(words: list[str]) -> list[str]:
    """Words without what stands for any: `…`, `[NAME]`, `key=value` and `model=…`."""
    invented = re.compile(r"…$|\.\.\.$|^\[|\]$|^key=|^group=|^group\.setting=")
    return [word for word in words if not (invented.search(word) and not re.search(r"=\[.*\]$", word))]


def spread(words: list[str], folder: Path) -> list[str]:
    """Words with the files that `*` stands for, as a shell has them. A pattern with folders is quoted there
    and reaches the command.
    """
    spread_words = []
    for word in words:
        shells = "*" in word and not {"=", "/"} & set(word)
        found = sorted(path.name for path in folder.glob(word)) if shells else []
        spread_words += found or [word]
    return spread_words


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the images that the documents name."""
    rng = np.random.default_rng(0)
    (tmp_path / "folder" / "below").mkdir(parents=True)
    (tmp_path / EXAMPLES["PATH"]).mkdir()
    (tmp_path / EXAMPLES["FILE"]).touch()
    for name in ("photo.jpg", "other.jpg", "photo (1).jpg", "folder/one.png", "folder/below/two.jpg"):
        Image.fromarray(rng.integers(0, 255, (49, 65, 3), np.uint8)).save(tmp_path / name)
    (tmp_path / "list.txt").write_text("photo.jpg\n", encoding="utf-8")
    (tmp_path / "clip.mp4").touch()  # of commands that are not run
    return tmp_path


@pytest.fixture
def run(tiny_run: Path, place: Path) -> Path:
    """A run, for pages that begin with one."""
    return shutil.copytree(tiny_run, place / "outputs" / "train" / "tiny" / "2026-01-01_00-00-00-000000")


@pytest.fixture
def own_files(place: Path) -> Callable[[Path], None]:
    """Write the Python files that a page shows, each named in the sentence above its block."""

    def write(page: Path) -> None:
        shown = re.findall(r"`(\w+\.py)`[^`]*\n\n```python\n(.*?)\n```", page.read_text(), re.DOTALL)
        for name, text in shown:
            (place / name).write_text(text + "\n")

    return write


@pytest.fixture
def own_plugins(own_options: None, place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Plug-ins that one page loads are gone after it."""
    monkeypatch.setattr(plugins, "GIVEN", {})
    monkeypatch.setattr(plugins, "LOADED", {})
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(place)):
            del sys.modules[name]


def newest_run(folder: Path, otherwise: Path) -> Path:
    """The run below a folder that ended last."""
    done = [*folder.glob("outputs/train/**/DONE")]
    return max(done, key=lambda path: path.stat().st_mtime_ns).parent if done else otherwise


def shortened(words: list[str]) -> list[str]:
    """The words of a command, with settings that let it end soon."""
    if words[:1] == ["train"] and not any(word.startswith("--") for word in words):
        shapes = not any(word.startswith(("dataset=", "+recipe=")) for word in words)
        return [*words, *SHORT, *(FEW_SHAPES if shapes else [])]
    if words[:1] == ["extend"]:
        return [*words, "schedule.max_iters=5"]
    return words


# --- commands -----------------------------------------------------------------------------------------------


def of_pages_with_commands() -> list[Any]:
    """The pages; those with many trainings are slow tests, and their commands are composed in fast ones."""
    return [
        pytest.param(page, marks=pytest.mark.slow if page.stem in SLOW else (), id=name_of(page))
        for page in PAGES
        if blocks(page, "sh")
    ]


@pytest.mark.parametrize("page", of_pages_with_commands())
def test_the_commands_of_a_page_run_one_after_the_other(
    deeplabx: Deeplabx,
    place: Path,
    run: Path,
    own_files: Callable[[Path], None],
    own_plugins: None,
    page: Path,
) -> None:
    own_files(page)
    for block in blocks(page, "sh"):
        for line in lines_of(block):
            words = deeplabx_words(line)
            assert words is not None, f"{block.where}: `{line}` is not a command of deeplabx"
            words = [filled_in(word, run) for word in spread(words, place)]
            ended = deeplabx(*shortened(words))
            assert ended.code == 0, f"{block.where}: {line}\n{ended.err}"
            run = newest_run(place, run)


@pytest.fixture
def composing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands compose and check their settings, and do nothing else."""
    base = compose_plain(*TINY)

    def check(job: Any) -> None:
        if getattr(getattr(job, "command", None), "words", "") in ("eval", "predict"):
            job.changed(base)

    for command in COMMANDS:
        module, _, function = command.run.partition(":")
        words = (lambda words: "") if not command.schema else check
        monkeypatch.setattr(importlib.import_module(module), function, words)


def starts_processes(word: str) -> bool:
    """Whether a setting makes each job of a sweep a process of its own, which would train. It must exist."""
    key = word.partition("=")[0]
    if not key.startswith(("sweep.jobs", "sweep.launcher", "sweep.slurm")):
        return False
    assert key in setting_keys(schema.SweepResumeConfig, {}), f"{key} is not a setting"
    return True


def documented(page: Path) -> Iterator[tuple[str, str]]:
    """Where, and what: the commands of a page that are not run."""
    for block in [*blocks(page, "sh", "data"), *(blocks(page, "sh") if page.stem in SLOW else [])]:
        for line in lines_of(block):
            if deeplabx_words(line) is not None:
                yield block.where, line
    for span in dict.fromkeys(SPAN.findall(prose(page))):
        shown = span.replace("\\|", "|")
        if CALL.match(shown):
            yield name_of(page), shown


def slow_but_for_the_readme() -> list[Any]:
    marks = {page: () if page == README else pytest.mark.slow for page in PAGES}
    return [pytest.param(page, marks=marks[page], id=name_of(page)) for page in PAGES]


@pytest.mark.parametrize("page", slow_but_for_the_readme())
def test_the_other_commands_of_a_page_parse_and_compose(
    deeplabx: Deeplabx,
    place: Path,
    run: Path,
    own_files: Callable[[Path], None],
    own_plugins: None,
    composing: None,
    page: Path,
) -> None:
    own_files(page)
    for where, line in documented(page):
        words = without_stand_ins(deeplabx_words(line) or [])
        if " ".join(words) in (*BY_WORDS, *FIRST_WORDS, ""):  # a command is only named
            continue
        words = [filled_in(word, run) for word in spread(words, place) if not starts_processes(word)]
        words = [re.sub(r"^sweep\.trials=\d+$", "sweep.trials=2", word) for word in words]
        ended = deeplabx(*words)
        assert ended.code == 0, f"{where}: {line}\n{ended.err}"
        made = [word.removeprefix("out=") for word in words if word.startswith("out=")]
        if made and words[:2] == ["weights", "import"] and not (place / made[0]).exists():
            shutil.copytree(run, place / made[0])


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_settings_and_options_of_a_page_exist(page: Path, own_plugins: None) -> None:
    """Without Hydra, which takes a fifth of a second for each command."""
    for where, line in documented(page):
        words = deeplabx_words(line) or []
        count = 2 if " ".join(words[:2]) in BY_WORDS else 1
        command = BY_WORDS.get(" ".join(words[:count]))
        if command is None or not command.schema:
            continue
        known, own = known_keys(command), "--config-dir" in words or "plugins=" in line
        for word in words[count:]:
            key, equals, value = word.lstrip("+~").partition("=")
            if not equals or not re.fullmatch(r"[\w.]+", key) or key.split(".")[0] in OTHERS:
                continue
            key = re.sub(
                r"^optimizer\.settings\..*", "optimizer.settings", of_stage(key)
            )  # an algorithm's own
            assert own or key in known, f"{where}: {line}: {key}"
            if key in registry.GROUPS and re.fullmatch(r"\w+", value) and not own:
                assert value in (*registry.OPTIONS[key], "null", "OPTION"), f"{where}: {line}: {word}"


def test_an_unknown_setting_in_a_document_is_found(deeplabx: Deeplabx, composing: None, run: Path) -> None:
    assert deeplabx("train", "model=deeplabv3", "dataset.root=data", "model.scales=[1.0]").code == 2
    assert deeplabx("eval", f"ckpt={run}", "eval.flipp=true").code == 2
    assert deeplabx("eval", f"ckpt={run}", "eval.scales=[-1.0]").code == 2


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_shell_block_is_of_a_known_kind(page: Path) -> None:
    known = {("sh",), ("sh", "data"), ("sh", "install"), ("python",), ("yaml",), ("text",)}
    kinds = {block.where: block.info for block in blocks(page) if block.info[:1] != ("toml",)}
    assert {where: kind for where, kind in kinds.items() if kind not in known} == {}


# --- make and pip -------------------------------------------------------------------------------------------


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_targets_of_make_exist(page: Path) -> None:
    shown = [span for span in SPAN.findall(prose(page)) if span.startswith("make ")]
    shown += [line for block in blocks(page, "sh", "install") for line in lines_of(block)]
    called = {match for line in shown for match in re.findall(r"(?:^|&& )make ([a-z-]+)", line)}
    assert called <= targets()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_what_pip_installs_is_there(page: Path) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    text = page.read_text()
    for target in re.findall(r"pip install (?:-\S+ )*'?([^\s'`]+)", text):
        named, _, extra = target.partition("[")
        assert named in (".", f"dist/deeplabx-{package.__version__}-py3-none-any.whl"), target
        assert not extra or set(extra.removesuffix("]").split(",")) <= set(extras), target


# --- Python -------------------------------------------------------------------------------------------------


def python_blocks() -> list[Any]:
    found = [*blocks(README, "python"), *blocks(ROOT / "docs" / "python.md", "python")]
    return [pytest.param(block, id=block.where) for block in found]


@pytest.mark.parametrize("block", python_blocks())
def test_python_in_a_document_runs(
    monkeypatch: pytest.MonkeyPatch, place: Path, run: Path, own_plugins: None, block: Block
) -> None:
    train = package.train

    @functools.wraps(train)
    def train_briefly(overrides: Any = (), **named: Any) -> Any:
        return train([*overrides, *SHORT, *FEW_SHAPES], **named)

    monkeypatch.setattr(package, "train", train_briefly)
    code = compile(block.text.replace("RUN", str(run)), block.where, "exec")
    with contextlib.chdir(place):
        exec(code, {"__name__": "document"})


# --- text ---------------------------------------------------------------------------------------------------


def test_the_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= 200


@pytest.mark.parametrize("page", PAGES[1:], ids=name_of)
def test_the_readme_leads_to_every_page_and_back(page: Path) -> None:
    assert f"({name_of(page)})" in README.read_text()
    text = page.read_text()
    assert text.startswith(("# ", "<!--"))
    assert "(../README.md)" in text


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    plain = [re.sub(r"[`*]", "", LINK.sub("", heading)).strip().lower() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(prose(page)):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), f"{target} does not exist"
        assert not anchor or anchor in anchors(path), f"{target}: {name_of(path)} has no such heading"


def first_cells(page: Path, header: str) -> list[list[str]]:
    """For each table of a page whose first header is `header`: the first cells of its rows."""
    tables = []
    for part in re.findall(r"(?:^\|.*\n?)+", prose(page), re.MULTILINE):
        rows = [re.split(r"(?<!\\)\|", row)[1].strip() for row in part.splitlines()]
        if rows[0] == header:
            tables.append(rows[2:])
    return tables


@pytest.mark.parametrize("group", registry.GROUPS)
def test_a_groups_table_has_its_options(group: str) -> None:
    tables = [cells for page in PAGES for cells in first_cells(page, f"`{group}=`")]
    options = sorted(
        name for name, option in registry.OPTIONS[group].items() if isinstance(option.build, str)
    )
    assert tables
    assert all(sorted(cell.strip("`") for cell in cells) == options for cells in tables)


@pytest.mark.parametrize("group", ["model", "backbone"])
def test_the_readme_names_every_model_and_backbone(group: str) -> None:
    spans = set(SPAN.findall(README.read_text()))
    options = {name for name, option in registry.OPTIONS[group].items() if isinstance(option.build, str)}
    assert options <= spans


def test_the_recipes_table_says_what_the_recipes_say() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| (none|[\d.]+.*?) \| (.*) \|$", prose(ROOT / "docs" / "recipes.md"), re.MULTILINE
    )
    shown = {
        name: source if number == "none" else f"val mIoU {number.replace('`', '')}; {source}"
        for name, number, source in rows
    }
    assert shown == {name: expected_words(name) for name in choices("recipe")}


@pytest.mark.slow
def test_costs_are_those_that_list_prints() -> None:
    from deeplabx.command.backbone_table import backbone_table

    shown = re.findall(
        r"^\| `(\w+)` \| [^|]+ \| ([\d,]+) \| ([\d,]+) \| ([\d.]+) billion \|$",
        prose(ROOT / "docs" / "models.md"),
        re.MULTILINE,
    )
    built_in = [one for one in registry.OPTIONS["backbone"].values() if isinstance(one.build, str)]
    printed = [line.split() for line in backbone_table(built_in).splitlines()[1:]]
    counted = {row[0]: (row[1], row[4], row[5]) for row in printed if row[0] != "timm"}
    assert {name: (own, whole, cost) for name, own, whole, cost in shown} == counted


def test_what_show_prints_is_what_it_prints(deeplabx: Deeplabx) -> None:
    (block,) = (one for one in blocks(ROOT / "docs" / "models.md", "text") if "multiply-adds" in one.text)
    assert deeplabx("show", "model=deeplabv3", "backbone=resnet101_beta").out == block.text + "\n"


# --- messages -----------------------------------------------------------------------------------------------


def literal(node: ast.AST) -> str | None:
    """A string of the source, what is formatted into it as `\\0`."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(literal(part) or "\0" for part in node.values)
    return None


@functools.cache
def literals() -> list[str]:
    """Every string that the package's code holds."""
    trees = [ast.parse(path.read_text()) for path in sorted((ROOT / "deeplabx").rglob("*.py"))]
    return [found for tree in trees for node in ast.walk(tree) if (found := literal(node))]


def is_printed(message: str) -> bool:
    """Whether one string of the source has the fixed parts of `message`, in order."""
    parts = [re.escape(part.strip()) for part in message.split("…") if part.strip()]
    pattern = re.compile(".*".join(parts), re.DOTALL)
    return any(pattern.search(text) for text in literals())


def messages() -> list[str]:
    tables = first_cells(ROOT / "docs" / "troubleshooting.md", "message")
    return [cell.strip("`") for cells in tables for cell in cells]


@pytest.mark.parametrize("message", messages())
def test_a_quoted_message_is_one_of_the_code(message: str) -> None:
    assert is_printed(message)


def test_there_are_many_messages_and_one_that_is_not_printed_is_found() -> None:
    assert len(messages()) == len(set(messages())) >= MESSAGES
    assert not is_printed("dataset.root is not sett")
    assert not is_printed("… is not a group of … groups")
