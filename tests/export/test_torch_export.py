"""A torch.export file is read as data: what could run code in it is refused before torch reads it."""

import io
import json
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from deeplabx.backbone.normalization import IMAGENET
from deeplabx.errors import CheckpointError
from deeplabx.export.deployed import deployed, traced
from deeplabx.export.metadata import Metadata
from deeplabx.export.torch_export import (
    TorchExportNetwork,
    refuse_code,
    torch_export_texts,
    write_torch_export,
)

METADATA = Metadata(["a", "b"], [(0, 0, 0)] * 2, 255, IMAGENET, True, "ids", {"step": 3}, {"config": {}})


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    path = tmp_path_factory.mktemp("graph") / "model.pt2"
    network = deployed(model, IMAGENET, preprocess=True, ids=True, num_classes=2)
    write_torch_export(traced(network), path, METADATA)
    return path


def changed(file: Path, target: Path, change: Callable[[str, bytes], bytes]) -> Path:
    """A copy of an archive with other content."""
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return target


def test_it_keeps_its_metadata_and_runs(file: Path) -> None:
    assert Metadata.from_texts(torch_export_texts(file), source=file) == METADATA
    network = TorchExportNetwork(file, device=torch.device("cpu"))
    images = torch.randint(0, 256, (1, 5, 9, 3), dtype=torch.uint8)
    found = network(images)
    assert (found.shape, found.dtype) == ((1, 1, 5, 9), torch.uint8)
    network.train()
    assert torch.equal(network(images), found)


def test_it_holds_no_source_code_or_paths(file: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        content = b"".join(archive.read(name) for name in archive.namelist())
    assert b"deployed.py" not in content
    assert str(Path(__file__).parents[2]).encode() not in content


class Hostile:
    def __reduce__(self) -> Any:
        return (print, ("hostile code ran",))


def replaced(old: str, new: str) -> Callable[[str, bytes], bytes]:
    return lambda name, content: content.replace(old.encode(), new.encode()) if "models/" in name else content


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("torch.ops.aten.conv2d.default", "torch.serialization.os.system"),
        ("torch.ops.aten.conv2d.default", "torch.ops.aten.__class__.default"),
        ("torch.ops.aten.conv2d.default", "torch.ops.aten.from_file.default"),
        ("torch.ops.aten.conv2d.default", "_operator.methodcaller"),
        ('"guards_code": []', '"guards_code": ["__import__(\'os\')"]'),
        ('"name": "images"', '"name": "images=print(1)"'),
        ("Symbol('", "eval('"),
    ],
)
def test_a_graph_that_could_run_code_is_refused(file: Path, tmp_path: Path, old: str, new: str) -> None:
    path = changed(file, tmp_path / "model.pt2", replaced(old, new))
    assert path.read_bytes() != file.read_bytes()
    with zipfile.ZipFile(path) as archive:
        graph = next(archive.read(name) for name in archive.namelist() if "models/model.json" in name)
    assert new.encode() in graph
    with pytest.raises(CheckpointError, match="is not plain"):
        refuse_code(path)


def test_pickled_objects_are_refused(file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    hostile = pickle.dumps(Hostile())

    def with_pickle(name: str, content: bytes) -> bytes:
        return hostile if "sample_inputs" in name else content

    def marked(name: str, content: bytes) -> bytes:
        return content.replace(b'"use_pickle": false', b'"use_pickle": true')

    def custom(name: str, content: bytes) -> bytes:
        entry = {"config": {"x": {"path_name": "custom_obj_0", "use_pickle": False}}}
        return json.dumps(entry).encode() if "constants_config" in name else content

    for number, change in enumerate((with_pickle, marked, custom)):
        with pytest.raises(CheckpointError, match="could run code|pickled objects"):
            TorchExportNetwork(changed(file, tmp_path / f"{number}.pt2", change), device=torch.device("cpu"))
    assert "hostile" not in capfd.readouterr().out


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("model/data/weights/model.pt", "which deeplabx export does not write"),  # torch unpickles it
        ("model/data/constants/model.pt", "which deeplabx export does not write"),
        ("serialized_state_dict.pt", "which deeplabx export does not write"),  # of torch 2.7, unpickled
        ("model/data/aotinductor/model/x.so", "which deeplabx export does not write"),
        ("model/MODELS/model.json", "which deeplabx export does not write"),
        ("model/models/model.json", "two entries of one name"),
        ("MODEL/models/model.json", "two entries of one name"),
        ("other/models/model.json", "two folders"),
    ],
)
def test_an_entry_that_we_do_not_write_is_refused_before_it_is_read(
    file: Path, tmp_path: Path, name: str, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = changed(file, tmp_path / "model.pt2", lambda _, content: content)
    with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as archive:
        warnings.simplefilter("ignore", UserWarning)  # zipfile's own, of a duplicate name
        archive.writestr(name, pickle.dumps(Hostile()))
    for read in (torch_export_texts, lambda path: TorchExportNetwork(path, device=torch.device("cpu"))):
        with pytest.raises(CheckpointError, match=words):
            read(path)
    assert "hostile" not in capfd.readouterr().out


def test_an_archive_that_unpacks_to_more_than_it_is_is_refused(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/extra/deeplabx.json", b" " * 10_000_000)
    with pytest.raises(CheckpointError, match="deeplabx.json, which deeplabx export does not write"):
        torch_export_texts(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 nothing", None])
def test_a_damaged_file_is_named(file: Path, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "model.pt2"
    path.write_bytes(file.read_bytes()[:5000] if content is None else content)
    with pytest.raises(CheckpointError, match="cannot be read as a torch.export file"):
        TorchExportNetwork(path, device=torch.device("cpu"))


def test_another_archive_is_named(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a/byteorder", "little")
    path = tmp_path / "model.pt2"
    path.write_bytes(buffer.getvalue())
    with pytest.raises(CheckpointError, match="it has no models/model.json"):
        refuse_code(path)
