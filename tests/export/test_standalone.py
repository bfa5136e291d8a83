"""The script that is handed over, run on a network that is written by hand."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

SCRIPT = Path(__file__).parents[2] / "deeplabx" / "export" / "standalone.py"
PALETTE = [(0, 0, 0), (10, 20, 30), (255, 255, 255)]
WEIGHT = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)  # the class is the strongest channel
MEAN, STD = [100.0, 90.0, 80.0], [50.0, 60.0, 70.0]


def write_model(
    folder: Path,
    *,
    inside: bool = True,
    output: str = "logits",
    least: tuple[int, int] = (1, 1),
    channels: str = "RGB",
) -> None:
    """model.onnx and predict.py: a 1x1 convolution of the normalised image."""
    helper, types = onnx.helper, onnx.TensorProto
    nodes, image = [], "image"
    if inside:
        nodes = [
            helper.make_node("Cast", ["image"], ["pixels"], to=types.FLOAT),
            helper.make_node("Sub", ["pixels", "mean"], ["centred"]),
            helper.make_node("Div", ["centred", "std"], ["scaled"]),
            helper.make_node("Transpose", ["scaled"], ["normalised"], perm=[0, 3, 1, 2]),
        ]
        image = "normalised"
    nodes.append(helper.make_node("Conv", [image, "weight"], ["logits"]))
    if output == "ids":
        nodes.append(helper.make_node("ArgMax", ["logits"], ["ids"], axis=1, keepdims=0))
    shape = ["N", "H", "W", 3] if inside else ["N", 3, "H", "W"]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("image", types.UINT8 if inside else types.FLOAT, shape)],
        [helper.make_tensor_value_info(output, types.INT64 if output == "ids" else types.FLOAT, None)],
        [
            onnx.numpy_helper.from_array(np.array(value, np.float32), name)
            for name, value in (("mean", MEAN), ("std", STD), ("weight", WEIGHT[..., None, None]))
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    about = {
        "preprocessing": {
            "inside": inside,
            "channels": channels,
            "mean": MEAN,
            "std": STD,
            "pad_pixel": [100, 90, 80],
            "least_size": least,
        },
        "output": {"name": output},
        "palette": PALETTE,
    }
    helper.set_model_props(model, {f"deeplabx.{key}": json.dumps(value) for key, value in about.items()})
    onnx.save(model, folder / "model.onnx")
    (folder / "predict.py").write_bytes(SCRIPT.read_bytes())


def predicted(folder: Path, image: Path) -> Image.Image:
    runpy.run_path(str(folder / "predict.py"))["main"]([str(image)])
    return Image.open(f"{image}.ids.png")


def by_hand(pixels: np.ndarray) -> np.ndarray:
    return ((pixels - np.array(MEAN)) / np.array(STD)).argmax(axis=2)


@pytest.mark.parametrize("output", ["logits", "ids"])
@pytest.mark.parametrize("inside", [True, False])
def test_script_gives_the_ids_of_the_network(tmp_path: Path, inside: bool, output: str) -> None:
    write_model(tmp_path, inside=inside, output=output, least=(40, 8))
    pixels = np.random.default_rng(0).integers(0, 256, (23, 31, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    ids = predicted(tmp_path, tmp_path / "photo.png")
    np.testing.assert_array_equal(np.array(ids), by_hand(pixels))
    assert ids.mode == "P"
    assert (ids.getpalette() or [])[:9] == [channel for colour in PALETTE for channel in colour]


def test_script_turns_a_photo_as_its_camera_says(tmp_path: Path) -> None:
    write_model(tmp_path)
    pixels = np.zeros((16, 24, 3), np.uint8)
    pixels[:, :12, 0] = 255
    exif = Image.Exif()
    exif[274] = 6  # shown turned to the right
    Image.fromarray(pixels).save(tmp_path / "photo.jpg", exif=exif, quality=100, subsampling=0)
    ids = np.array(predicted(tmp_path, tmp_path / "photo.jpg"))
    assert ids.shape == (24, 16)
    assert (ids[:10] == 0).all()


def test_script_refuses_what_it_would_convert_wrongly(tmp_path: Path) -> None:
    write_model(tmp_path)
    Image.new("RGBA", (8, 8)).save(tmp_path / "photo.png")
    with pytest.raises(SystemExit, match="colour mode RGBA"):
        predicted(tmp_path, tmp_path / "photo.png")


def test_script_refuses_a_network_of_other_channels(tmp_path: Path) -> None:
    write_model(tmp_path, channels="channels [3, 2, 1] of the image file, counted from 0")
    with pytest.raises(SystemExit, match="not RGB but channels"):
        predicted(tmp_path, tmp_path / "photo.png")


def test_script_is_short_and_imports_three_packages() -> None:
    lines = SCRIPT.read_text(encoding="utf-8").splitlines()
    assert len(lines) < 60
    imports = {line.split()[1] for line in lines if line.startswith(("import ", "from "))}
    assert imports == {"json", "sys", "pathlib", "numpy", "onnxruntime", "PIL"}
