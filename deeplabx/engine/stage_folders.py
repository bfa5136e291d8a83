"""Where the stages of a run are: each is a whole run in a folder of its own, below that of the staged run.

    RUN/stages.json  RUN/stages/1-first/  RUN/stages/2-second/

torch is not imported, so a wrong path is reported immediately.
"""

import re
from pathlib import Path
from typing import Any

from deeplabx.dataset.json_file import read_object
from deeplabx.errors import CheckpointError, DataError, quoted

RECORD, HOME = "stages.json", "stages"
NAME = re.compile(r"[A-Za-z]\w{0,39}")
MOST, MOST_BYTES = 50, 1 << 20


def is_staged(run: Path) -> bool:
    return (run / RECORD).is_file()


def read_record(run: Path) -> dict[str, Any]:
    """What stages.json holds. Raises CheckpointError for what no staged run writes."""
    path = run / RECORD
    try:
        found = read_object(path, most_bytes=MOST_BYTES)
    except DataError as error:
        raise CheckpointError(error.message, hint=error.hint) from None
    stages = found.get("stages")
    if not isinstance(stages, list) or not 1 <= len(stages) <= MOST:
        raise CheckpointError(f"{path} is damaged: it lists no stages")
    for one in stages:
        name, words = (one.get("name"), one.get("words")) if isinstance(one, dict) else (None, None)
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise CheckpointError(f"{path} is damaged: {quoted(name)} is not the name of a stage")
        if not isinstance(words, list) or not all(isinstance(line, str) for line in words):
            raise CheckpointError(f"{path} is damaged: the words of stage {name} are no texts")
    return found


def folder_of(run: Path, number: int, name: str) -> Path:
    """Of the number-th stage, from 1."""
    return run / HOME / f"{number}-{name}"


def stage_folders(run: Path) -> list[Path]:
    """The folders of a run's stages in their order, whether they have begun or not; none of another run."""
    if not is_staged(run):
        return []
    names = [one["name"] for one in read_record(run)["stages"]]
    return [folder_of(run, number, name) for number, name in enumerate(names, start=1)]


def newest_stage(run: Path) -> Path:
    """The last stage of a run that has begun, or its first; a run without stages itself."""
    folders = stage_folders(run)
    begun = [one for one in folders if (one / "config.yaml").is_file()]
    return (begun or folders or [run])[-1 if begun else 0]


def run_of(folder: Path) -> Path:
    """The staged run that a folder is a stage of; any other folder itself."""
    return folder.parent.parent if number_in_run(folder) else folder


def number_in_run(folder: Path) -> int:
    """The number of a stage in its run, from 1; 0 for the folder of anything else."""
    run = folder.parent.parent
    folders = stage_folders(run) if folder.parent.name == HOME else []
    names = [one.name for one in folders]
    return names.index(folder.name) + 1 if folder.name in names else 0


def stage_words(folder: Path) -> list[str]:
    """What stages.json says of the stage in a folder; nothing for the folder of anything else."""
    number = number_in_run(folder)
    return list(read_record(folder.parent.parent)["stages"][number - 1]["words"]) if number else []
