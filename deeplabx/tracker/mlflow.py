"""MLflow: a run in an SQLite file or on a server."""

import fcntl
import logging
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from deeplabx.errors import ConfigError, needed, printable
from deeplabx.tracker.contract import DONE, FAILED, STOPPED, Run, Tracker, in_a_line
from deeplabx.tracker.names import Names
from deeplabx.tracker.png import png
from deeplabx.tracker.record_file import NAME, read_record, write_record

HOME = Path("outputs") / "mlflow"  # of tracking_uri=null, below the working directory
DATABASE = "mlflow.db"
ADDRESSES = ("sqlite:///", "http://", "https://", "postgresql", "mysql", "mssql", "databricks")
STATUS = {DONE: "FINISHED", STOPPED: "KILLED", FAILED: "FAILED"}
LONGEST_PARAM, MOST_PARAMS = 6000, 100  # MLflow's own limits
# Set unless the environment says otherwise: nothing is sent to MLflow's makers, and a server that does not
# answer is given up after seconds instead of minutes.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


class MLflow(Tracker):
    """tracking_uri: sqlite:///FILE or a server's http(s) address; None for outputs/mlflow/mlflow.db."""

    name = "mlflow"

    def __init__(self, *, tracking_uri: str | None, experiment: str) -> None:
        if tracking_uri is not None and not tracking_uri.startswith(ADDRESSES):
            raise ConfigError(
                f"tracker.tracking_uri={without_password(tracking_uri)} is no address for MLflow 3",
                hint="sqlite:///FILE, or http://HOST:PORT of a server",
            )
        for key, value in ENVIRONMENT.items():
            os.environ.setdefault(key, value)
        self.package = needed("mlflow", extra="mlflow")
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        self.given, self.experiment = tracking_uri, experiment
        self.uri = absolute(tracking_uri) if tracking_uri else f"sqlite:///{(HOME / DATABASE).absolute()}"
        self.names = Names(r"\w.\- :")

    # --- begin ----------------------------------------------------------------------------------------------

    def begin(self, run: Run) -> None:
        """A run of the experiment; of a resumed run the same one, which is found in the run's folder."""
        kept = read_record(run.folder, self.name)
        if self.given is None and kept.get("default") == "yes" and kept.get("tracking_uri"):
            self.uri = kept["tracking_uri"]  # wherever the run is resumed from
        continues = kept.get("tracking_uri") == without_password(self.uri) and "run_id" in kept
        hint = (
            "tracker.tracking_uri=sqlite:///FILE or =http://HOST:PORT records elsewhere, tracker=none nowhere"
        )
        if continues:
            hint = f"remove {run.folder / NAME} to begin a new record, or set tracker=none"
        try:
            with alone(self.uri):
                self.client = self.package.MlflowClient(tracking_uri=self.uri)
                if continues:
                    self.run_id = kept["run_id"]
                    self.client.update_run(self.run_id, status="RUNNING")
                else:
                    self.run_id = self.new_run(run)
            self.recorded = self.last_steps()
            self.add_params(run.config)
        except Exception as error:  # noqa: BLE001 - of any of the dozen packages below MLflow
            where = without_password(self.uri)
            raise ConfigError(
                f"tracker=mlflow cannot record at {where}: {in_a_line(error)}", hint=hint
            ) from None
        default = "yes" if self.given is None else "no"
        place = {"tracking_uri": without_password(self.uri), "run_id": self.run_id, "default": default}
        write_record(run.folder, self.name, place)
        self.where = f"recorded by MLflow as run {self.run_id} of experiment {self.experiment}"
        if database_of(self.uri) is not None:
            self.where += f"; mlflow ui --backend-store-uri {self.uri} shows it"

    def new_run(self, run: Run) -> str:
        tags = {
            "deeplabx.folder": printable(str(run.folder.absolute()), 1000),
            "deeplabx.group": printable(run.group),
        }
        made = self.client.create_run(self.experiment_id(), run_name=printable(run.name), tags=tags)
        return made.info.run_id

    def experiment_id(self) -> str:
        found = self.client.get_experiment_by_name(self.experiment)
        if found is None:
            place = database_of(self.uri)
            files = None if place is None else (place.parent / "artifacts").as_uri()
            try:
                return self.client.create_experiment(self.experiment, artifact_location=files)
            except self.package.exceptions.MlflowException:  # another run has just made it
                found = self.client.get_experiment_by_name(self.experiment)
                if found is None:
                    raise
        return found.experiment_id

    def last_steps(self) -> dict[str, int]:
        """The last step that the run has, by the first part of a value's name. Those of the classes are
        logged together with the others of their evaluation.
        """
        last: dict[str, int] = {}
        for name in self.client.get_run(self.run_id).data.metrics:
            part = name.partition("/")[0]
            if part in ("train", "eval"):
                steps = [one.step for one in self.client.get_metric_history(self.run_id, name)]
                last[part] = max([last.get(part, 0), *steps])
        return last

    def add_params(self, settings: Mapping[str, Any]) -> None:
        """The settings. MLflow lets none be replaced: those of a resumed run stay as they were."""
        known = self.client.get_run(self.run_id).data.params
        param = self.package.entities.Param
        new = [
            param(name, printable(str(value), LONGEST_PARAM))
            for name, value in settings.items()
            if name not in known
        ]
        for first in range(0, len(new), MOST_PARAMS):
            self.client.log_batch(self.run_id, params=new[first : first + MOST_PARAMS])

    # --- a step ---------------------------------------------------------------------------------------------

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        now, metric = int(time.time() * 1000), self.package.entities.Metric
        self.client.log_batch(
            self.run_id,
            metrics=[metric(self.names.of(name), value, now, step) for name, value in values.items()],
        )

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """As a file of the run; of a step that is repeated it is replaced."""
        self.add_file(f"{name}/step-{step:08d}.png", png(image))

    def text(self, name: str, words: str) -> None:
        self.add_file(name, words.encode("utf-8", "backslashreplace"))

    def add_file(self, name: str, content: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, Path(name).name)
            path.write_bytes(content)
            inside = str(Path(name).parent)
            self.client.log_artifact(self.run_id, str(path), None if inside == "." else inside)

    # --- end ------------------------------------------------------------------------------------------------

    def summary(self, values: Mapping[str, float]) -> None:
        now, step = int(time.time() * 1000), int(values["best_step"])
        known = self.client.get_run(self.run_id).data.metrics
        metric = self.package.entities.Metric
        new = [metric(name, value, now, step) for name, value in values.items() if known.get(name) != value]
        self.client.log_batch(self.run_id, metrics=new)

    def end(self, status: str) -> None:
        self.client.set_terminated(self.run_id, STATUS[status])


# --- addresses ----------------------------------------------------------------------------------------------


def database_of(uri: str) -> Path | None:
    """The file of an sqlite:/// address; None of another."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def absolute(uri: str) -> str:
    """An sqlite:/// address with the whole path, so that it is the same wherever the run is resumed from."""
    path = database_of(uri)
    return uri if path is None else f"sqlite:///{path.absolute()}"


def without_password(uri: str) -> str:
    """The address as it can be shown and stored: of http://name:password@host, without what is before @."""
    return uri if database_of(uri) else re.sub(r"(?<=://)[^/@]*@", "", uri)


@contextmanager
def alone(uri: str) -> Iterator[None]:
    """Of the jobs of a sweep, one at a time makes the tables of an SQLite file: two at once would fail."""
    place = database_of(uri)
    if place is None:
        yield
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_name(f"{place.name}.lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
