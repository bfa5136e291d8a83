"""Parts from outside the project: files and modules that call `deeplabx.register`.

They are imported because the command line names them (plugins=parts.py) or because an installed package
declares them (entry points of the group deeplabx.plugins). Nothing is imported because a file says so.
"""

import ast
import functools
import hashlib
import importlib.util
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from deeplabx import registry
from deeplabx.config.paths import expanded
from deeplabx.errors import CheckpointError, ConfigError, DeeplabxError, PluginError, printable

ENTRY_POINTS = "deeplabx.plugins"
LOCK = threading.RLock()  # modules and options belong to the whole process
LOADED: dict[str, str] = {}  # module name to the fingerprint of its files when it was loaded
GIVEN: dict[str, str] = {}  # absolute path or module name to what was typed, in order
Record = dict[str, Any]  # of a plug-in in a checkpoint: name, given, options, and version or sha256


# --- load ---------------------------------------------------------------------------------------------------


def load(given: Sequence[str]) -> None:
    """Import the plug-ins of installed packages, then the given files, package folders and modules.

    A plug-in is imported once per process. Raises ConfigError for one that does not exist or registers
    nothing, and PluginError, with its own traceback, for one that raises an error.
    """
    with LOCK:
        load_installed()
        for one in given:
            path = path_of(one)
            key = one if path is None else str(path)
            if key not in GIVEN:
                import_one(one, path)
                GIVEN[key] = one
            refuse_edited(one if path is None else path.stem, given=one)


def path_of(given: str) -> Path | None:
    """The absolute path of a file or package folder; None for the name of a module."""
    path = Path(expanded("plugins", given))
    is_path = path.suffix == ".py" or "/" in given or (path / "__init__.py").is_file()
    return path.absolute() if is_path else None


def loader() -> Callable[[], None]:
    """What a worker process calls before it unpickles anything."""
    return functools.partial(load, tuple(GIVEN))


def as_overrides() -> str:
    """The plug-ins of this process for another command line, as ` plugins=parts.py`; empty for none."""
    given = list(GIVEN.values())
    if not given:
        return ""
    return f" plugins={given[0]}" if len(given) == 1 else f" 'plugins=[{','.join(given)}]'"


@functools.cache
def load_installed() -> None:
    from importlib.metadata import entry_points  # here, because it takes a while to import

    for one in entry_points(group=ENTRY_POINTS):
        where = f"{one.value}, a plug-in of the package {one.dist.name if one.dist else one.name},"
        registering(lambda one=one: one.load(), where=where)  # type: ignore[misc]


def import_one(given: str, path: Path | None) -> None:
    """Import one plug-in. Raises ConfigError if it does not exist or registers nothing."""
    if path is None:
        name = given
        registering(functools.partial(import_module, given), where=f"plugins={given}")
    else:
        name = path.stem
        registering(functools.partial(import_path, path), where=f"plugins={given}")
    files = set(files_of(sys.modules[name]))  # those that it imports from beside it may register for it
    owners = {owner(option) for option in foreign_options()}
    of_files = {Path(str(getattr(sys.modules[one], "__file__", None))) for one in owners}
    if name.partition(".")[0] not in owners and not files & of_files:
        raise ConfigError(
            f"plugins={given} registers nothing",
            hint="it must call deeplabx.register(group, name, build=..., settings=..., words=...)",
        )


def registering(load_it: Callable[[], Any], *, where: str) -> None:
    """Call `load_it` and record the files of each module that registers options. If it raises an error, no
    option is kept.
    """
    before = {group: dict(options) for group, options in registry.OPTIONS.items()}
    try:
        load_it()
    except DeeplabxError as error:  # of register
        registry.OPTIONS.update(before)
        error.message = f"{where}: {error.message}"
        raise
    except Exception as error:
        registry.OPTIONS.update(before)
        trace = import_trace(error)
        raise PluginError(f"{where} cannot be imported: {in_a_line(error)}", trace=trace) from error
    for module in {owner(one) for one in foreign_options()}:
        LOADED.setdefault(module, fingerprint(sys.modules[module]))


def import_module(name: str) -> None:
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        found = None
    if found is None:
        beside = f"{name}.py"
        hint = f"type plugins={beside}" if Path(beside).is_file() else "a file is named with its .py"
        raise ConfigError(f"there is no file or importable module of that name: {name}", hint=hint)
    importlib.import_module(name)


def import_path(path: Path) -> None:
    """Import a file or a package folder, under its own name."""
    file = path / "__init__.py" if path.is_dir() else path
    if not file.is_file():
        raise ConfigError("there is no such file", hint="give a Python file, or an importable module")
    name = path.stem
    if not name.isidentifier():
        raise ConfigError(f"{path.name} is not a name that Python can import", hint="rename the file")
    there = sys.modules.get(name)
    if there is not None and same_file(getattr(there, "__file__", None), file):
        return
    other = importlib.util.find_spec(name) if there is None else there.__spec__
    if there is not None or (other is not None and not same_file(other.origin, file)):
        where = getattr(other, "origin", None) or "a module of this program"
        raise ConfigError(f"another module is named {name} ({where})", hint="rename the file")
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.append(folder)  # so that it can import files beside it; last, so that it hides no module
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


def same_file(one: str | None, other: Path) -> bool:
    return one is not None and Path(one).exists() and Path(one).samefile(other)


def refuse_edited(name: str, *, given: str) -> None:
    """Raise ConfigError if the files of a loaded module have changed since, as can happen in a notebook."""
    if name in LOADED and name in sys.modules and fingerprint(sys.modules[name]) != LOADED[name]:
        raise ConfigError(f"plugins={given} has changed since it was loaded", hint="restart Python")


# --- what a plug-in is --------------------------------------------------------------------------------------


def foreign_options() -> list[registry.Option]:
    """Every option that was registered from outside the project."""
    return [one for options in registry.OPTIONS.values() for one in options.values() if not one.built_in]


def owner(option: registry.Option) -> str:
    """The module that registered it; of a package, the package."""
    return option.module.partition(".")[0]


def files_of(module: ModuleType) -> list[Path]:
    """The Python files of a package; of a single file, itself and what it imports from beside it."""
    file = getattr(module, "__file__", None)
    if file is None:  # a notebook
        return []
    if hasattr(module, "__path__"):
        return sorted(Path(file).parent.rglob("*.py"))
    found: dict[Path, None] = {}
    pending = [Path(file)]
    while pending:
        path = pending.pop()
        if path not in found:
            found[path] = None
            pending += imported_from_beside(path)
    return sorted(found)


def imported_from_beside(path: Path) -> Iterator[Path]:
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        for name in names:
            stem = path.parent.joinpath(*name.split("."))
            yield from (file for file in (stem.with_suffix(".py"), stem / "__init__.py") if file.is_file())


def fingerprint(module: ModuleType) -> str:
    """The sha256 of a plug-in's files and their names; empty for a notebook, which has none."""
    files = files_of(module)
    digest = hashlib.sha256()
    for path in files:
        content = path.read_bytes()
        digest.update(f"{path.relative_to(Path(str(module.__file__)).parent)} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest() if files else ""


def version_of(module: ModuleType) -> str | None:
    """The version of the installed package that a module belongs to; None of a file, a folder, and of a
    package that is installed as a link to its source, which can change without a new version.
    """
    from importlib.metadata import PackageNotFoundError, distribution, packages_distributions

    file = getattr(module, "__file__", None)
    for name in packages_distributions().get(module.__name__, ()) if file else ():
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue
        if Path(str(found.locate_file(""))).resolve() in Path(str(file)).resolve().parents:
            return found.version
    return None


# --- what a checkpoint says of them -------------------------------------------------------------------------


def needed(chosen: list[tuple[str, str]]) -> list[Record]:
    """The plug-ins of a run's options. chosen: their groups and names."""
    found: dict[str, list[registry.Option]] = {}
    for group, name in chosen:
        option = registry.option(group, name)
        if not option.built_in:
            found.setdefault(owner(option), []).append(option)
    return [described(name, options) for name, options in found.items()]


def described(name: str, options: list[registry.Option]) -> Record:
    module = sys.modules[name]
    version = version_of(module)
    file = getattr(module, "__file__", None)
    single = file is not None and not hasattr(module, "__path__")
    given = Path(str(file)).name if single and version is None else options[0].module
    identity = {"sha256": LOADED.get(name, fingerprint(module))} if version is None else {"version": version}
    return {
        "name": name,
        "given": given,
        "options": [f"{one.group}={one.name}" for one in options],
        **identity,
    }


def refuse_absent(records: Any, *, source: object) -> None:
    """Raise CheckpointError, with what to type, where one of the plug-ins is not loaded, and for anything
    that `needed` does not write.
    """
    for record in checked(records, source=source):
        for option in record["options"]:
            group, _, name = option.partition("=")
            if name not in registry.OPTIONS.get(group, {}):
                raise CheckpointError(
                    f"{source} needs the plug-in {printable(record['name'], 80)}, which registers "
                    f"{printable(option, 80)}",
                    hint=how_to_give(record),
                )


def how_to_give(record: Record) -> str:
    if record["name"] == "__main__":
        return "register it first: it was registered in a notebook or script"
    if "version" in record:
        return f"install {record['name']} {record['version']} again, or type plugins={record['given']}"
    if record["given"].endswith(".py"):
        return f"type plugins={record['given']}, with the path of that file"
    return f"install the package {record['name']} again, or type plugins={record['given']}"


def changes(records: Any, *, source: object) -> list[str]:
    """What differs between the plug-ins that `source` was made with and those that are loaded, in words."""
    words = []
    for record in checked(records, source=source):
        split = [option.partition("=") for option in record["options"]]
        chosen = [(group, name) for group, _, name in split]
        for now in needed(chosen) or [{"name": "deeplabx"}]:
            for key in ("name", "version", "sha256"):
                if record.get(key) != now.get(key):
                    was, has = (str(one.get(key) or "none")[:12] for one in (record, now))
                    words.append(f"the plug-in {record['name']} has changed: its {key} was {was}, now {has}")
                    break
    return words


def checked(records: Any, *, source: object) -> list[Record]:
    """The records of a checkpoint. Raises CheckpointError where they are not what a run writes."""
    found: list[Any] = records if isinstance(records, list) else [None]
    if not all(isinstance(record, dict) and is_whole(record) for record in found):
        raise CheckpointError(f"{source}: plugins is not what a run writes there")
    return found


def is_whole(record: Record) -> bool:
    options = record.get("options")
    texts = [record.get("name"), record.get("given"), record.get("version", ""), record.get("sha256", "")]
    texts += options if isinstance(options, list) and options else [None]
    return all(isinstance(text, str) and text.isprintable() for text in texts) and all(
        str(option).count("=") == 1 for option in options or []
    )


# --- errors in a user's own code ----------------------------------------------------------------------------


def blamed(error: BaseException) -> PluginError | None:
    """An error that was raised in or below a user's own class as an error of theirs; else None."""
    trace = own_lines(error)
    if not trace:
        return None
    places = re.findall(r'File "([^"]+)", line (\d+)', trace)
    files = own_files()
    path, line = next((place for place in reversed(places) if place[0] in files), places[0])
    return PluginError(f"{path}, line {line}: {trace.splitlines()[-1][:300]}", trace=trace)


def own_lines(error: BaseException) -> str:
    """The part of an error's traceback that starts in a user's own file; empty where there is none. As text,
    because a worker process sends its traceback as text.
    """
    lines = "".join(traceback.format_exception(error)).splitlines()
    places = [f'File "{file}"' for file in own_files()]
    first = next((n for n, line in enumerate(lines) if any(place in line for place in places)), None)
    return "" if first is None else "\n".join(["Traceback (most recent call last):", *lines[first:]])


def import_trace(error: BaseException) -> str:
    """The traceback of an import that failed, without the steps that led to the plug-in."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [
        n
        for n, one in enumerate(frames)
        if one.filename in (__file__, importlib.util.__file__)
        or one.filename.startswith("<frozen importlib")
        or one.filename == importlib.__file__
    ]
    shown = frames[ours[-1] + 1 :] if ours else frames
    lines = ["Traceback (most recent call last):\n", *traceback.format_list(shown)]
    return "".join([*(lines if shown else []), *traceback.format_exception_only(error)]).rstrip()


def own_files() -> set[str]:
    """The files of all plug-ins that are loaded."""
    modules = {owner(option) for option in foreign_options()} & set(sys.modules)
    return {str(path) for name in modules for path in files_of(sys.modules[name])}


def in_a_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}".rstrip(": ")[:300]
