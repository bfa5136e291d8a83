"""Label files that something went wrong with: they are read, or refused in words, whatever was changed in
them.
"""

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deeplabx.dataset.problems import collecting
from deeplabx.errors import DataError
from deeplabx.run.build import open_dataset
from tests.conftest import Root

MUTATIONS = 40
FILES = {
    "coco": "annotations/train.json",
    "labelme": "images/train/image_00001.json",
    "list": "train.csv",
}
STRANGE: list[Any] = [
    *(None, True, -1, 0, 1.5, 1e308, 10**30, "", "x", "../x", "\0", "\ud800", [], {}, [[]], [None], [1, "2"]),
    *([[1, 2, 3, 4, 5, 6]], {"size": [5, 5], "counts": "0"}, {"size": [120, 160], "counts": [19200]}),
    "a" * 5000,
]


def places(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value in JSON content."""
    keys = content if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else ()
    return [found for key in keys for found in [(*path, key), *places(content[key], (*path, key))]]


def changed_value(content: Any, rng: np.random.Generator) -> Any:
    """The content with one of its values replaced, removed or doubled."""
    content = copy.deepcopy(content)
    found = places(content)
    shallow = [path for path in found if len(path) < 4] if rng.random() < 0.7 else found
    *way, key = shallow[rng.integers(len(shallow))]
    parent = content
    for step in way:
        parent = parent[step]
    kind = rng.integers(4)
    if kind == 0:
        del parent[key]
    elif kind == 1 and isinstance(parent, list):
        parent.append(parent[key])
    else:
        parent[key] = STRANGE[rng.integers(len(STRANGE))]
    return content


def changed_bytes(content: bytes, rng: np.random.Generator) -> bytes:
    """The bytes with some replaced, cut off or doubled."""
    where = int(rng.integers(len(content)))
    kind = rng.integers(3)
    if kind == 0:
        return content[:where]
    if kind == 1:
        return content[:where] + content[where // 2 :]
    return content[:where] + rng.bytes(int(rng.integers(1, 4))) + content[where + 1 :]


def read(root: Path, labels: str) -> str:
    """What comes of the data set: read, or refused."""
    try:
        samples = open_dataset("folder", root=str(root), split="train", format=labels)
        for index in range(len(samples)):
            image, label = samples[index]
            assert image.shape[:2] == label.shape
            assert set(np.unique(label).tolist()) <= {*range(len(samples.classes)), samples.ignore_index}
    except DataError:
        return "refused"
    return "read"


@pytest.mark.parametrize("labels", FILES)
def test_a_mutated_file_is_read_or_refused_in_words(labels: str, fake_root: Root, tmp_path: Path) -> None:
    root = shutil.copytree(fake_root(f"folder/{labels}"), tmp_path / "own")
    path = root / FILES[labels]
    original = path.read_bytes()
    ends = set()
    for seed in range(MUTATIONS):
        rng = np.random.default_rng(seed)
        if labels != "list" and seed % 2:
            path.write_text(json.dumps(changed_value(json.loads(original), rng)), encoding="utf-8")
        else:
            path.write_bytes(changed_bytes(original, rng))
        try:
            ends.add(read(root, labels))
            with collecting():
                read(root, labels)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
    assert "refused" in ends
    assert "read" in ends or labels == "list"
