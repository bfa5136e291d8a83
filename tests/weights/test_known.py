import re
from pathlib import Path

import pytest

from deeplabx.errors import CheckpointError
from deeplabx.registry import OPTIONS
from deeplabx.weights.known import (
    ALL,
    BY_NAME,
    REPORTED_SHA256,
    Known,
    cache_folder,
    details,
    imagenet,
    known,
    table,
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DEEPLABX_CACHE", str(tmp_path))
    return tmp_path / "weights"


@pytest.mark.parametrize("entry", ALL, ids=lambda entry: entry.name)
def test_a_row_is_complete(entry: Known) -> None:
    assert entry.licence
    assert entry.source
    assert re.fullmatch(r"(top-1|mIoU) \d\d\.\d\d|not stated", entry.reported)
    assert entry.reported_on
    assert 1 < entry.mebibytes < 1000
    assert re.fullmatch(r"[0-9a-f]{8}|[0-9a-f]{64}", entry.sha256)
    if (tag := re.search(r"-([0-9a-f]{8})\.pth$", entry.url)) is not None:
        assert entry.sha256.startswith(tag[1])
    assert re.fullmatch(r"https://[^?#]+/[A-Za-z0-9_.-]+", entry.url)
    assert len(entry.normalization.mean) == len(entry.normalization.std) == 3
    assert entry.backbone in OPTIONS["backbone"]
    assert entry.model is None or entry.model in OPTIONS["model"]
    assert bool(entry.wanted) == entry.file.endswith((".tgz", ".tar.gz"))  # what can be unpacked


def test_names_and_files_are_each_there_once() -> None:
    assert len(BY_NAME) == len({entry.file for entry in ALL}) == len(ALL)


@pytest.mark.parametrize(
    ("backbone", "name"),
    [
        ("resnet50", "resnet50_imagenet_torchvision_v1"),
        ("resnet101", "resnet101_imagenet_torchvision_v1"),
        ("resnet50_keras", "resnet50_imagenet_keras"),
        ("mobilenetv2", "mobilenetv2_imagenet_torchvision_v1"),
        ("xception65", "xception65_imagenet_timm"),
    ],
)
def test_imagenet_means_the_training_of_the_papers(backbone: str, name: str) -> None:
    assert imagenet(backbone).name == name


def test_a_backbone_without_imagenet_weights_is_told_which_have_some() -> None:
    with pytest.raises(CheckpointError) as caught:
        imagenet("resnet50_beta")
    lines = str(caught.value).splitlines()
    assert lines[0] == "backbone.weights=imagenet: no ImageNet weights are known for backbone=resnet50_beta"
    assert lines[1].startswith(
        "set backbone.weights=PATH, or use one of resnet18, resnet34, resnet50, resnet101,"
    )
    assert len(lines) == 2


def test_a_name_that_is_nearly_one_is_told_which() -> None:
    assert known("resnet50_imagenet_keras").backbone == "resnet50_keras"
    with pytest.raises(CheckpointError, match="Did you mean resnet101_imagenet_torchvision_v2"):
        known("resnet101_imagenet_torchvison_v2")


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"DEEPLABX_CACHE": "/a"}, "/a/weights"),
        ({"DEEPLABX_CACHE": "~/a", "HOME": "/h"}, "/h/a/weights"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/deeplabx/weights"),
        ({"XDG_CACHE_HOME": "not/absolute", "HOME": "/h"}, "/h/.cache/deeplabx/weights"),
        ({"HOME": "/h"}, "/h/.cache/deeplabx/weights"),
    ],
)
def test_the_cache_is_where_the_environment_says(
    variables: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DEEPLABX_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(folder)


def test_the_table_fits_a_terminal_and_says_what_is_there(cache: Path) -> None:
    cache.mkdir()
    imagenet("resnet18").path.touch()
    lines = table().splitlines()
    assert all(len(line) <= 120 for line in lines if not line.startswith("cache: "))
    rows = {line.split()[0]: line for line in lines[1 : len(ALL) + 1]}
    assert list(rows) == [entry.name for entry in ALL]
    assert [name for name, row in rows.items() if row.endswith("yes")] == ["resnet18_imagenet_torchvision_v1"]
    assert f"cache: {cache} (DEEPLABX_CACHE=FOLDER moves it)" in lines


def test_each_reported_sha256_is_that_of_one_row() -> None:
    assert sorted(entry.sha256 for entry in ALL if entry.sha256 in REPORTED_SHA256) == sorted(REPORTED_SHA256)


def test_details_tell_everything() -> None:
    told = details("resnet50_imagenet_torchvision_v2")
    assert "https://download.pytorch.org/models/resnet50-11ad3fa6.pth" in told
    assert "11ad3fa62ca79e40addfd354a8ec4b7c75143b3038b8d2a807fbc68deab379ca\n" in told
    assert "mean 123.675 116.28 103.53, std 58.395 57.12 57.375" in told
    assert "f82ba261... (its publisher gives 8 digits)" in details("resnet152_imagenet_torchvision_v2")
    entry = known("resnet50_imagenet_keras")
    told = details(entry.name)
    for fact in (
        entry.sha256,
        entry.url,
        entry.source,
        entry.licence,
        entry.reported,
        entry.wanted,
        str(entry.path),
    ):
        assert fact in told
