"""The leaderboard of a sweep, against tiny loops."""

import csv
import itertools
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deeplabx.report import leaderboard
from deeplabx.report.metrics_file import evaluations


def job(number: int, miou: float | None, status: str = "done", **settings: object) -> dict[str, Any]:
    overrides = [
        "trainer.batch_size=4",
        *(f"{key.replace('__', '.')}={value}" for key, value in settings.items()),
    ]
    return {
        **{"job": number, "overrides": overrides, "folder": str(number), "status": status, "miou": miou},
        **{"seconds": 1.5, "error": "out of luck\nnext line" if status == "failed" else ""},
    }


def test_rows_are_means_over_seeds_and_folds_the_best_first() -> None:
    rng = random.Random(0)
    jobs: list[dict[str, Any]] = []
    expected: dict[tuple[str, str], tuple[float, float]] = {}
    for lr, backbone in itertools.product((0.1, 0.2), ("a", "b")):
        scores = [rng.random() for _ in range(6)]
        for at, (seed, fold) in enumerate(itertools.product((0, 1), (0, 1, 2))):
            jobs.append(
                job(len(jobs), scores[at], optimizer__lr=lr, backbone=backbone, seed=seed, dataset__fold=fold)
            )
        expected[str(lr), backbone] = float(np.mean(scores)), float(np.std(scores, ddof=1))
    rng.shuffle(jobs)
    board = leaderboard.leaderboard(jobs)
    assert set(board.keys) == {"optimizer.lr", "backbone"}
    assert set(board.repeats) == {"seed", "dataset.fold"}
    assert len(board.rows) == 4
    for row in board.rows:
        values = dict(zip(board.keys, row.values, strict=True))
        mean, std = expected[values["optimizer.lr"], values["backbone"]]
        assert row.mean == pytest.approx(mean)
        assert row.std == pytest.approx(std)
        assert row.done[0]["miou"] == max(one["miou"] for one in row.jobs)
    means = [row.mean for row in board.rows if row.mean is not None]
    assert means == sorted(means, reverse=True)


def test_what_is_not_done_is_listed_and_not_counted(tmp_path: Path) -> None:
    jobs = [
        job(0, 0.25, lr=1, seed=0),
        job(1, 0.75, lr=1, seed=1),
        job(2, 0.9, "pruned", lr=2, seed=0),
        job(3, None, "failed", lr=2, seed=1),
        job(4, 0.8, lr=3, seed=0),
        job(5, None, "running", lr=3, seed=1),
    ]
    text = leaderboard.text(jobs, tmp_path, progress={5: "running"}, plugins=" plugins=a.py")
    lines = [line.split() for line in text.splitlines()]
    assert ["0.8000", "1/2", "3", "1", "done,", "1", "running", "4"] in lines
    assert ["0.5000", "±", "0.3536", "2", "1", "2", "done", "1"] in lines  # 0.5 / sqrt(2)
    assert ["-", "0/2", "2", "1", "pruned,", "1", "failed", "2"] in lines
    assert "job 3 failed: out of luck" in text
    assert f"best: {tmp_path}/4, mIoU 0.8000" in text
    assert f"next: deeplabx eval {tmp_path}/4 plugins=a.py" in text
    assert f"2 jobs are not finished: deeplabx sweep resume {tmp_path} plugins=a.py" in text


def test_without_seeds_and_with_one_job_there_is_no_deviation(tmp_path: Path) -> None:
    text = leaderboard.text([job(0, 0.5, lr=1)], tmp_path, progress={})
    assert "±" not in text
    assert "mIoU    folder\n0.5000  0\n" in text


@pytest.mark.parametrize(
    ("value", "shown"),
    [("0.00046342505832948827", "0.0004634"), ("1e-05", "1e-05"), ("123456789", "123456789"), ("0.5", "0.5")],
)
def test_a_terminal_shows_four_digits_of_a_drawn_number(tmp_path: Path, value: str, shown: str) -> None:
    text = leaderboard.text([job(0, 0.5, lr=value), job(1, 0.25, lr="other")], tmp_path, progress={})
    assert ["0.5000", shown, "0"] in [line.split() for line in text.splitlines()]
    assert value in leaderboard.csv_text([job(0, 0.5, lr=value), job(1, 0.25, lr="other")])


def test_a_setting_that_only_some_jobs_have_varies() -> None:
    board = leaderboard.leaderboard([job(0, 0.5, lr=1), job(1, 0.6)])
    assert board.keys == ("lr",)
    assert [row.values for row in board.rows] == [("-",), ("1",)]


def test_a_setting_that_hydra_adds_is_named_as_it_is_set() -> None:
    settings: list[dict[str, Any]] = [{"++stages__second__seed": number} for number in (0, 1)]
    jobs = [job(number, 0.5, **one) for number, one in enumerate(settings)]
    assert leaderboard.leaderboard(jobs).keys == ("stages.second.seed",)


def test_files_have_every_row_and_show_texts_as_texts(tmp_path: Path) -> None:
    jobs = [job(at, at / 40, dataset__root=f"'<b>{at},x'") for at in range(30)]
    jobs.append(job(30, None, "failed", dataset__root="gone"))
    assert "11 more rows in leaderboard.csv" in leaderboard.text(jobs, tmp_path, progress={})
    leaderboard.write_files(jobs, tmp_path)
    with (tmp_path / "leaderboard.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["miou_mean"]) for row in rows[:-1]] == pytest.approx(
        [at / 40 for at in range(29, -1, -1)]
    )
    assert rows[0]["dataset.root"] == "'<b>29,x'"
    assert (rows[-1]["miou_mean"], rows[-1]["state"]) == ("", "failed")
    page = (tmp_path / "sweep.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;29,x" in page
    assert "<b>29" not in page
    assert "out of luck" in page


def test_evaluations_are_read_from_a_file_that_is_being_written(tmp_path: Path) -> None:
    assert evaluations(tmp_path) == {}
    lines = ['{"step": 1, "loss": 2.0}', '{"step": 2, "miou": 0.25}', '{"step": 4, "miou": 0.5}']
    lines += [
        '{"step": "x", "miou": 0.9}',
        '{"step": 5, "miou": NaN}',
        '[1, "miou"]',
        '{"step": 6, "miou": 0.',
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert evaluations(tmp_path) == {2: 0.25, 4: 0.5}


def test_names_that_are_no_utf_8_are_written_as_escapes(tmp_path: Path) -> None:
    leaderboard.write_files([job(0, 0.5, dataset__root="\udcff"), job(1, 0.4, dataset__root="b")], tmp_path)
    assert r"\udcff" in (tmp_path / "leaderboard.csv").read_text(encoding="utf-8")


def test_commands_have_folders_as_a_shell_takes_them(tmp_path: Path) -> None:
    words = leaderboard.text([job(0, 0.5), job(1, None, "failed")], Path("a b"), progress={})
    assert "deeplabx eval 'a b/0'" in words
    assert "deeplabx sweep resume 'a b'" in words
