import json
from pathlib import Path

from PIL import Image

from deeplabx.report.curves import draw_curves


def test_the_curves_are_drawn_from_metrics_jsonl(tmp_path: Path) -> None:
    lines = [{"step": step, "loss": 1 / step, "lr": 0.1} for step in range(1, 9)] + [{"step": 8, "miou": 0.5}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    path = draw_curves(tmp_path)
    assert path == tmp_path / "plots" / "curves.png"
    with Image.open(path) as image:
        assert min(image.size) > 200


def test_without_a_logged_step_there_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("")
    assert draw_curves(tmp_path) is None
