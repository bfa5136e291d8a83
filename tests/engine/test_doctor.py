"""The run doctor: each fault is said once, and a healthy run is silent."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from deeplabx.engine.doctor import (
    BATCHES,
    FEWEST_STEPS,
    WINDOW,
    Alarm,
    RunDoctor,
    alarms_of,
    write_alarms,
)
from deeplabx.engine.metrics import Metrics, metrics
from deeplabx.engine.state import Update

CLASSES = ["road", "car", "sky"]
HEALTHY = np.array([[90, 5, 5], [10, 30, 5], [5, 5, 40]])


def doctor(**settings: object) -> RunDoctor:
    return RunDoctor(CLASSES, **{"max_iters": 400, "ignore_index": 255, **settings})  # type: ignore[arg-type]


def result(confusion: np.ndarray, *, images: int = 20) -> Metrics:
    return replace(metrics(torch.from_numpy(confusion), CLASSES), images=images)


def kinds(alarms: list[Alarm]) -> list[str]:
    return [alarm.kind for alarm in alarms]


def trained(found: RunDoctor, losses: list[float], norms: list[float] | None = None) -> list[Alarm]:
    """Steps with these losses and gradient norms."""
    alarms = []
    for step, loss in enumerate(losses, start=1):
        norm = 1.0 if norms is None else norms[step - 1]
        alarms += found.step(Update(step, 0.1, loss, 100, False, 0.1, None, norm))
    return alarms


def test_a_healthy_run_is_silent() -> None:
    own, draw = doctor(), np.random.default_rng(0)
    noise = draw.normal(1, 0.3, 400)
    alarms = own.norm(8, trained_norms=50)
    alarms += own.learning_rate(0.01, 0.05, "made", 8, batch_size=8)
    for _ in range(BATCHES):
        own.batch(draw.choice(3, (4, 16, 16), p=[0.5, 0.25, 0.25]).astype(np.uint8))
    for step in range(10, 410, 10):
        alarms += own.data_wait(step, wait=1.0, seconds=10.0)
    losses = (np.linspace(1.5, 0.3, 400) * abs(noise)).tolist()
    alarms += trained(own, losses, (1 + 4 * np.abs(noise)).tolist())
    for step in (100, 200, 300, 400):
        alarms += own.evaluation(step, result(HEALTHY), split="val")
    assert alarms == []


def test_each_kind_is_said_once() -> None:
    own = doctor()
    only_road = np.array([[100, 0, 0], [45, 0, 0], [50, 0, 0]])
    assert own.evaluation(FEWEST_STEPS - 1, result(only_road), split="val") == []
    (alarm,) = own.evaluation(FEWEST_STEPS, result(only_road), split="val")
    assert alarm.kind == "one_class"
    assert "every pixel of val is predicted as road" in alarm.words
    assert own.evaluation(FEWEST_STEPS + 50, result(only_road), split="val") == []
    again = doctor(known=["one_class"], first_step=300)
    assert again.evaluation(FEWEST_STEPS + 50, result(only_road), split="val") == []


def test_a_class_that_no_evaluation_has_predicted() -> None:
    without_car = np.array([[95, 0, 5], [20, 0, 5], [10, 0, 40]])
    own = doctor()
    assert own.evaluation(100, result(without_car), split="val") == []  # too early to say
    others_not_learned = np.array([[60, 0, 40], [20, 0, 5], [40, 0, 10]])
    assert own.evaluation(200, result(others_not_learned), split="val") == []
    (alarm,) = own.evaluation(200, result(without_car), split="val")
    assert alarm.kind == "class_missed"
    assert "car" in alarm.message
    found_before = doctor()
    found_before.evaluation(100, result(HEALTHY), split="val")
    assert found_before.evaluation(200, result(without_car), split="val") == []


def test_a_class_of_hardly_any_pixels_may_be_missed() -> None:
    rare = np.array([[100_000, 0, 5], [50, 0, 5], [10, 0, 40_000]])
    assert doctor().evaluation(400, result(rare), split="val") == []


@pytest.mark.parametrize(
    ("losses", "alarms"),
    [
        (np.full(400, 1.5), ["loss"]),
        (np.linspace(1.5, 1.9, 400), ["loss"]),
        (np.linspace(1.5, 1.2, 400), []),
        (np.full(FEWEST_STEPS - WINDOW, 1.5), []),
    ],
)
def test_a_loss_that_does_not_fall(losses: np.ndarray, alarms: list[str]) -> None:
    own = doctor()
    bad = np.array([[40, 30, 30], [20, 10, 15], [20, 15, 15]])
    trained(own, losses.tolist())
    assert kinds(own.evaluation(400, result(bad), split="val")) == alarms


def test_a_loss_need_not_fall_where_the_run_started_from_good_weights_or_was_resumed() -> None:
    own = doctor()
    trained(own, [0.2] * 400)
    assert own.evaluation(400, result(HEALTHY), split="val") == []
    resumed = doctor(first_step=200)
    trained(resumed, [1.5] * 400)
    bad = np.array([[40, 30, 30], [20, 10, 15], [20, 15, 15]])
    assert resumed.evaluation(400, result(bad), split="val") == []


def test_a_gradient_that_grows() -> None:
    steps = 12 * WINDOW
    assert kinds(trained(doctor(), [1.0] * steps, np.geomspace(1, 1000, steps).tolist())) == ["gradient"]
    assert trained(doctor(), [1.0] * steps, np.geomspace(1, 15, steps).tolist()) == []
    one_peak = np.ones(steps)
    one_peak[150:170] = 1e4
    assert trained(doctor(), [1.0] * steps, one_peak.tolist()) == []


def test_skipped_steps_and_batches_without_labels_say_nothing_of_the_gradient() -> None:
    own = doctor()
    for step in range(1, 20 * WINDOW):
        own.step(Update(step, 0.1, float("nan"), 100, True, 0.1, None, float("nan")))
        own.step(Update(step, 0.1, 0.0, 0, False, 0.1, None, 0.0))
    assert own.losses == []


@pytest.mark.parametrize(
    ("lr", "batch_size", "words"),
    [
        (0.05, 8, None),
        (0.2, 32, None),
        (0.006, 8, None),
        (0.05, 1, None),  # the linear rule would have 0.006, which few follow down
        (5.0, 8, "100 times larger"),
        (1e30, 8, "2e+31 times larger"),
        (0.0001, 8, "500 times smaller"),
    ],
)
def test_learning_rates_far_from_the_recommended_one(lr: float, batch_size: int, words: str | None) -> None:
    alarms = doctor().learning_rate(lr, 0.05, "dataset=shapes", 8, batch_size=batch_size)
    assert [words in alarm.words for alarm in alarms if words] == ([True] if words else [])
    assert len(alarms) == (words is not None)


def test_batch_norm_of_few_images() -> None:
    assert kinds(doctor().norm(2, trained_norms=50)) == ["norm_batch"]
    assert doctor().norm(2, trained_norms=0) == []  # frozen, or of groups


def test_waiting_for_data_counts_when_it_lasts() -> None:
    own = doctor()
    assert own.data_wait(10, wait=5, seconds=10) == []
    assert own.data_wait(20, wait=0, seconds=10) == []  # it was a moment
    assert own.data_wait(30, wait=5, seconds=10) == []
    (alarm,) = own.data_wait(40, wait=7, seconds=10)
    assert "60% of the last 20 s" in alarm.message


def test_labels_of_two_splits_that_are_unlike() -> None:
    own = doctor()
    for _ in range(BATCHES):
        own.batch(np.full((2, 8, 8), 1, np.uint8))
    own.batch(np.full((2, 8, 8), 2, np.uint8))  # after the first ones none is counted
    (alarm,) = own.evaluation(20, result(HEALTHY), split="val")
    assert alarm.kind == "label_shares"
    assert "car has 100.0% of the training pixels and 23.1% of val's" in alarm.message
    few = doctor()
    for _ in range(BATCHES):
        few.batch(np.full((2, 8, 8), 1, np.uint8))
    assert few.evaluation(20, result(HEALTHY, images=3), split="val") == []


def test_alarms_are_kept_in_the_folder(tmp_path: Path) -> None:
    one, other = Alarm(3, "loss", "the loss …", "do this"), Alarm(5, "gradient", "it grows", "do that")
    write_alarms(tmp_path, [one])
    write_alarms(tmp_path, [other])
    assert alarms_of(tmp_path) == [one, other]
    assert json.loads((tmp_path / "alarms.json").read_text(encoding="utf-8"))[1]["step"] == 5
    (tmp_path / "alarms.json").write_text("[1]", encoding="utf-8")
    assert alarms_of(tmp_path) == []


@pytest.mark.parametrize("step", ["1e999", "NaN", '"x"', "[]"])
def test_alarms_with_steps_that_are_none_are_not_read(step: str, tmp_path: Path) -> None:
    text = f'[{{"step": {step}, "kind": "norm", "message": "", "hint": ""}}]'
    (tmp_path / "alarms.json").write_text(text, encoding="utf-8")
    assert alarms_of(tmp_path) == []
