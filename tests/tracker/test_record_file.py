from pathlib import Path

import pytest

from deeplabx.errors import ConfigError
from deeplabx.tracker.record_file import NAME, read_record, write_record


def test_each_tracker_keeps_its_own(tmp_path: Path) -> None:
    assert read_record(tmp_path, "mlflow") == {}
    write_record(tmp_path, "mlflow", {"run_id": "1"})
    write_record(tmp_path, "wandb", {"id": "2"})
    write_record(tmp_path, "mlflow", {"run_id": "3"})
    assert read_record(tmp_path, "mlflow") == {"run_id": "3"}
    assert read_record(tmp_path, "wandb") == {"id": "2"}


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"mlflow": 1}', '{"mlflow": {"run_id": 1}}', "[" * 100_000, '"' + "x" * 200_000 + '"', "\0"],
)
def test_a_file_that_is_none_is_an_error_that_names_it(tmp_path: Path, text: str) -> None:
    (tmp_path / NAME).write_text(text)
    with pytest.raises(ConfigError, match=r"tracker\.json cannot be read") as raised:
        read_record(tmp_path, "mlflow")
    assert len(str(raised.value)) < 600
