"""docs/results.md shows what benchmarks/results.json holds, and its commands are those of the experiments."""

import re
import statistics
from pathlib import Path
from typing import Any

import pytest

from benchmarks import results
from tests.conftest import Compose

CLASSES = {"sky": 0.5, "pole": None}


def a_run(entry: str, seed: int, miou: float, **others: Any) -> dict[str, Any]:
    return {
        "entry": entry,
        "seed": seed,
        "command": f"deeplabx train seed={seed}",
        "commit": "abc1234",
        "date": "2026-01-01",
        "machine": "2 CPU threads, fp32",
        "minutes": 4.0,
        "published": None,
        "step": 300,
        "miou": miou,
        "per_class_iou": {name: value and value + seed / 10 for name, value in CLASSES.items()},
        "curve": [[150, miou / 2], [300, miou]],
        **others,
    }


def lines(record: dict[str, Any], kind: str = "") -> list[list[str]]:
    table = results.table_of(f"first_run {kind}".strip(), {"first_run": record})
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def test_the_page_shows_the_records() -> None:
    page = results.PAGE.read_text(encoding="utf-8")
    records = results.read_json(results.RECORDS) if results.RECORDS.is_file() else {}
    assert results.with_tables(page, records) == page


def test_every_experiment_has_a_table_on_the_page() -> None:
    page = results.PAGE.read_text(encoding="utf-8")
    assert {one.name for one in results.EXPERIMENTS} == set(re.findall(r"<!-- table: (\w+) -->", page))


def test_means_and_deviations_are_those_of_the_seeds() -> None:
    values = [0.5, 0.52, 0.57]
    rows = lines({"rows": [a_run("a", seed, value) for seed, value in enumerate(values)]})
    cells = dict(zip(rows[0], rows[2], strict=True))
    assert cells["mIoU"] == f"{100 * statistics.mean(values):.2f} ± {100 * statistics.stdev(values):.2f}"
    assert cells["seeds"] == "0: 50.00, 1: 52.00, 2: 57.00"
    assert (cells["steps"], cells["minutes"], cells["commit"]) == ("300", "4", "abc1234")
    assert lines({"rows": [a_run("a", 0, 0.5)]})[2][1] == "50.00"


def test_other_commits_and_published_numbers_are_shown() -> None:
    rows = lines(
        {"rows": [a_run("a", 0, 0.5, published=61.5), a_run("a", 1, 0.5, published=61.5, commit="def")]}
    )
    cells = dict(zip(rows[0], rows[2], strict=True))
    assert cells["published"] == "61.50"
    assert cells["commit"] == "abc1234, def"


def test_differences_stand_beside_the_entries_they_belong_to() -> None:
    differences = [
        {"entry": "b", "difference": 0.02, "low": -0.01, "high": 0.05, "p_holm": 0.2},
        {"entry": "a", "difference": None, "low": None, "high": None, "p_holm": None},
    ]
    rows = lines({"rows": [a_run("a", 0, 0.5), a_run("b", 0, 0.52)], "differences": differences})
    assert [row[3:6] for row in rows[2:]] == [["baseline", "", ""], ["+2.00", "-1.00 to +5.00", "0.200"]]


def test_classes_and_curves_are_means_over_seeds() -> None:
    record = {"rows": [a_run("a", 0, 0.5), a_run("a", 1, 0.6)]}
    assert lines(record, "classes")[2] == ["a", "55.0", ""]
    assert lines(record, "curve")[0] == ["step", "150", "300"]
    assert lines(record, "curve")[2] == ["a", "27.50", "55.00"]


def test_jobs_are_seed_by_seed_and_their_folders_differ(tmp_path: Path) -> None:
    jobs = [job for one in results.EXPERIMENTS for job in results.jobs_of(one)]
    assert len({job.folder(tmp_path) for job in jobs}) == len(jobs)
    for experiment in results.EXPERIMENTS:
        seeds = [job.seed for job in results.jobs_of(experiment)]
        assert seeds == sorted(seeds)
        names = {entry.name for entry in experiment.entries}
        assert experiment.baseline is None or experiment.baseline in names


@pytest.mark.slow
@pytest.mark.parametrize("experiment", [pytest.param(one, id=one.name) for one in results.EXPERIMENTS])
def test_trainings_are_accepted(experiment: results.Experiment, compose: Compose) -> None:
    root = [] if experiment.data is None else ["dataset.root=data"]
    for entry in experiment.entries:
        if entry.ckpt is None:
            compose(*results.Job(experiment, entry, seed=0).words[1:], *root)
