"""Our scores are the official Cityscapes scorer's, to the last digit."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deeplabx.backbone.normalization import MINUS_ONE_TO_ONE
from deeplabx.dataset.cityscapes import CLASS_TABLE, Cityscapes
from deeplabx.dataset.readable import ReadableSet
from deeplabx.engine.evaluator import evaluate
from deeplabx.engine.predictor import Predictor
from tests.conftest import Root


@pytest.fixture(params=["made up", "real"])
def frames(request: pytest.FixtureRequest, fake_root: Root, real_root: Root) -> Cityscapes:
    root = fake_root if request.param == "made up" else real_root
    return Cityscapes(root=str(root("cityscapes")), split="val")


def test_scores_equal_the_official_scorers(
    frames: Cityscapes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Which the scorer needs and numpy 2.4 has no more.
    monkeypatch.setattr(np, "in1d", np.isin, raising=False)
    from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as official  # noqa: N813

    torch.manual_seed(0)
    model = torch.nn.Conv2d(3, 19, 5, padding=2).eval()
    predictor = Predictor(model, MINUS_ONE_TO_ONE, torch.device("cpu"))
    ours = evaluate(predictor, ReadableSet(frames))

    label_ids = np.array([label.label_id for label in CLASS_TABLE], np.uint8)
    written = []
    for index in range(len(frames)):
        image, _ = frames[index]
        path = tmp_path / f"{frames.pairs[index][0].stem}.png"
        Image.fromarray(label_ids[predictor.ids(image).numpy()]).save(path)
        written.append(str(path))
    official.args.quiet, official.args.JSONOutput, official.args.evalInstLevelScore = True, False, False
    theirs = official.evaluateImgLists(written, [str(path) for _, path in frames.pairs], official.args)

    assert ours.miou == theirs["averageScoreClasses"]
    assert 0 < ours.miou < 1
    for name, score in ours.per_class_iou.items():
        assert score == theirs["classScores"][name] or (
            score is None and np.isnan(theirs["classScores"][name])
        ), name
