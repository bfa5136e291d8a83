"""Checkpoints whose tensors, settings, manifest or pointers lie."""

import functools
import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save

from tests.security.conftest import EVAL, PICKLE, PREDICT, RESUME, TRAIN, Harmless, Place, short_form

INIT_FROM = f"{TRAIN} init_from=run"
Tensors = dict[str, torch.Tensor]
# A file's content as it is, other values of keys of a JSON, or a change of tensors.
Content = str | bytes | dict[str, Any] | Callable[[Tensors], Tensors]


def header(text: bytes, data: bytes = b"", *, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def one_tensor(dtype: str, shape: list[int], offsets: list[int]) -> bytes:
    text = json.dumps({"w": {"dtype": dtype, "shape": shape, "data_offsets": offsets}})
    return header(text.encode(), b"\0" * 16)


def in_float_8(tensors: Tensors) -> Tensors:
    return {name: tensor.to(torch.float8_e4m3fn) for name, tensor in tensors.items()}


HEADERS = {
    "a header of 2^60 bytes": header(b"{}", length=1 << 60),
    "offsets out of range": one_tensor("F32", [4], [0, 1 << 40]),
    "an overflowing shape": one_tensor("F32", [1 << 62, 4], [0, 16]),
    "an unknown dtype": one_tensor("os.system", [4], [0, 16]),
    "a deep header": header(b'{"a":' * 50_000),
}
TENSORS: dict[str, Callable[[Tensors], Tensors]] = {
    "another shape": lambda tensors: {**tensors, min(tensors): torch.zeros(3)},
    "a missing tensor": lambda tensors: dict(sorted(tensors.items())[1:]),
    "an extra tensor": lambda tensors: {**tensors, "\x1b[31mextra": torch.zeros(3)},
}
JSONS = {
    "deep": b'{"config":' * 200_000,
    "a number of 10,000 digits": b'{"step": ' + b"9" * 10_000 + b"}",
    "binary": bytes(range(256)) * 8,
}
TARGET = {"_target_": "os.mkdir", "_args_": ["MARKER"]}
RECOMMENDED = {"crop_size": 65, "batch_size": 8, "max_iters": 550, "lr": 0.05, "eval_crop": None}
SPLITS = {"train_split": "train", "split": "val", "on_bad": "abort", "recommended": RECOMMENDED}
DATASET = {"family": "dataset/files", "name": "camvid", "root": "${oc.env:HOME}", **SPLITS}
CONFIGS: dict[tuple[str, str], Content] = {
    ("a _target_", EVAL): {"config.model": TARGET},
    ("a _target_", RESUME): {"config.model": TARGET},
    ("an unknown family", EVAL): {"config.backbone.family": "backbone/os.system"},
    ("a resolver as a name", EVAL): {"config.backbone.name": "${oc.env:HOME}"},
    ("a resolver as a path", EVAL): {"config.dataset": DATASET},
    ("a decoding resolver", EVAL): {"config.seed": "${oc.decode:7}"},
    ("${now:} as a split", EVAL): {"config.dataset.split": "${now:%Y}"},
    ("a class that moves the cursor", EVAL): {"classes.0": "\x1b[2J\x1b]0;owned\x07"},
    ("classes that are tables", EVAL): {"classes": [{"a": 1}] * 7},
    ("a palette of texts", PREDICT): {"palette": ["red"] * 7},
    ("a palette of one colour", PREDICT): {"palette": [[0, 0, 0]]},
    ("a mean of texts", PREDICT): {"preprocess.mean": ["a", "b", "c"]},
    ("an atrous rate of 10^12", PREDICT): {"config.model.atrous_rates": [10**12] * 3},
}
STATES: dict[str, Content] = {
    "a step that is a text": {"step": "x"},
    "a step below zero": {"step": -5},
    "a step of 10^30": {"step": 10**30},
    "a best that is a list": {"best": [1, 2]},
    "another schema version": {"schema_version": 99},
    "a scaler that is a text": {"scaler": "x"},
}
MODEL, OPTIMIZER = "model.safetensors", "optimizer.safetensors"
# By the file, what is wrong with it, and the command that reads it.
FORGED: dict[tuple[str, str, str], Content] = {
    **{(MODEL, "a pickle", command): PICKLE for command in (EVAL, RESUME, INIT_FROM)},
    (OPTIMIZER, "a pickle", RESUME): PICKLE,
    **{(MODEL, kind, EVAL): content for kind, content in HEADERS.items()},
    **{(MODEL, kind, command): change for kind, change in TENSORS.items() for command in (EVAL, RESUME)},
    (MODEL, "another dtype", EVAL): in_float_8,
    (OPTIMIZER, "foreign", RESUME): lambda tensors: {"nothing/momentum_buffer": torch.zeros(3)},
    **{("config.json", *key): changes for key, changes in CONFIGS.items()},
    **{("state.json", kind, RESUME): changes for kind, changes in STATES.items()},
    **{("config.json", kind, EVAL): content for kind, content in JSONS.items()},
    **{("state.json", kind, RESUME): content for kind, content in JSONS.items()},
}
DECOY = {"size": 6, "sha256": hashlib.sha256(b"decoy\n").hexdigest()}
MANIFESTS: dict[tuple[str, str], dict[str, Any]] = {  # None: the entry is left out
    ("a name that leads out", EVAL): {"../../../../outside/decoy.txt": DECOY},
    ("an absolute name", EVAL): {"OUTSIDE/decoy.txt": DECOY},
    ("no model", EVAL): {MODEL: None},
    ("no optimizer", RESUME): {OPTIMIZER: None},
    ("entries that are no tables", EVAL): dict.fromkeys((MODEL, OPTIMIZER, "config.json", "state.json"), 7),
    ("a name of 5,000 letters", EVAL): {"x" * 5000: DECOY},
    ("a name that moves the cursor", EVAL): {"\x1b[2J\nx": DECOY},
}
POINTERS = {
    "leads out": '{"checkpoint": "../../../outside"}',
    "has an absolute name": '{"checkpoint": "/etc"}',
    "has a step that leads out": '{"checkpoint": "step-1/../../../../outside"}',
    "is deep": "[" * 100_000,
    "has a name of 5,000 letters": json.dumps({"checkpoint": "step-" + "0" * 5000}),
}


def forged(old: bytes, content: Content) -> str | bytes:
    if callable(content):
        return save(content(load(old)))
    return changed(json.loads(old), content) if isinstance(content, dict) else content


def changed(content: Any, changes: dict[str, Any]) -> str:
    for key, value in changes.items():
        *parents, last = key.split(".")
        node = functools.reduce(lambda node, name: node[name], parents, content)
        node[int(last) if isinstance(node, list) else last] = value
    return json.dumps(content)


def write_manifest(place: Place, checkpoint: Path, changes: dict[str, Any]) -> None:
    entries = {**json.loads((checkpoint / "MANIFEST.json").read_text()), **changes}
    kept = {name: entry for name, entry in entries.items() if entry is not None}
    place.write(f"{checkpoint}/MANIFEST.json", json.dumps(kept))


@pytest.mark.parametrize(("file", "kind", "command"), short_form(FORGED, every=10))
def test_a_forged_file(file: str, kind: str, command: str, place: Place, harmless: Harmless) -> None:
    checkpoint = place.copy_run()
    content = forged((checkpoint / file).read_bytes(), FORGED[file, kind, command])
    (checkpoint / file).unlink()  # a link to the tensors of the finished run
    path = place.write(f"{checkpoint}/{file}", content)
    entry = {"size": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    write_manifest(place, checkpoint, {file: entry})
    harmless(command, may_succeed=kind == "another dtype")  # it is cast


@pytest.mark.parametrize("kind", short_form(HEADERS))
def test_the_header_of_weights(kind: str, place: Place, harmless: Harmless) -> None:
    place.write("w.safetensors", HEADERS[kind])
    harmless(f"{TRAIN} backbone.weights=w.safetensors")


@pytest.mark.parametrize(("kind", "command"), short_form(MANIFESTS))
def test_a_manifest(kind: str, command: str, place: Place, harmless: Harmless) -> None:
    checkpoint = place.copy_run()
    write_manifest(place, checkpoint, MANIFESTS[kind, command])
    harmless(command)


@pytest.mark.parametrize("kind", short_form(POINTERS))
def test_a_pointer_that(kind: str, place: Place, harmless: Harmless) -> None:
    place.copy_run()
    place.write("run/checkpoints/best.json", POINTERS[kind])
    harmless(EVAL)
