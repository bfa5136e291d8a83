"""Class ids of images by an ONNX file of `deeplabx export`, with numpy, onnxruntime and Pillow alone.

    python predict.py IMAGE...      writes IMAGE.ids.png, a palette PNG of class ids, beside each image

It needs model.onnx beside it, and gives the ids that `deeplabx predict` gives for a whole image.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

MODEL = Path(__file__).resolve().with_name("model.onnx")


def read(path: str) -> np.ndarray:
    """uint8 H x W x 3, turned as the EXIF orientation says."""
    with Image.open(path) as image:
        if image.mode not in ("RGB", "L", "P", "CMYK") or "transparency" in image.info:
            sys.exit(f"{path}: colour mode {image.mode}; save it as an RGB image of 8 bits")
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def predict(session: onnxruntime.InferenceSession, about: dict, image: np.ndarray) -> np.ndarray:
    """Class ids H x W of an image uint8 H x W x 3."""
    height, width = image.shape[:2]
    given = about["preprocessing"]
    size = max(height, given["least_size"][0]), max(width, given["least_size"][1])
    batch = np.full((1, *size, 3), np.uint8(given["pad_pixel"]))
    batch[0, :height, :width] = image
    if not given["inside"]:
        normalised = (batch - np.float32(given["mean"])) / np.float32(given["std"])
        batch = np.ascontiguousarray(normalised.transpose(0, 3, 1, 2))
    output = session.run(None, {session.get_inputs()[0].name: batch})[0][0, ..., :height, :width]
    return output if about["output"]["name"] == "ids" else output.argmax(axis=0)


def main(paths: list[str]) -> None:
    session = onnxruntime.InferenceSession(MODEL, providers=["CPUExecutionProvider"])
    texts = session.get_modelmeta().custom_metadata_map
    about = {key: json.loads(texts[f"deeplabx.{key}"]) for key in ("preprocessing", "output", "palette")}
    if about["preprocessing"]["channels"] != "RGB":
        sys.exit(f"{MODEL}: its input is not RGB but {about['preprocessing']['channels']}")
    for path in paths or sys.exit(__doc__):
        ids = predict(session, about, read(path))
        small = len(about["palette"]) <= 256
        image = Image.fromarray(ids.astype(np.uint8 if small else np.uint16))
        if small:
            image.putpalette(np.uint8(about["palette"]).tobytes().ljust(768, b"\xff"))
        image.save(f"{path}.ids.png")


if __name__ == "__main__":
    main(sys.argv[1:])
