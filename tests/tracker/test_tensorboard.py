import io
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from deeplabx.tracker.contract import DONE, Run
from deeplabx.tracker.tensorboard import FOLDER, TensorBoard
from tests.conftest import TrainTiny
from tests.tracker.reruns import SETTINGS, cut_back, near


def read(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder / FOLDER), size_guidance={"images": 0, "scalars": 0, "tensors": 0})
    return found.Reload()


def settings_of(found: EventAccumulator) -> dict[str, Any]:
    """What TensorBoard's own plug-in for settings reads."""
    from tensorboard.plugins.hparams import metadata

    content = found.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    start = metadata.parse_session_start_info_plugin_data(content)
    return {
        key: value.number_value if value.HasField("number_value") else value.string_value
        for key, value in start.hparams.items()
    }


@pytest.mark.filterwarnings("ignore")
def test_what_a_run_records_and_a_resumed_one_continues(train_tiny: TrainTiny) -> None:
    folder = train_tiny("run", *SETTINGS)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for again in (False, True):
        if again:
            cut_back(folder)
            train_tiny("run", *SETTINGS, "resume=true")
        found = read(folder)
        for prefix, name in (("train", "loss"), ("train", "lr"), ("eval", "miou")):
            expected = [(line["step"], line[name]) for line in lines if name in line]
            assert near((one.step, one.value) for one in found.Scalars(f"{prefix}/{name}")) == near(expected)
        last = lines[-1]["per_class_iou"]
        assert found.Scalars("iou/background")[-1].value == pytest.approx(last["background"])
        assert [one.step for one in found.Images("samples")] == [0, 2, 4]
        assert [one.step for one in found.Images("confusion")] == [2, 4]
        drawn = Image.open(io.BytesIO(found.Images("samples")[-1].encoded_image_string))
        with Image.open(folder / "samples" / "step-00000004.png") as sheet:
            assert np.array_equal(np.asarray(drawn), np.asarray(sheet))
        best = json.loads((folder / "result.json").read_text())
        assert found.Scalars("best/miou")[-1].value == pytest.approx(best["miou"])
        settings = settings_of(found)
        assert (settings["optimizer.name"], settings["seed"]) == ("sgd", 0)
        assert settings["trainer.batch_size"] == 4
        texts = found.Tensors("config.yaml/text_summary")
        assert [one.step for one in texts] == ([0, 2] if again else [0])
        assert "    name: deeplabv3plus" in texts[-1].tensor_proto.string_val[0].decode()


def test_classes_whose_names_tensorboard_does_not_take_have_values_of_their_own(tmp_path: Path) -> None:
    tracker = TensorBoard(nullcontext)
    tracker.begin(Run("run", tmp_path))
    tracker.scalars(1, {"iou/a b": 0.1, "iou/a_b": 0.2, "iou/道路": 0.3, "iou/a/b": 0.4})
    tracker.end(DONE)
    found = read(tmp_path)
    assert sorted(round(found.Scalars(tag)[0].value, 3) for tag in found.Tags()["scalars"]) == [
        0.1,
        0.2,
        0.3,
        0.4,
    ]
