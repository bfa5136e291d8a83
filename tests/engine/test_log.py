import json
from pathlib import Path

import pytest

from deeplabx.dataset.loader import LoadTime
from deeplabx.engine.log import RunLog, keep_lines_up_to


def test_a_resumed_run_takes_back_the_lines_of_later_steps_and_a_cut_one(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps({"step": step}) + "\n" for step in (10, 20, 30)) + '{"step": 4')
    keep_lines_up_to(path, 20)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [10, 20]


def test_waiting_for_data_is_measured_and_hinted_at(tmp_path: Path) -> None:
    with RunLog(tmp_path, first_step=0, max_iters=1, batch_size=1, log_every=1) as log:
        assert list(log.timed([1, 2])) == [1, 2]
        log.total_wait, log.total_compute = 1.0, 3.0
        words = "time: 3 s computing, 1 s (25%) waiting for data"
        assert log.data_wait_words(2, cores=4) == words  # no batch has been measured
        for _ in range(6):  # of 0.5 s each: 2.6 batches must be read at once
            log.loaded(LoadTime(seconds=1.3, cpu_seconds=0.7))
        assert log.data_wait_words(2, cores=4) == f"{words}; try trainer.workers=3"
        assert log.data_wait_words(3, cores=4) == words
        assert log.data_wait_words(0, cores=2.5) == f"{words}; try trainer.workers=2"
        needs = "; reading and augmenting at that rate needs 2 cores, and there are 1"
        assert log.data_wait_words(1, cores=1.5) == words + needs
        log.total_wait = 0.1
        assert log.data_wait_words(2, cores=1) == "time: 3 s computing, 0 s (3%) waiting for data"


def test_a_full_disk_costs_lines_and_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Full:
        def write(self, text: str) -> None:
            raise OSError(28, "No space left on device")

        def close(self) -> None:
            self.write("")

    with RunLog(tmp_path, first_step=0, max_iters=1, batch_size=1, log_every=1) as log:
        log.text_file.close()
        monkeypatch.setattr(log, "text_file", Full())
        log.say("one")
        log.say("two")
    said = capsys.readouterr()
    assert said.out == "one\ntwo\n"
    assert said.err.count("the log cannot be written: No space left on device") == 1
