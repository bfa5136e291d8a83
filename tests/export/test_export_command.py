"""`deeplabx export`, and what eval and predict make of its files, on a network of four convolutions."""

import hashlib
import json
import runpy
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import deeplabx
from deeplabx import registry
from deeplabx.command import export
from deeplabx.engine.checkpoint import fingerprint
from deeplabx.engine.checkpoint_folder import exported_file
from deeplabx.errors import CheckpointError, ConfigError
from deeplabx.export import deployed as deploying
from deeplabx.export import parity
from deeplabx.export.onnx_file import OnnxNetwork
from deeplabx.export.openvino_file import openvino_model, write_openvino
from deeplabx.run.exported import ExportedFile
from tests.conftest import Deeplabx
from tests.export.networks import register_slim, write_slim

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.fixture(scope="module", autouse=True)
def slim() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.OPTIONS, "backbone", dict(registry.OPTIONS["backbone"]))
        register_slim()
        yield


@pytest.fixture(scope="module")
def checkpoint(slim: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_slim(tmp_path_factory.mktemp("slim") / "checkpoint")


@pytest.fixture(scope="module")
def exported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ONNX of logits and its int8 file; untrained weights may lose what they want."""
    out = tmp_path_factory.mktemp("exported") / "onnx"
    return deeplabx.export_model(checkpoint, out, ["int8=true", "max_loss=1", "calibration_images=2"])


@pytest.fixture(scope="module")
def graph(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """torch.export of ids."""
    out = tmp_path_factory.mktemp("exported") / "graph"
    return deeplabx.export_model(checkpoint, out, ["format=torch_export", "output=ids"])


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (37, 51, 3), dtype=np.uint8)


def record_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "export.json").read_text())


def test_the_record_holds_the_proof(exported: Path) -> None:
    record = record_of(exported)
    handed_over = {"classes.json", "model_card.md", "predict.py"}
    assert set(record["files"]) == {"model.onnx", "model_int8.onnx", *handed_over}
    proof, int8 = record["proofs"]
    assert len(proof["images"]) == 7  # five sizes, and the two images of the split
    assert max(one["logits"] for one in proof["images"]) < 1e-4
    split = proof["split"]
    assert abs(split["miou_lost"]) < 1e-4
    assert split["model"]["confusion_sha256"] == split["file"]["confusion_sha256"]
    assert int8["precision"] == "int8"
    assert int8["calibration"]["images"] == [0, 1] or len(int8["calibration"]["images"]) == 2
    assert set(record["latency"]["variants"]) == {"torch", "model.onnx", "model_int8.onnx"}
    assert record["provenance"]["checkpoint_sha256"]


def test_the_file_says_what_it_is_and_has_free_sizes(exported: Path, checkpoint: Path) -> None:
    model = onnx.load(exported / "model.onnx")
    said = {one.key: json.loads(one.value) for one in model.metadata_props}
    description = json.loads((checkpoint / "config.json").read_text())
    assert said["deeplabx.classes"] == description["classes"]
    assert said["deeplabx.palette"] == description["palette"]
    assert said["deeplabx.preprocessing"]["mean"] == description["preprocess"]["mean"]
    assert said["deeplabx.description"] == description
    sizes = [
        [one.dim_param or one.dim_value for one in value.type.tensor_type.shape.dim]
        for value in (model.graph.input[0], model.graph.output[0])
    ]
    classes = len(description["classes"])
    assert sizes == [["batch", "height", "width", 3], ["batch", classes, "height", "width"]]
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)  # no local paths


def test_onnxruntime_alone_gives_the_models_logits(
    exported: Path, checkpoint: Path, image: np.ndarray
) -> None:
    session = onnxruntime.InferenceSession(exported / "model.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"images": image[None]})
    model = deeplabx.load(checkpoint)
    with torch.no_grad():
        expected = model(model.preprocess(image)).numpy()
    assert np.allclose(found, expected, atol=1e-5)


def test_what_is_handed_over_needs_no_torch_and_gives_the_same_ids(
    exported: Path, checkpoint: Path, image: np.ndarray, tmp_path: Path
) -> None:
    Image.fromarray(image).save(tmp_path / "photo.png")
    runpy.run_path(str(exported / "predict.py"))["main"]([str(tmp_path / "photo.png")])
    found = np.array(Image.open(tmp_path / "photo.png.ids.png"))
    np.testing.assert_array_equal(found, next(deeplabx.predict(checkpoint, image)))
    classes = json.loads((exported / "classes.json").read_text())["classes"]
    assert [one["name"] for one in classes] == json.loads((checkpoint / "config.json").read_text())["classes"]


def test_the_model_card_has_each_file_with_its_hash_and_mIoU(exported: Path) -> None:  # noqa: N802
    card, record = (exported / "model_card.md").read_text(), record_of(exported)
    for name, proof in zip(("model.onnx", "model_int8.onnx"), record["proofs"], strict=True):
        measured = proof["split"]["file"]
        assert hashlib.sha256((exported / name).read_bytes()).hexdigest() in card
        assert f"| {name} | {measured['miou']:.4f} |" in card
        assert measured["confusion_sha256"] in card
    assert str(exported.parent) not in card


def test_eval_of_the_file_is_eval_of_the_run(exported: Path, checkpoint: Path, deeplabx: Deeplabx) -> None:
    file = deeplabx("eval", str(exported / "model.onnx"), "trainer.devices=cpu")
    run = deeplabx("eval", str(checkpoint), "trainer.devices=cpu")
    assert file.code == run.code == 0
    assert "onnxruntime" in file.err
    assert "CPUExecutionProvider" in file.err

    def numbers(out: str) -> list[str]:
        return out.splitlines()[2:-2]

    assert numbers(file.out) == numbers(run.out)


@pytest.mark.parametrize("settings", [[], ["eval.scales=[0.5,1.0]", "eval.flip=true"], ["eval.window=32"]])
def test_predict_takes_the_file(
    exported: Path, checkpoint: Path, image: np.ndarray, settings: list[str]
) -> None:
    (found,) = deeplabx.predict(exported / "model.onnx", image, settings)
    (expected,) = deeplabx.predict(checkpoint, image, [*settings, "trainer.devices=cpu"])
    assert (found == expected).mean() > 0.999


def test_openvino_reads_the_same_network(exported: Path, tmp_path: Path, image: np.ndarray) -> None:
    pytest.importorskip("openvino")
    metadata = ExportedFile(exported / "model.onnx").metadata
    path = tmp_path / "model.xml"
    write_openvino(openvino_model(exported / "model.onnx"), path, metadata)
    assert ExportedFile(path).metadata == metadata
    (found,), (expected,) = (
        deeplabx.predict(one, image, ["eval.flip=true"]) for one in (path, exported / "model.onnx")
    )
    assert (found == expected).mean() > 0.999


def test_another_xml_file_is_refused_before_openvino_reads_it(tmp_path: Path, image: np.ndarray) -> None:
    pytest.importorskip("openvino")
    (tmp_path / "model.bin").touch()
    for content in (b"nothing", b"<html/>", b"<?xml version='1.0'?><html/>"):
        (tmp_path / "model.xml").write_bytes(content)
        with pytest.raises(CheckpointError, match="is not an OpenVINO file"):
            deeplabx.predict(tmp_path / "model.xml", image)


def test_a_graph_of_ids_predicts_and_refuses_what_needs_scores(
    graph: Path, checkpoint: Path, image: np.ndarray
) -> None:
    (found,) = deeplabx.predict(graph, image)
    (expected,) = deeplabx.predict(checkpoint, image, ["trainer.devices=cpu"])
    assert np.array_equal(found, expected)
    for wrong in ("eval.flip=true", "eval.window=32", "eval.crf=true", "eval.scales=[2.0]"):
        with pytest.raises(ConfigError, match=r"needs logits, but .*model.pt2 gives ids"):
            deeplabx.predict(graph, image, [wrong])


@pytest.mark.parametrize(
    "typed", ["backbone.output_stride=16", "model.align_corners=false", "trainer.precision=bf16"]
)
def test_a_graph_cannot_be_changed(exported: Path, typed: str) -> None:
    with pytest.raises(ConfigError, match=rf"{typed}, but .*model.onnx is a graph"):
        deeplabx.evaluate(exported / "model.onnx", [typed])


def test_a_folder_of_two_files_is_ambiguous(exported: Path, graph: Path) -> None:
    assert exported_file(str(graph)) == graph / "model.pt2"
    with pytest.raises(CheckpointError, match=r"holds 2 exported files: model.onnx, model_int8.onnx"):
        exported_file(str(exported))


def test_weights_alone_are_loaded_into_a_network(checkpoint: Path, tmp_path: Path, image: np.ndarray) -> None:
    out = deeplabx.export_model(checkpoint, tmp_path / "weights", ["format=safetensors"])
    (found,), (expected,) = (deeplabx.predict(one, image) for one in (out, checkpoint))
    assert np.array_equal(found, expected)
    assert deeplabx.load(out).classes == deeplabx.load(checkpoint).classes


def test_a_graph_is_no_torch_module_to_load(exported: Path) -> None:
    with pytest.raises(ConfigError, match=r"model.onnx is a graph, not a torch module"):
        deeplabx.load(exported / "model.onnx")


def test_nothing_that_is_handed_over_holds_a_path_of_this_machine(
    checkpoint: Path, tmp_path: Path, deeplabx: Deeplabx
) -> None:
    (tmp_path / "data").mkdir()
    root, weights = str(tmp_path / "data"), str(tmp_path / "weights.safetensors")
    own = tmp_path / "own"
    shutil.copytree(checkpoint, own)
    config = json.loads((own / "config.json").read_text())
    config["config"]["init_from"] = config["config"]["backbone"]["weights"] = weights
    (own / "config.json").write_text(json.dumps(config))
    (own / "MANIFEST.json").write_text(
        json.dumps({one.name: fingerprint(one) for one in own.iterdir() if one.name != "MANIFEST.json"})
    )
    ended = deeplabx(
        "export", "own", "format=safetensors", f"dataset.root={root}", "check_split=false", "out=x"
    )
    assert f"deeplabx eval {tmp_path / 'x'} dataset.root={root} " in ended.out
    assert len(list((tmp_path / "x").iterdir())) == 4
    for one in (tmp_path / "x").iterdir():
        assert str(tmp_path).encode() not in one.read_bytes(), one.name
    stored = ExportedFile(tmp_path / "x" / "model.safetensors").description["config"]
    assert stored["backbone"]["weights"] == "weights.safetensors"
    assert stored["dataset"]["root"] is None


def test_an_exchanged_file_is_refused(exported: Path, tmp_path: Path, image: np.ndarray) -> None:
    folder = tmp_path / "x"
    shutil.copytree(exported, folder)
    shutil.copyfile(exported / "model_int8.onnx", folder / "model.onnx")
    with pytest.raises(CheckpointError, match=r"model.onnx: checksum mismatch: export.json beside it"):
        deeplabx.predict(folder / "model.onnx", image)
    (folder / "export.json").unlink()  # a file alone is not compared
    assert list(deeplabx.predict(folder / "model.onnx", image))


def test_metadata_that_contradicts_itself_is_refused(
    exported: Path, tmp_path: Path, image: np.ndarray
) -> None:
    model = onnx.load(exported / "model.onnx")
    (classes,) = (one for one in model.metadata_props if one.key == "deeplabx.classes")
    classes.value = json.dumps(["a", "b"])
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(CheckpointError, match="two different values of classes"):
        deeplabx.predict(tmp_path / "model.onnx", image)


def test_a_graph_of_other_classes_is_refused(exported: Path, tmp_path: Path, image: np.ndarray) -> None:
    model = onnx.load(exported / "model.onnx")
    for kind, words in (("UINT8", "not what its metadata says"), ("FLOAT", r"gives torch.float32 \(1, 3, ")):
        number = getattr(onnx.TensorProto, kind)
        del model.graph.node[:], model.graph.initializer[:], model.graph.output[:], model.graph.value_info[:]
        nodes = [
            onnx.helper.make_node("Transpose", ["images"], ["turned"], perm=[0, 3, 1, 2]),
            onnx.helper.make_node("Cast", ["turned"], ["out"], to=number),
        ]
        model.graph.node.extend(nodes)
        model.graph.output.append(onnx.helper.make_tensor_value_info("out", number, None))
        onnx.save(model, tmp_path / "model.onnx")
        with pytest.raises(CheckpointError, match=words):
            list(deeplabx.predict(tmp_path / "model.onnx", image))


def test_an_onnx_file_that_needs_too_much_memory_says_so(exported: Path, tmp_path: Path) -> None:
    model = onnx.load(exported / "model.onnx")
    del model.graph.node[:], model.graph.initializer[:], model.graph.output[:], model.graph.value_info[:]
    shape = onnx.numpy_helper.from_array(np.array([1, 10**7, 10**7]), "shape")
    model.graph.initializer.append(shape)
    model.graph.node.append(onnx.helper.make_node("ConstantOfShape", ["shape"], ["out"]))
    model.graph.output.append(onnx.helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, None))
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(MemoryError, match=r"Failed to allocate 4\d+ bytes"):
        OnnxNetwork(tmp_path / "model.onnx")(torch.zeros(1, 9, 9, 3, dtype=torch.uint8))


def test_the_logits_behind_a_graph_of_ids_are_compared(
    checkpoint: Path, tmp_path: Path, deeplabx: Deeplabx, monkeypatch: pytest.MonkeyPatch
) -> None:
    def one_class(model: nn.Module, *arguments: Any, **settings: Any) -> deploying.Deployed:
        found = deploying.deployed(model, *arguments, **settings)
        own: Any = found.model
        first = own.backbone.stages[0]
        first.weight.data = first.weight.data.flip(1)
        return found

    monkeypatch.setattr(export, "deployed", one_class)
    monkeypatch.setattr(parity, "EQUAL_IDS", 0.0)  # as where both predict one class everywhere
    ended = deeplabx(
        "export", str(checkpoint), "format=torch_export", "output=ids", "check_split=false", "out=exported"
    )
    assert ended.code == 4
    assert "the file's graph differs from the model" in ended.err
    assert "its logits by" in ended.err


def test_train_and_export_refuse_an_exported_file(graph: Path, deeplabx: Deeplabx) -> None:
    ended = deeplabx("export", str(graph))
    assert ended.code == 4
    assert "is an exported file" in ended.err
    ended = deeplabx("train", f"init_from={graph}", "schedule.max_iters=1")
    assert ended.code == 4
    assert "is an exported file" in ended.err


@pytest.mark.parametrize("fault", ["align_corners", "channels"])
def test_a_planted_fault_is_exit_4_and_leaves_no_file(
    checkpoint: Path, fault: str, deeplabx: Deeplabx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def faulty(model: nn.Module, *arguments: Any, **settings: Any) -> deploying.Deployed:
        found = deploying.deployed(model, *arguments, **settings)
        own: Any = found.model
        if fault == "align_corners":
            own.align_corners = False
        else:
            first = own.backbone.stages[0]
            first.weight.data = first.weight.data.flip(1)
        return found

    monkeypatch.setattr(export, "deployed", faulty)
    ended = deeplabx("export", str(checkpoint), "format=torch_export", "out=exported")
    assert ended.code == 4
    assert "model.pt2 differs from the model at one pixel above a stride" in ended.err
    assert not list(tmp_path.iterdir())


def test_without_the_data_set_it_says_so(
    checkpoint: Path, deeplabx: Deeplabx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = deeplabx("export", str(checkpoint), "format=safetensors", "out=a", "check_split=false")
    assert "not evaluated on a split: check_split=false" in ended.out
    assert record_of(tmp_path / "a")["proofs"][0]["not_evaluated"] == "check_split=false"
    assert f"deeplabx eval {tmp_path / 'a'} dataset.root=PATH " in ended.out
    assert len({one.stat().st_mode for one in (tmp_path / "a").iterdir()}) == 1  # all can be read
    assert "Measured on" not in (tmp_path / "a" / "model_card.md").read_text(encoding="utf-8")
    ended = deeplabx("export", str(checkpoint), "int8=true", "check_split=false")
    assert ended.code == 2
    ended = deeplabx("export", str(checkpoint), "format=safetensors", "out=b", "dataset.root=/nowhere")
    assert "stored in" not in ended.err  # it was typed


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["format=tflite"], "format=tflite is not one of onnx, torch_export, openvino, safetensors"),
        (["format=torch_export", "int8=true"], "int8=true, but format=torch_export has no int8 file"),
        (["format=safetensors", "output=ids"], "holds weights alone"),
        (["trainer.precision=bf16"], "files are exported in float32"),
        (["int8=true", "dataset.split=train"], "must be measured on others"),
        (["max_loss=2"], "max_loss=2.0 is out of range"),
    ],
)
def test_mistakes_are_exit_2(checkpoint: Path, deeplabx: Deeplabx, settings: list[str], words: str) -> None:
    ended = deeplabx("export", str(checkpoint), *settings)
    assert ended.code == 2
    assert words in ended.err


def test_a_taken_folder_is_refused(checkpoint: Path, deeplabx: Deeplabx, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("")
    assert deeplabx("export", str(checkpoint), "format=safetensors", "out=taken").code == 2
    assert [one.name for one in (tmp_path / "taken").iterdir()] == ["mine.txt"]


def test_an_onnx_file_of_another_program_is_refused(
    exported: Path, deeplabx: Deeplabx, tmp_path: Path
) -> None:
    model = onnx.load(exported / "model.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "theirs.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"nothing")
    Image.new("RGB", (9, 9)).save(tmp_path / "photo.png")
    ended = deeplabx("predict", "theirs.onnx", "photo.png")
    assert ended.code == 4
    assert "deeplabx export did not write it" in ended.err
    ended = deeplabx("predict", "broken.onnx", "photo.png")
    assert ended.code == 4
    assert "cannot be read as ONNX" in ended.err
