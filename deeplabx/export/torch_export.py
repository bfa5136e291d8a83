"""torch.export: the network as a graph that torch runs without its Python code; for AOTInductor, ExecuTorch
and C++.
"""

import io
import json
import re
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.export.passes import move_to_device_pass

from deeplabx.errors import CheckpointError, printable
from deeplabx.export.metadata import Metadata

NOTES = "deeplabx.json"  # among the file's extra files
KEPT = ("val",)  # of what torch notes of each node: the rest are paths and lines of source code
# The entries of a file of ours, below its one folder. torch reads others too, some of them as pickles.
ENTRIES = re.compile(
    r"(\.data/)?\.?\w+|models/model\.json|extra/deeplabx\.json|data/sample_inputs/model\.pt"
    r"|data/weights/(model_weights_config\.json|weight_\d+)"
    r"|data/constants/(model_constants_config\.json|tensor_\d+)"
)
# What a graph of ours calls. torch looks a target up by its name in all of torch and of operator, so others
# could run code; from_file creates files.
TARGETS = re.compile(
    r"torch\.ops\.aten\.(?!from_file\b)\w+\.\w+|math\.\w+|torch\.(_?sym_\w+)"
    r"|_operator\.(add|sub|mul|floordiv|truediv|mod|pow|neg|pos|eq|ne|le|ge|lt|gt|and_|or_)"
)
SYMPY = re.compile(r"(Symbol\('\w+'(, \w+=True)*\)|[A-Z]\w*(?=\()|[-\d.]+|int_oo|[\s(),+*/-])*")
TREE = re.compile(r'[\w\s"\[\]{},:.-]*')
IDENTIFIER = re.compile(r"[\w.+-]*")


def write_torch_export(program: ExportedProgram, path: Path, metadata: Metadata) -> None:
    for node in program.graph.nodes:
        node.meta = {key: value for key, value in node.meta.items() if key in KEPT}
    program._guards_code = []  # of sizes that were traced; code, which a reader would have to run
    torch.export.save(program, path, extra_files={NOTES: json.dumps(metadata.to_texts())})


def torch_export_texts(path: Path) -> dict[str, str]:
    """The metadata of a torch.export file, as texts."""
    with archive(path) as found:
        names = [name for name in found.namelist() if name.endswith(f"/extra/{NOTES}")]
        texts = as_json(found, names[0]) if names else {}
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise CheckpointError(f"{path}: {NOTES} in it is not a table of texts")
    return texts


def archive(path: Path) -> zipfile.ZipFile:
    """The file as an archive of the entries that ours have. Raises CheckpointError."""
    try:
        found = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise CheckpointError(f"{path} cannot be read as a torch.export file: {error}") from None
    try:
        refuse_entries(path, found.infolist())
    except CheckpointError:
        found.close()
        raise
    return found


def refuse_entries(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    """Raise CheckpointError for an entry that no file of ours has, for names that torch does not tell apart
    (it ignores case and takes the first), and for contents larger than the file.
    """
    names = [entry.filename for entry in entries]
    for entry in entries:
        if not ENTRIES.fullmatch(entry.filename.partition("/")[2]) or entry.compress_type:
            raise CheckpointError(
                f"{path} holds {printable(entry.filename, 100)}, which deeplabx export does not write"
            )
    if len({name.lower() for name in names}) < len(names) or len({name.split("/")[0] for name in names}) > 1:
        raise CheckpointError(f"{path} holds two entries of one name, or two folders")
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise CheckpointError(f"{path} holds more bytes than it has")


def as_json(found: zipfile.ZipFile, name: str) -> Any:
    try:
        return json.loads(found.read(name))
    except (ValueError, RecursionError, zipfile.BadZipFile, OSError) as error:
        raise CheckpointError(f"{found.filename}: {name} cannot be read: {error}") from None


class TorchExportNetwork(nn.Module):
    """A torch.export file, called as the model that it was exported from. Ids are N x 1 x H x W."""

    def __init__(self, path: Path, *, device: torch.device) -> None:
        super().__init__()
        refuse_code(path)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch's own, of its pytree
                program = torch.export.load(path)
        except Exception as error:  # noqa: BLE001 - a damaged file raises errors of any kind
            words = " ".join(str(error).split())[:200]
            raise CheckpointError(f"{path} cannot be read as a torch.export file: {words}") from None
        if device.type != "cpu":
            program = move_to_device_pass(program, device)
        self.graph = (program.module(check_guards=False),)  # a tuple: it cannot be set to training mode
        self.runs_in = f"torch {torch.__version__}, {device.type}, {torch.get_num_threads()} threads"

    def forward(self, images: Tensor) -> Tensor:
        output = self.graph[0](images)
        return output if output.ndim == 4 else output[:, None]

    def give_logits(self) -> None:
        """Have a graph of ids return the logits that it computes them from."""
        module: Any = self.graph[0]
        (largest,) = module.graph.find_nodes(op="call_function", target=torch.ops.aten.argmax.default)
        (output,) = module.graph.find_nodes(op="output")
        output.args = ((largest.args[0],),)
        module.recompile()


# --- a file as data -----------------------------------------------------------------------------------------


def refuse_code(path: Path) -> None:
    """Raise CheckpointError unless a file is plain data and a graph of torch's own operators.

    torch.export.load unpickles what an archive marks as pickled, calls what the graph names, and evaluates
    texts: what a file of ours needs is allowed, and nothing else.
    """
    with archive(path) as found:
        for name in found.namelist():
            inside = name.partition("/")[2]
            if inside.startswith("data/sample_inputs/"):
                refuse_pickle(path, found.read(name))
            if inside.endswith("_config.json"):
                refuse_marked(path, as_json(found, name))
            if inside.startswith("models/"):
                for key, text in texts_of(as_json(found, name)):
                    refuse_text(path, key, text)
        if not any(name.partition("/")[2] == "models/model.json" for name in found.namelist()):
            raise CheckpointError(f"{path} is not a torch.export file: it has no models/model.json")


def refuse_pickle(path: Path, content: bytes) -> None:
    try:
        torch.load(io.BytesIO(content), weights_only=True)
    except Exception as error:  # noqa: BLE001 - whatever a damaged or hostile pickle raises
        raise CheckpointError(
            f"{path}: its sample inputs could run code: {printable(str(error), 100)}"
        ) from None


def refuse_marked(path: Path, table: Any) -> None:
    entries = table.get("config") if isinstance(table, dict) else None
    plain = isinstance(entries, dict) and all(
        isinstance(entry, dict)
        and entry.get("use_pickle") is False
        and IDENTIFIER.fullmatch(str(entry.get("path_name")))
        and str(entry.get("path_name")).startswith(("weight_", "tensor_"))
        for entry in entries.values()
    )
    if not plain:
        raise CheckpointError(f"{path} holds pickled objects, which could run code")


def texts_of(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text below a JSON value, and every key, with the key that it belongs to."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, one in value.items():
            yield "", name
            yield from texts_of(one, name)
    elif isinstance(value, list):
        for one in value:
            yield from texts_of(one, key)


def refuse_text(path: Path, key: str, text: str) -> None:
    allowed = {"target": TARGETS, "as_operator": TARGETS, "expr_str": SYMPY, "treespec": TREE}
    allowed |= {"in_spec": TREE, "out_spec": TREE}
    pattern = allowed.get(key, IDENTIFIER)
    if not pattern.fullmatch(text) or (key in ("target", "expr_str") and ".__" in f".{text}"):
        raise CheckpointError(f"{path}: {key or 'a name'} in its graph is not plain: {printable(text, 100)}")
