from dataclasses import replace

import torch

from deeplabx.engine.metrics import metrics
from deeplabx.export.model_card import ExportedFile, ModelCard, Origin, table

FREE = Origin("code", "deeplabx", "Apache-2.0")
RESTRICTED = Origin("images", "cityscapes, 8 of train", "its own licence", "for non-commercial use")
CARD = ModelCard(
    title="deeplabv3plus on resnet50",
    description="Segments streets.",
    classes=["road", "car | van"],
    preprocessing={
        "inside": True,
        "input": "uint8 N x H x W x 3",
        "channels": "RGB",
        "formula": "(pixel - mean) / std, pixels in 0..255",
        "mean": [1.0, 2.0, 3.0],
        "std": [4.0, 5.0, 6.0],
        "pad_pixel": [1, 2, 3],
        "least_size": [1, 1],
    },
    output={"name": "logits", "shape": "N x 2 x H x W"},
    files=[ExportedFile("model.onnx", 1234, "ab" * 32)],
    origins=[FREE, RESTRICTED],
    metrics={"model.onnx": metrics(torch.tensor([[6, 2], [0, 0]]), ["road", "car | van"])},
    measured_on="val of cityscapes",
    environment={"torch": "2.13.0", "cuda": None},
    commands=["deeplabx train", "deeplabx export RUN"],
)


def test_card_says_what_was_measured_and_with_which_file() -> None:
    text = str(CARD)
    found = CARD.metrics["model.onnx"]
    assert f"| model.onnx | 0.3750 | 0.7500 | {found.confusion_sha256} |" in text
    assert f"| model.onnx | 1234 | {'ab' * 32} |" in text
    assert "| road | 0.7500 |" in text
    assert "| car \\| van | 0.0000 |" in text
    assert "cuda" not in text


def test_card_flags_each_part_that_restricts_commercial_use() -> None:
    assert "**Commercial use is restricted or unclear for 1 of 2 parts:** for non-commercial use." in str(
        CARD
    )
    assert "No part restricts commercial use." in str(replace(CARD, origins=[FREE]))


def test_card_without_a_data_set_says_that_nothing_was_measured() -> None:
    assert "Not measured: the export had no data set to measure it on." in str(replace(CARD, metrics={}))


def test_card_says_how_small_images_are_padded() -> None:
    assert "padded" not in str(CARD)
    padded = replace(CARD, preprocessing={**CARD.preprocessing, "least_size": [513, 513]})
    assert "padded to 513 x 513 on the right and below with the pixel [1, 2, 3]" in str(padded)


def test_no_cell_ends_its_row() -> None:
    head, rule, row = table(["a", "b"], [["x|y", "two\nlines"]])
    assert (head, rule, row) == ("| a | b |", "| --- | --- |", "| x\\|y | two lines |")
