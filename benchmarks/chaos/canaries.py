"""Strangers' files: each canary is one that would run code, write elsewhere or exhaust the machine if it were
trusted.

A canary is planted in `inside`, a folder of its own, and a command is run there in a process of its own. Its
sibling `outside` is what must not change: a canary that runs leaves a file RAN there, one that escapes writes
or changes another.
"""

import contextlib
import hashlib
import io
import json
import os
import pickle
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import time
import traceback
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.chaos.row import Measured, Row

SECONDS = 20  # of one canary
SHORT = 8  # the short form takes every so many
AT_ONCE = 2
MEMORY = 6 << 30  # bytes of address space beyond what the imports take
LONGEST_ANSWER = 1600  # characters
TINY = [
    "dataset.train_images=4",
    "dataset.val_images=1",
    "augment.crop_size=33",
    "trainer.batch_size=2",
    "trainer.workers=0",
    "trainer.samples=1",
    "trainer.precision=fp32",
    "trainer.devices=cpu",
    "schedule.max_iters=1",
]
SMALL = [setting for setting in TINY if not setting.startswith("dataset.")]


class Place(NamedTuple):
    """Where a canary is planted. `run` is a finished tiny run, of which a canary takes a copy."""

    inside: Path
    outside: Path
    run: Path

    @property
    def marker(self) -> Path:
        return self.outside / "RAN"

    def copy_of_run(self) -> Path:
        """A copy of the run in `inside`; its tensors are shared, and never written in place."""
        folder = self.inside / "run"
        shutil.copytree(self.run, folder, copy_function=share)
        return folder

    def checkpoint(self) -> Path:
        """The checkpoint of a copy of the run."""
        (folder,) = (self.copy_of_run() / "checkpoints").glob("step-*")
        return folder

    def folder_set(self) -> Path:
        """A small data set of one's own images."""
        from deeplabx.dataset.fake import write_fake

        root = self.inside / "data"
        write_fake("folder", root, images=2, seed=0)
        return root

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.inside / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path


class Canary(NamedTuple):
    """`plant` puts it down and returns the command line that meets it. accepted: why the command may do its
    work, where it may.
    """

    name: str
    plant: Callable[[Place], list[str]]
    accepted: str = ""


class Met(NamedTuple):
    """What became of a canary."""

    name: str
    executed: bool
    escaped: list[str]
    unclear: str  # what is wrong with the answer
    code: int
    answer: str
    seconds: float


def share(source: str, target: str) -> None:
    (os.link if source.endswith(".safetensors") else shutil.copyfile)(source, target)


CANARIES: list[Canary] = []


def canary(
    name: str, *, accepted: str = ""
) -> Callable[[Callable[[Place], list[str]]], Callable[[Place], list[str]]]:
    def register(plant: Callable[[Place], list[str]]) -> Callable[[Place], list[str]]:
        CANARIES.append(Canary(name, plant, accepted))
        return plant

    return register


# --- pickles ------------------------------------------------------------------------------------------------


class Bomb:
    """Unpickled, it makes a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.marker),)


def zip_file(place: Place, name: str = "weights.pth", content: Any = None) -> Path:
    import torch

    torch.save(Bomb(place.marker) if content is None else content, place.inside / name)
    return place.inside / name


def good_and_bad(place: Place) -> dict[str, Any]:
    import torch

    return {
        "state_dict": {"stem.0.weight": torch.zeros(32, 3, 3, 3), "extra": Bomb(place.marker)},
        "epoch": 3,
    }


def legacy_file(place: Place, name: str = "weights.pt") -> Path:
    import torch

    torch.save(good_and_bad(place), place.inside / name, _use_new_zipfile_serialization=False)
    return place.inside / name


def tar_file(place: Place) -> Path:
    """The tar that torch wrote before 0.1.10: its reader unpickles each member."""
    path = place.inside / "weights.tar"
    with tarfile.open(path, "w") as archive:
        for member in ("storages", "tensors", "pickle"):
            data = pickle.dumps(Bomb(place.marker))
            info = tarfile.TarInfo(member)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("../../outside/decoy.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return path


def script_file(place: Place) -> Path:
    """What torch.jit.save writes has code/ and constants.pkl beside data.pkl."""
    path = place.inside / "scripted.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("scripted/data.pkl", pickle.dumps(Bomb(place.marker)))
        archive.writestr("scripted/constants.pkl", pickle.dumps(Bomb(place.marker)))
        archive.writestr("scripted/code/__torch__.py", f"import os\nos.mkdir({str(place.marker)!r})\n")
        archive.writestr("scripted/version", "3")
    return path


def bare_pickle(place: Place, name: str, protocol: int = 4) -> Path:
    return place.write(name, pickle.dumps({"a": Bomb(place.marker)}, protocol=protocol))


PICKLES: dict[str, Callable[[Place], Path]] = {
    "zip .pth": zip_file,
    "zip .pth, nested beside good tensors": lambda place: zip_file(place, content=good_and_bad(place)),
    "legacy .pt": legacy_file,
    "tar": tar_file,
    "TorchScript": script_file,
    "bare pickle": lambda place: bare_pickle(place, "weights.bin"),
    "bare pickle, protocol 0": lambda place: bare_pickle(place, "weights.pkl", 0),
    "pickle named .safetensors": lambda place: bare_pickle(place, "weights.safetensors"),
    "zip named .safetensors": lambda place: zip_file(place, "weights.safetensors"),
}
KEYS = ("backbone.weights", "init_from")
for kind, make in PICKLES.items():
    for setting in KEYS:
        canary(f"{kind} as {setting}")(
            lambda place, make=make, setting=setting: ["train", *TINY, f"{setting}={make(place)}"]  # type: ignore[misc]
        )
canary("zip .pth as ckpt")(lambda place: ["eval", f"ckpt={zip_file(place)}"])


def forge(checkpoint: Path, **files: bytes) -> None:
    """Replace files of a checkpoint, and let its manifest agree."""
    manifest = json.loads((checkpoint / "MANIFEST.json").read_text())
    for name, content in files.items():
        path = checkpoint / name.replace("__", ".")
        path.unlink(missing_ok=True)  # a link to the shared tensors
        path.write_bytes(content)
        manifest[path.name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (checkpoint / "MANIFEST.json").write_text(json.dumps(manifest))


def forged(name: str, content: Callable[[Place, Path], bytes], *commands: str, accepted: str = "") -> None:
    """A canary per command: a checkpoint one file of which is forged, its manifest in agreement."""

    def plant(place: Place, command: str) -> list[str]:
        checkpoint = place.checkpoint()
        forge(checkpoint, **{name: content(place, checkpoint)})
        return meet(place, command)

    for command in commands or ("eval", "resume"):
        label = f"{content.__name__.replace('_', ' ')} in {name.replace('__', '.')}, {command}"
        CANARIES.append(Canary(label, lambda place, command=command: plant(place, command), accepted))  # type: ignore[misc]


def meet(place: Place, command: str) -> list[str]:
    """The command line of `command` on the copied run."""
    if command == "eval":
        return ["eval", "ckpt=run", "trainer.devices=cpu"]
    if command == "predict":
        image(place.inside / "photo.png")
        return ["predict", "ckpt=run", "input=photo.png", "out=out", "trainer.devices=cpu"]
    if command == "init_from":
        return ["train", *TINY, "init_from=run"]
    (place.inside / "run/DONE").unlink(missing_ok=True)
    return ["resume", "run"]


def image(path: Path, **options: Any) -> None:
    from PIL import Image

    Image.new("RGB", (40, 30), (200, 100, 50)).save(path, **options)


def a_pickle(place: Place, checkpoint: Path) -> bytes:
    return pickle.dumps(Bomb(place.marker))


forged("model__safetensors", a_pickle, "eval", "resume", "init_from")
forged("optimizer__safetensors", a_pickle, "resume")


# --- safetensors that lie -----------------------------------------------------------------------------------


def safetensors(header: dict[str, Any] | bytes, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def header_of_2_60_bytes(place: Place, checkpoint: Path) -> bytes:
    return safetensors(b"{}", length=1 << 60)


def offsets_out_of_range(place: Place, checkpoint: Path) -> bytes:
    return safetensors({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 1 << 40]}}, b"\0" * 16)


def overflowing_shape(place: Place, checkpoint: Path) -> bytes:
    return safetensors({"w": {"dtype": "F32", "shape": [1 << 62, 4], "data_offsets": [0, 16]}}, b"\0" * 16)


def unknown_dtype(place: Place, checkpoint: Path) -> bytes:
    return safetensors({"w": {"dtype": "os.system", "shape": [4], "data_offsets": [0, 16]}}, b"\0" * 16)


def deep_header(place: Place, checkpoint: Path) -> bytes:
    return safetensors(b'{"a":' * 50_000)


def changed_tensors(
    checkpoint: Path, change: Callable[[dict[str, Any]], Any], name: str = "model.safetensors"
) -> bytes:
    from safetensors.torch import load, save

    tensors = load((checkpoint / name).read_bytes())
    change(tensors)
    return save(tensors)


def another_shape(place: Place, checkpoint: Path) -> bytes:
    return changed_tensors(
        checkpoint,
        lambda tensors: tensors.update({next(iter(tensors)): next(iter(tensors.values())).new_zeros(3)}),
    )


def missing_tensor(place: Place, checkpoint: Path) -> bytes:
    return changed_tensors(checkpoint, lambda tensors: tensors.pop(next(iter(tensors))))


def extra_tensor(place: Place, checkpoint: Path) -> bytes:
    return changed_tensors(
        checkpoint,
        lambda tensors: tensors.update({"\x1b[31mextra": next(iter(tensors.values())).new_zeros(3)}),
    )


def another_dtype(place: Place, checkpoint: Path) -> bytes:
    return changed_tensors(
        checkpoint,
        lambda tensors: tensors.update({key: value.to(dtype=float_8()) for key, value in tensors.items()}),
    )


def float_8() -> Any:
    import torch

    return torch.float8_e4m3fn


def foreign_slots(place: Place, checkpoint: Path) -> bytes:
    import torch
    from safetensors.torch import save

    return save({"nothing/momentum_buffer": torch.zeros(3)})


for lie in (header_of_2_60_bytes, offsets_out_of_range, overflowing_shape, unknown_dtype, deep_header):
    forged("model__safetensors", lie, "eval")
    canary(f"{lie.__name__.replace('_', ' ')} as backbone.weights")(
        lambda place, lie=lie: [
            "train",
            *TINY,
            f"backbone.weights={place.write('w.safetensors', lie(place, place.inside))}",
        ]  # type: ignore[misc]
    )
for lie in (another_shape, missing_tensor, extra_tensor):
    forged("model__safetensors", lie, "eval", "resume")
forged(
    "model__safetensors",
    another_dtype,
    "eval",
    accepted="numbers of another type are cast; the outcome is only wrong",
)
forged("optimizer__safetensors", foreign_slots, "resume")


# --- config.json and state.json -----------------------------------------------------------------------------


def edited(checkpoint: Path, name: str, change: Callable[[dict[str, Any]], Any]) -> bytes:
    content = json.loads((checkpoint / name).read_text())
    change(content)
    return json.dumps(content).encode()


def in_config(name: str, change: Callable[[dict[str, Any]], Any], *commands: str, accepted: str = "") -> None:
    def content(place: Place, checkpoint: Path) -> bytes:
        return edited(checkpoint, "config.json", change)

    content.__name__ = name
    forged("config__json", content, *commands or ("eval",), accepted=accepted)


def target(marker: str) -> dict[str, Any]:
    return {"_target_": "os.mkdir", "_args_": [marker]}


def a_target(place: Place, checkpoint: Path) -> bytes:
    return edited(
        checkpoint, "config.json", lambda content: content["config"].update(model=target(str(place.marker)))
    )


forged("config__json", a_target)
in_config(
    "an unknown family", lambda content: content["config"]["backbone"].update(family="backbone/os.system")
)
in_config(
    "a resolver as a name",
    lambda content: content["config"]["backbone"].update(name="${oc.env:HOME}"),
    "eval",
)
in_config(
    "a resolver as a path",
    lambda content: content["config"]["dataset"].update(
        name="camvid", root="${oc.env:HOME}", family="dataset/files"
    ),
    "eval",
)
in_config("a decoding resolver", lambda content: content["config"].update(seed="${oc.decode:7}"))
in_config(
    "${now:} as a split", lambda content: content["config"]["dataset"].update(split="${now:%Y}"), "eval"
)
in_config(
    "a class that moves the cursor",
    lambda content: content["classes"].__setitem__(0, "\x1b[2J\x1b]0;owned\x07"),
    "eval",
)
in_config("classes that are tables", lambda content: content.update(classes=[{"a": 1}] * 6), "eval")
in_config("a palette of texts", lambda content: content.update(palette=["red"] * 6), "predict")
in_config("a palette of one colour", lambda content: content.update(palette=[[0, 0, 0]]), "predict")
in_config("a mean of texts", lambda content: content["preprocess"].update(mean=["a", "b", "c"]), "predict")
in_config(
    "an atrous rate of 10^12",
    lambda content: content["config"]["model"].update(atrous_rates=[10**12] * 3),
    "predict",
    accepted="it fits its type",
)


def nested(place: Place, checkpoint: Path) -> bytes:
    return b'{"config":' * 200_000


def a_number_of_10_000_digits(place: Place, checkpoint: Path) -> bytes:
    return b'{"step": ' + b"9" * 10_000 + b"}"


def binary(place: Place, checkpoint: Path) -> bytes:
    return bytes(range(256)) * 8


for lie in (nested, a_number_of_10_000_digits, binary):
    forged("config__json", lie, "eval")
    forged("state__json", lie, "resume")


def in_state(name: str, accepted: str = "", **values: Any) -> None:
    def content(place: Place, checkpoint: Path) -> bytes:
        return edited(checkpoint, "state.json", lambda content: content.update(values))

    content.__name__ = name
    forged("state__json", content, "resume", accepted=accepted)


in_state("a step that is a text", step="x")
in_state("a step below zero", step=-5)
in_state("a step of 10^30", step=10**30)
in_state("a best that is a list", best=[1, 2])
in_state("another schema version", schema_version=99)
in_state("a scaler that is a text", scaler="x")


# --- MANIFEST.json and the pointers -------------------------------------------------------------------------


def in_manifest(name: str, change: Callable[[dict[str, Any], Place], Any], *, command: str = "eval") -> None:
    def plant(place: Place) -> list[str]:
        checkpoint = place.checkpoint()
        manifest = json.loads((checkpoint / "MANIFEST.json").read_text())
        change(manifest, place)
        (checkpoint / "MANIFEST.json").write_text(json.dumps(manifest))
        return meet(place, command)

    CANARIES.append(Canary(f"a manifest with {name}, {command}", plant))


def decoy_entry(place: Place) -> dict[str, Any]:
    content = (place.outside / "decoy.txt").read_bytes()
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


in_manifest(
    "a name that leads out",
    lambda manifest, place: manifest.update({"../../../../outside/decoy.txt": decoy_entry(place)}),
)
in_manifest(
    "an absolute name",
    lambda manifest, place: manifest.update({str(place.outside / "decoy.txt"): decoy_entry(place)}),
)
in_manifest("a file left out", lambda manifest, place: manifest.pop("model.safetensors"))
in_manifest(
    "the optimizer left out", lambda manifest, place: manifest.pop("optimizer.safetensors"), command="resume"
)
in_manifest(
    "entries that are no tables", lambda manifest, place: manifest.update(dict.fromkeys(list(manifest), 7))
)
in_manifest(
    "a name of 5,000 letters", lambda manifest, place: manifest.update({"x" * 5000: decoy_entry(place)})
)
in_manifest(
    "a name that moves the cursor",
    lambda manifest, place: manifest.update({"\x1b[2J\nx": decoy_entry(place)}),
)


def pointer(name: str, content: Any) -> None:
    def plant(place: Place) -> list[str]:
        place.checkpoint()
        (place.inside / "run/checkpoints/best.json").write_text(
            content if isinstance(content, str) else json.dumps(content)
        )
        return meet(place, "eval")

    CANARIES.append(Canary(f"best.json {name}", plant))


pointer("that leads out", {"checkpoint": "../../../outside"})
pointer("with an absolute name", {"checkpoint": "/etc"})
pointer("with a step that leads out", {"checkpoint": "step-1/../../../../outside"})
pointer("that is deep", "[" * 100_000)
pointer("with a name of 5,000 letters", {"checkpoint": "step-" + "0" * 5000})


# --- YAML ---------------------------------------------------------------------------------------------------

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefghijk", "bcdefghijkl", strict=True)
)


def python_tag(place: Place) -> str:
    return f"!!python/object/apply:os.mkdir ['{place.marker}']"


def yaml_texts(place: Place) -> dict[str, str]:
    """What a stranger's YAML may hold, for a file whose keys do not matter."""
    return {
        "a python tag": f"x: {python_tag(place)}\n",
        "a python tag at the top": f"{python_tag(place)}\n",
        "a billion laughs": LAUGHS,
        "deep YAML": "[" * 20_000,
        "binary YAML": "\udcff\udcfe\0",
        "a list": "- 1\n- 2\n",
        "a laughing list": f"{laughing_value()}\n",
    }


YAML_KINDS = (
    "a python tag",
    "a python tag at the top",
    "a billion laughs",
    "deep YAML",
    "binary YAML",
    "a list",
    "a laughing list",
)


def yaml_bytes(place: Place, kind: str) -> bytes:
    return yaml_texts(place)[kind].encode(errors="surrogateescape")


def in_run_file(file: str, kind: str) -> None:
    def plant(place: Place) -> list[str]:
        place.checkpoint()
        (place.inside / "run" / file).write_bytes(yaml_bytes(place, kind))
        return meet(place, "resume")

    note = (file, kind) == ("overrides.yaml", "a laughing list")
    accepted = "overrides.yaml is a note of what was typed; what is no text in it is left out" if note else ""
    CANARIES.append(Canary(f"{kind} in a resumed run's {file}", plant, accepted))


for kind in YAML_KINDS:
    in_run_file("config.yaml", kind)
for kind in ("a python tag", "binary YAML", "a laughing list"):
    in_run_file("overrides.yaml", kind)


def in_resumed_config(name: str, text: Callable[[str, Place], str]) -> None:
    def plant(place: Place) -> list[str]:
        place.checkpoint()
        path = place.inside / "run/config.yaml"
        path.write_text(text(path.read_text(), place))
        return meet(place, "resume")

    CANARIES.append(Canary(f"{name} in a resumed run's config.yaml", plant))


in_resumed_config("a _target_", lambda text, place: f"{text}_target_: os.mkdir\n_args_: ['{place.marker}']\n")
in_resumed_config("a laughing seed", lambda text, place: LAUGHS + text.replace("seed: 0", "seed: *l"))
in_resumed_config(
    "only a laughing seed", lambda text, place: text.replace("seed: 0", "seed: " + laughing_value())
)
in_resumed_config("a resolver", lambda text, place: text.replace("seed: 0", "seed: ${oc.decode:0}"))


def laughing_value() -> str:
    """A value of a few hundred characters whose repr has 9^9 elements."""
    lists = ["&a [x, x, x, x, x, x, x, x, x]"]
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        lists.append(f"&{name} [{', '.join([f'*{before}'] * 9)}]")
    return f"[{', '.join(lists)}]"


def in_class_table(name: str, text: Callable[[Place], str | bytes], accepted: str = "") -> None:
    def plant(place: Place) -> list[str]:
        root = place.folder_set()
        content = text(place)
        (root / "classes.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
        return ["train", *SMALL, "dataset=folder", "dataset.root=data"]

    CANARIES.append(Canary(f"{name} in classes.yaml", plant, accepted))


FOUR = "classes: [background, road, water, tree]\nignore: [255]\n"
for kind in YAML_KINDS:
    in_class_table(kind, lambda place, kind=kind: yaml_bytes(place, kind))  # type: ignore[misc]
in_class_table("laughing classes", lambda place: f"classes: {laughing_value()}\n")
in_class_table("a laughing colour", lambda place: f"classes: {{a: [0, 0, 0], b: {laughing_value()}}}\n")
in_class_table(
    "a laughing label_map", lambda place: f"classes: [a, b]\nlabel_map: {{0: a, 1: {laughing_value()}}}\n"
)
in_class_table("a laughing ignore", lambda place: f"classes: [a, b, c, d]\nignore: {laughing_value()}\n")
in_class_table("a _target_", lambda place: f"{FOUR}_target_: os.mkdir\n")
in_class_table(
    "a class that moves the cursor",
    lambda place: 'classes: ["\\e[2J\\e]0;owned\\a", road, water, tree]\nignore: [255]\n',
)
in_class_table(
    "a class of 10^6 letters", lambda place: f"classes: [{'x' * 10**6}, road, water, tree]\nignore: [255]\n"
)
in_class_table("a key of 10^6 letters", lambda place: f"{FOUR}? {'x' * 10**6}\n: 1\n")
in_class_table(
    "python as a class",
    lambda place: "classes: [__import__('os').system('x'), '${oc.env:HOME}', water, tree]\nignore: [255]\n",
    "a class may have any name",
)


# --- Hydra --------------------------------------------------------------------------------------------------


def in_recipe(name: str, text: Callable[[Place], str], *more: str, accepted: str = "") -> None:
    def plant(place: Place) -> list[str]:
        place.write("their/recipe/theirs.yaml", "# @package _global_\n" + text(place))
        return ["train", "--config-dir", "their", *TINY, "+recipe=theirs", *more]

    CANARIES.append(Canary(f"{name} in a recipe", plant, accepted))


def call(place: Place) -> str:
    return f"{{_target_: os.mkdir, _args_: ['{place.marker}']}}"


def factory(place: Place) -> str:
    formatter = f"{{'()': os.mkdir, path: '{place.marker}'}}"
    return (
        f"{{version: 1, formatters: {{f: {formatter}}}, handlers: {{h: {{class: logging.StreamHandler, "
        f"formatter: f}}}}, root: {{handlers: [h]}}}}"
    )


def log_file(place: Place) -> str:
    handler = f"{{class: logging.FileHandler, filename: '{place.outside / 'decoy.txt'}', mode: w}}"
    return f"{{version: 1, handlers: {{h: {handler}}}, root: {{handlers: [h]}}}}"


in_recipe("a callback", lambda place: f"hydra:\n  callbacks:\n    x: {call(place)}\n")
in_recipe(
    "a callback behind an interpolation",
    lambda place: f"x: {{y: {call(place)}}}\nhydra:\n  callbacks: ${{x}}\n",
)
in_recipe("a logging factory for jobs", lambda place: f"hydra:\n  job_logging: {factory(place)}\n")
in_recipe("a logging factory for Hydra", lambda place: f"hydra:\n  hydra_logging: {factory(place)}\n")
in_recipe("a log file elsewhere", lambda place: f"hydra:\n  job_logging: {log_file(place)}\n")
in_recipe("a launcher's _target_", lambda place: f"hydra:\n  launcher: {call(place)}\n", "-m")
in_recipe(
    "a _target_ below the sweeper",
    lambda place: f"hydra:\n  sweeper:\n    params: {{x: {call(place)}}}\n",
    "-m",
    "seed=1,2",
)
in_recipe("a _target_ for a setting", lambda place: f"seed: {call(place)}\n")
in_recipe("a _target_ beside the settings", lambda place: f"extra: {call(place)}\n")
in_recipe(
    "an environment",
    lambda place: "hydra:\n  job:\n    env_set: {LD_PRELOAD: /tmp/evil.so, PYTHONSTARTUP: evil.py}\n",
)
in_recipe("an output_subdir elsewhere", lambda place: f"hydra:\n  output_subdir: {place.outside}\n")
in_recipe("a python tag", lambda place: f"seed: {python_tag(place)}\n")
in_recipe("a billion laughs", lambda place: LAUGHS)
in_recipe("deep YAML", lambda place: "seed: " + "[" * 20_000)
in_recipe("a laughing seed", lambda place: f"seed: {laughing_value()}\n")
in_recipe("an unknown resolver", lambda place: "seed: ${os.system:x}\n")


@canary("a logging factory in a group of --config-dir")
def logging_group(place: Place) -> list[str]:
    place.write("their/hydra/job_logging/evil.yaml", f"# @package hydra.job_logging\n{factory(place)}\n")
    return ["train", "--config-dir", "their", *TINY, "hydra/job_logging=evil"]


@canary("a package in hydra.searchpath")
def searchpath(place: Place) -> list[str]:
    place.write("evil/__init__.py", f"import os\nos.mkdir({str(place.marker)!r})\n")
    place.write("their/mine.yaml", "defaults:\n  - train\n  - _self_\nhydra:\n  searchpath: ['pkg://evil']\n")
    sys.path.insert(0, str(place.inside))
    return ["train", "--config-dir", "their", "--config-name", "mine", *TINY]


@canary("a pickle for Hydra's --experimental-rerun")
def rerun(place: Place) -> list[str]:
    return ["train", f"--experimental-rerun={bare_pickle(place, 'rerun.pickle')}"]


# --- images and masks ---------------------------------------------------------------------------------------


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_bomb() -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + header
        + png_chunk(b"IDAT", zlib.compress(b"\0" * 1_000_000))
        + png_chunk(b"IEND", b"")
    )


def text_bomb() -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
    text = png_chunk(b"zTXt", b"x\0\0" + zlib.compress(b"a" * 200_000_000))
    return (
        b"\x89PNG\r\n\x1a\n"
        + header
        + text * 3
        + png_chunk(b"IDAT", zlib.compress(b"\0" * 200))
        + png_chunk(b"IEND", b"")
    )


def tiff_bomb() -> bytes:
    entries = [
        (256, 60_000),
        (257, 60_000),
        (258, 8),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, 1),
        (278, 60_000),
        (279, 1),
    ]
    return (
        b"II*\0\x08\0\0\0"
        + struct.pack("<H", len(entries))
        + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
        + b"\0" * 4
    )


def npy_of_objects(place: Place) -> bytes:
    import numpy as np

    file = io.BytesIO()
    np.save(file, np.array([Bomb(place.marker)], dtype=object), allow_pickle=True)
    return file.getvalue()


def gif() -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.new("P", (8, 8)).save(file, "GIF")
    return file.getvalue()


def eps(place: Place) -> bytes:
    return (
        f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n({place.marker}) (w) file\nshowpage\n".encode()
    )


def svg(place: Place) -> bytes:
    return (
        b'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg '
        b'xmlns="http://www.w3.org/2000/svg">&x;</svg>'
    )


IMAGES: dict[str, Callable[[Place], bytes]] = {
    "a PNG of 60000 x 60000": lambda place: png_bomb(),
    "a PNG with a text bomb": lambda place: text_bomb(),
    "a TIFF of 60000 x 60000": lambda place: tiff_bomb(),
    "a PPM of 60000 x 60000": lambda place: b"P6 60000 60000 255\n" + b"\0" * 100,
    "EPS named .png": eps,
    "SVG named .png": svg,
    "GIF named .png": lambda place: gif(),
    "an .npy of objects named .png": npy_of_objects,
    "a pickle named .png": lambda place: pickle.dumps(Bomb(place.marker)),
}


def as_input(name: str, make: Callable[[Place], bytes]) -> None:
    def plant(place: Place) -> list[str]:
        place.copy_of_run()
        place.write("photo.png", make(place))
        return ["predict", "ckpt=run", "input=photo.png", "out=out", "trainer.devices=cpu"]

    CANARIES.append(Canary(f"{name} as input", plant))


def as_mask(name: str, make: Callable[[Place], bytes]) -> None:
    def plant(place: Place) -> list[str]:
        root = place.folder_set()
        for path in (root / "masks/train").iterdir():
            path.write_bytes(make(place))
        return ["train", *SMALL, "dataset=folder", "dataset.root=data"]

    CANARIES.append(Canary(f"{name} as mask", plant))


for kind, content in IMAGES.items():
    as_input(kind, content)
for kind in (
    "a PNG of 60000 x 60000",
    "a TIFF of 60000 x 60000",
    "an .npy of objects named .png",
    "a pickle named .png",
):
    as_mask(kind, IMAGES[kind])


def sbd(name: str, write: Callable[[Path, Place], Any]) -> None:
    def plant(place: Place) -> list[str]:
        from deeplabx.dataset.fake import write_fake

        write_fake("voc", place.inside / "voc", images=2, seed=0)
        for path in (place.inside / "voc/benchmark_RELEASE/dataset/cls").iterdir():
            write(path, place)
        return [
            "train",
            *SMALL,
            "dataset=voc",
            "dataset.root=voc",
            "dataset.train_split=train_aug",
            "schedule.max_iters=2",
        ]  # every label is read

    CANARIES.append(Canary(f"{name} as one of SBD's .mat files", plant))


def mat_of_objects(path: Path, place: Place) -> None:
    import numpy as np
    from scipy.io import savemat

    cells = np.array([[b"\x80\x04" + pickle.dumps(Bomb(place.marker))]], dtype=object)
    savemat(path, {"GTcls": {"Segmentation": cells, "Boundaries": 0}})


def mat_of_2_40_pixels(path: Path, place: Place) -> None:
    """A matrix whose header says 2^20 x 2^20, with no data behind it."""
    array = (
        struct.pack("<IIII", 6, 8, 9, 0)
        + struct.pack("<IIii", 5, 8, 1 << 20, 1 << 20)
        + struct.pack("<HH4s", 1, 4, b"GTcl")
    )
    data = array + struct.pack("<II", 2, 1 << 30)
    path.write_bytes(
        b"MATLAB 5.0 MAT-file".ljust(124)
        + struct.pack("<H2s", 0x0100, b"IM")
        + struct.pack("<II", 14, len(data))
        + data
    )


sbd("a pickle", lambda path, place: path.write_bytes(pickle.dumps(Bomb(place.marker))))
sbd("an .npy of objects", lambda path, place: path.write_bytes(npy_of_objects(place)))
sbd("cells of objects", mat_of_objects)
sbd("2^40 pixels", mat_of_2_40_pixels)


# --- names, lists and links ---------------------------------------------------------------------------------


def split_list(name: str, content: str | bytes, accepted: str = "") -> None:
    def plant(place: Place) -> list[str]:
        root = place.folder_set()
        for kind in ("images", "masks"):
            for path in list((root / kind / "train").iterdir()):
                path.rename(root / kind / path.name)
            (root / kind / "train").rmdir()
        place.write("data/train.txt", content)
        return ["train", *SMALL, "dataset=folder", "dataset.root=data"]

    CANARIES.append(Canary(f"{name} in a split's list", plant, accepted))


split_list("a name that leads out", "../../outside/decoy.txt\n")
split_list("an absolute name", "/etc/passwd\n")
split_list("a NUL", "a\0b\n")
split_list("a name of 10^5 letters", "x" * 100_000 + "\n")
split_list("bytes", bytes(range(256)))
split_list("a name that moves the cursor", "\x1b[2J\x1b]0;owned\x07\n")
split_list("a name that begins with a dash", "--config-dir=/\n")
split_list("a glob", "**/*\n")


def voc_list(name: str, content: str | bytes) -> None:
    def plant(place: Place) -> list[str]:
        from deeplabx.dataset.fake import write_fake

        write_fake("voc", place.inside / "voc", images=2, seed=0)
        place.write("voc/VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt", content)
        return ["train", *SMALL, "dataset=voc", "dataset.root=voc", "dataset.train_split=train"]

    CANARIES.append(Canary(f"{name} in VOC's list", plant))


voc_list("a name that leads out", "../../../../outside/decoy\n")
voc_list("a name of 10^5 letters", "x" * 100_000 + "\n")
voc_list("a NUL", "a\0b\n")


@canary("an image that is a link to /etc/passwd")
def linked_image(place: Place) -> list[str]:
    root = place.folder_set()
    for path in (root / "images/train").iterdir():
        path.unlink()
        path.symlink_to("/etc/passwd")
    return ["train", *SMALL, "dataset=folder", "dataset.root=data"]


@canary("a mask that is a link to /etc/passwd")
def linked_mask(place: Place) -> list[str]:
    root = place.folder_set()
    for path in (root / "masks/train").iterdir():
        path.unlink()
        path.symlink_to("/etc/passwd")
    return ["train", *SMALL, "dataset=folder", "dataset.root=data"]


@canary(
    "an image that is a link to an image elsewhere",
    accepted="data sets are often folders of links; it is only read",
)
def linked_elsewhere(place: Place) -> list[str]:
    place.copy_of_run()
    image(place.outside / "theirs.png")
    (place.inside / "photo.png").symlink_to(place.outside / "theirs.png")
    return ["predict", "ckpt=run", "input=photo.png", "out=out", "trainer.devices=cpu"]


@canary("an overlay's place that is a link")
def linked_overlay(place: Place) -> list[str]:
    place.copy_of_run()
    (place.inside / "photos").mkdir()
    image(place.inside / "photos/a.jpg")
    (place.inside / "photos/a_overlay.png").symlink_to(place.outside / "new.png")
    return ["predict", "ckpt=run", "input=photos", "out=photos", "trainer.devices=cpu"]


def linked_in_run(name: str, *, folder: bool = False) -> None:
    def plant(place: Place) -> list[str]:
        place.checkpoint()
        path = place.inside / "run" / name
        elsewhere = place.outside / "theirs"
        if folder:
            shutil.move(path, elsewhere)
        else:
            elsewhere.write_bytes(path.read_bytes() if path.is_file() else b"theirs\n")
            path.unlink(missing_ok=True)
        path.symlink_to(elsewhere)
        return meet(place, "resume")

    CANARIES.append(Canary(f"{name} of a resumed run that is a link", plant))


for file in (
    "config.yaml",
    "overrides.yaml",
    "environment.json",
    "train.log",
    "metrics.jsonl",
    "result.json",
    "checkpoints/last.json",
    "error.log",
):
    linked_in_run(file)
for file in ("checkpoints", "samples", "tensorboard", "checkpoints/step-00000001"):
    linked_in_run(file, folder=True)


def named(name: str, file: str, content: bytes | None = None, accepted: str = "") -> None:
    def plant(place: Place) -> list[str]:
        place.copy_of_run()
        (place.inside / "photos").mkdir()
        path = place.inside / "photos" / file
        if content is None:
            image(path, format="PNG")
        else:
            path.write_bytes(content)
        return ["predict", "ckpt=run", "input=photos", "out=out", "trainer.devices=cpu"]

    CANARIES.append(Canary(f"an image whose name {name}", plant, accepted))


named("has a newline", "a\nb.png", b"no image")
named("moves the cursor", "\x1b[2J\x1b]0;owned\x07.png", b"no image")
named("is no UTF-8", os.fsdecode(b"\xff\xfe.png"), b"no image")
named("begins with a dash", "--config-dir.png", accepted="it is a name like another")
named("is a command", "$(touch RAN);`touch RAN`.png", accepted="it is a name like another; no shell sees it")


# --- meeting them -------------------------------------------------------------------------------------------


def made_run(folder: Path) -> Path:
    """A finished tiny run, which the canaries take copies of."""
    os.environ["MPLCONFIGDIR"] = str(folder / "matplotlib")  # its list of fonts, made once
    command = [sys.executable, "-m", "deeplabx", "train", *TINY, "hydra.run.dir=run"]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"no run to plant canaries in: {done.stderr}")
    return folder / "run"


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}


def snapshot(folder: Path) -> dict[str, str]:
    """Every file, folder and link below a folder, and what it holds."""
    found = {}
    for path in sorted(folder.rglob("*")):
        held = (
            path.read_bytes()
            if path.is_file()
            else str(path.readlink()).encode()
            if path.is_symlink()
            else b"folder"
        )
        found[str(path.relative_to(folder))] = hashlib.sha256(held).hexdigest()
    return found


def sent(found: Canary, work: Path, run: Path) -> int:
    """Plant a canary and run its command in a process of its own; its id."""
    place = Place(work / "inside", work / "outside", run)
    for folder in (place.inside, place.outside):
        folder.mkdir(parents=True)
    (place.outside / "decoy.txt").write_text("decoy\n")
    process = os.fork()
    if process == 0:
        alone(found, place, work)
    return process


def came_back(found: Canary, work: Path, code: int, seconds: float) -> Met:
    """What a canary's process has left."""
    place = Place(work / "inside", work / "outside", work)
    answer = (work / "stderr").read_bytes().decode(errors="backslashreplace")
    before = json.loads((work / "before.json").read_text()) if (work / "before.json").is_file() else {}
    after = snapshot(place.outside)
    changed = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    executed = "RAN" in after or bool(list(place.inside.rglob("RAN")))
    unclear = "not planted" if not before else wrong_answer(code, answer, accepted=bool(found.accepted))
    return Met(found.name, executed, changed, unclear, code, answer, seconds)


def wrong_answer(code: int, answer: str, *, accepted: bool) -> str:
    """What is wrong with an answer, or nothing."""
    last = answer[answer.rfind("deeplabx: ") :] if "deeplabx: " in answer else answer
    if "Traceback" in answer:
        return "a traceback"
    if "a bug of ours" in answer:
        return "a bug of ours"
    if accepted and code == 0:
        return ""
    if code not in (2, 3, 4):
        return f"exit code {code}"
    if not last.startswith("deeplabx: ") or not 1 <= len(last.splitlines()) <= 3:
        return f"{len(last.splitlines())} lines"
    if len(last) > LONGEST_ANSWER:
        return f"{len(last)} characters"
    if any(not character.isprintable() and character != "\n" for character in last):
        return "control characters"
    return ""


def alone(found: Canary, place: Place, work: Path) -> None:
    """In the canary's own process: limits, the plant, the command. Never returns."""
    code = 99
    try:
        sys.stdout.flush()
        os.dup2(os.open(work / "stdout", os.O_WRONLY | os.O_CREAT), 1)
        os.dup2(os.open(work / "stderr", os.O_WRONLY | os.O_CREAT), 2)
        os.chdir(place.inside)
        os.environ.update(HOME=str(place.outside), TMPDIR=str(place.inside))
        line = found.plant(place)
        (work / "before.json").write_text(json.dumps(snapshot(place.outside)))
        signal.alarm(SECONDS)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
        from deeplabx import cli

        with contextlib.suppress(KeyboardInterrupt):
            cli.main(line)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:  # noqa: BLE001 - it is what is looked for
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def warm_up() -> None:
    """Import what the commands import, once for all; nothing is computed, because a process with threads must
    not fork.
    """
    import torch

    import deeplabx.evaluate
    import deeplabx.predict
    import deeplabx.train  # noqa: F401
    from deeplabx import apps  # noqa: F401

    with contextlib.suppress(ImportError):
        from torch.utils.tensorboard import SummaryWriter  # noqa: F401
    torch.set_num_threads(1)


def meet_all(work: Path, chosen: list[Canary]) -> list[Met]:
    run = made_run(work)
    warm_up()
    waiting = [(found, work / f"{number:03d}") for number, found in enumerate(chosen)]
    flying: dict[int, tuple[Canary, Path, float]] = {}
    results = []
    while waiting or flying:
        while waiting and len(flying) < AT_ONCE:
            found, folder = waiting.pop(0)
            flying[sent(found, folder, run)] = found, folder, time.perf_counter()
        process, status = os.wait()
        found, folder, started = flying.pop(process)
        results.append(
            came_back(found, folder, os.waitstatus_to_exitcode(status), time.perf_counter() - started)
        )
        if not (results[-1].executed or results[-1].escaped or results[-1].unclear):
            shutil.rmtree(folder)
    return results


def canaries(work: Path, short: bool) -> Measured:
    """In a process of its own, whose children meet one canary each."""
    command = [sys.executable, "-m", "benchmarks.chaos.canaries", str(work), "short" if short else "all"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        return Measured(f"the canaries were not met: {done.stderr[-300:]}", False)
    results = [Met(*values) for values in json.loads((work / "met.json").read_text())]
    executed = [found.name for found in results if found.executed]
    escaped = [found.name for found in results if found.escaped]
    unclear = [f"{found.name} ({found.unclear})" for found in results if found.unclear]
    words = (
        f"{len(results)} canaries: {len(executed)} executed, {len(escaped)} escaped, {len(unclear)} "
        "without a clear answer"
    )
    for kind, names in (("executed", executed), ("escaped", escaped), ("unclear", unclear)):
        if names:
            words += f"; {kind}: {', '.join(names[:3])}"
    return Measured(words, not (executed or escaped or unclear))


ROWS = [
    Row(
        17,
        "malicious checkpoint, config, archive, image, split list (>= 25 canaries)",
        "0 executed, 0 escaped",
        canaries,
    )
]

if __name__ == "__main__":
    place_of_work = Path(sys.argv[1]).resolve()
    wanted = sys.argv[2]
    picked = (
        CANARIES
        if wanted == "all"
        else CANARIES[::SHORT]
        if wanted == "short"
        else [one for one in CANARIES if wanted in one.name]
    )
    (place_of_work / "met.json").write_text(json.dumps(meet_all(place_of_work, picked), indent=1))
