import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, jaccard_score
from sklearn.metrics import confusion_matrix as sklearn_confusion

from deeplabx.engine.metrics import confusion_matrix, metrics, table
from deeplabx.errors import DataError


@settings(deadline=None, max_examples=50)
@given(classes=st.integers(2, 8), seed=st.integers(0, 10_000), dtype=st.sampled_from(["u1", "i4", "i8"]))
def test_the_matrix_equals_scikit_learns_to_the_integer(classes: int, seed: int, dtype: str) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.choice([*range(classes), 255], (13, 17)).astype(dtype)
    before = labels.copy()
    predicted = rng.integers(0, classes, (13, 17))
    ours = confusion_matrix(
        torch.from_numpy(predicted), torch.from_numpy(labels), num_classes=classes, ignore_index=255
    )
    assert (labels == before).all()
    valid = labels != 255
    expected = (
        sklearn_confusion(labels[valid], predicted[valid], labels=list(range(classes)))
        if valid.any()
        else np.zeros((classes, classes))
    )
    assert ours.dtype == torch.int64
    assert (ours.numpy() == expected).all()


def test_values_equal_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 5, 4000), rng.integers(0, 5, 4000)
    result = metrics(torch.from_numpy(sklearn_confusion(labels, predicted)).long(), list("abcde"))
    per_class = jaccard_score(labels, predicted, average=None)
    assert list(result.per_class_iou.values()) == pytest.approx(per_class, rel=1e-12)
    assert result.miou == pytest.approx(per_class.mean(), rel=1e-12)
    assert result.pixel_accuracy == pytest.approx(accuracy_score(labels, predicted), rel=1e-12)
    assert result.mean_class_accuracy == pytest.approx(balanced_accuracy_score(labels, predicted), rel=1e-12)
    assert result.frequency_weighted_iou == pytest.approx(
        jaccard_score(labels, predicted, average="weighted"), rel=1e-12
    )


def test_absent_but_predicted_counts_zero_and_neither_is_left_out() -> None:
    # a  b  c  d   a labelled and hit, b never labelled but predicted, c nothing, d labelled and missed
    result = metrics(torch.tensor([[6, 2, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [4, 0, 0, 0]]), list("abcd"))
    assert result.per_class_iou == {"a": 0.5, "b": 0.0, "c": None, "d": 0.0}
    assert result.absent == ["c"]
    assert math.isclose(result.miou, 0.5 / 3)
    assert math.isclose(result.miou_gt_only, 0.5 / 2)
    assert "c " in table(result)
    assert "absent" in table(result)


def test_there_is_no_miou_of_an_empty_matrix() -> None:
    with pytest.raises(DataError, match=r"no pixel was counted"):
        metrics(torch.zeros(2, 2, dtype=torch.int64), ["a", "b"])


def test_the_sha_names_the_matrix() -> None:
    one, two = torch.eye(3, dtype=torch.int64), torch.eye(3, dtype=torch.int64) * 2
    names = ["a", "b", "c"]
    assert (
        metrics(one, names).confusion_sha256
        == metrics(one.clone(), names).confusion_sha256
        != metrics(two, names).confusion_sha256
    )
