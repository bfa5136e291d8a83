"""Weights whose pickle makes a folder where it is trusted."""

import io
import pickle
import tarfile
import zipfile
from typing import Any

import pytest
import torch

from tests.security.conftest import TRAIN, Bomb, Content, Harmless, Place, short_form, written


def among_tensors(bomb: Bomb) -> dict[str, Any]:
    return {"state_dict": {"stem.0.weight": torch.zeros(32, 3, 3, 3), "extra": bomb}, "epoch": 3}


def zipped(content: Any) -> bytes:
    return written(lambda file: torch.save(content, file))


def legacy(content: Any) -> bytes:
    return written(lambda file: torch.save(content, file, _use_new_zipfile_serialization=False))


def tar(bomb: Bomb) -> bytes:
    """The format of torch before 0.1.10: its reader unpickles each member."""
    file, data = io.BytesIO(), pickle.dumps(bomb)
    with tarfile.open(fileobj=file, mode="w") as archive:
        for member in ("storages", "tensors", "pickle"):
            info = tarfile.TarInfo(member)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("../../outside/decoy.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return file.getvalue()


def script(bomb: Bomb) -> bytes:
    """TorchScript: code/ and constants.pkl beside data.pkl."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("scripted/data.pkl", pickle.dumps(bomb))
        archive.writestr("scripted/constants.pkl", pickle.dumps(bomb))
        archive.writestr("scripted/code/__torch__.py", f"import os\nos.mkdir({str(bomb.marker)!r})\n")
        archive.writestr("scripted/version", "3")
    return file.getvalue()


PICKLES: dict[str, tuple[str, Content]] = {
    "zip": ("weights.pth", zipped),
    "zip, nested among good tensors": ("weights.pth", lambda bomb: zipped(among_tensors(bomb))),
    "legacy": ("weights.pt", lambda bomb: legacy(among_tensors(bomb))),
    "tar": ("weights.tar", tar),
    "TorchScript": ("scripted.pt", script),
    "bare pickle": ("weights.bin", lambda bomb: pickle.dumps({"a": bomb}, protocol=4)),
    "bare pickle, protocol 0": ("weights.pkl", lambda bomb: pickle.dumps({"a": bomb}, protocol=0)),
    "pickle named .safetensors": ("weights.safetensors", pickle.dumps),
    "zip named .safetensors": ("weights.safetensors", zipped),
}


@pytest.mark.parametrize("setting", short_form(["backbone.weights", "init_from"]))
@pytest.mark.parametrize("kind", short_form(PICKLES, every=5))
def test_weights(kind: str, setting: str, place: Place, harmless: Harmless) -> None:
    name, content = PICKLES[kind]
    place.write(name, content)
    harmless(f"{TRAIN} {setting}={name}")


@pytest.mark.parametrize("setting", short_form(["eval ckpt", "train --experimental-rerun"]))
def test_a_checkpoint_and_a_job_of_hydra(setting: str, place: Place, harmless: Harmless) -> None:
    place.write("weights.pth", zipped)
    harmless(f"{setting}=weights.pth")
