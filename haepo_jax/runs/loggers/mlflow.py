"""Logs to MLflow: a run of its own for each member, in the experiment `MLFLOW_EXPERIMENT_NAME` or `haepo_jax`.

Where `MLFLOW_TRACKING_URI` names no server or store, they are files in `WORKDIR/mlflow/`, which the processes of a run
can write at once, unlike a data base. MLflow wants to be told that files are meant: `MLFLOW_ALLOW_FILE_STORE=true`.
"""

import os
import time
from collections.abc import Mapping

from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from haepo_jax.config.checks import flatten
from haepo_jax.runs.loggers.interface import LoggedRun

_ID = "haepo_jax.run"
_MOST_PARAMS = 100  # that MLflow takes in one call
_LONGEST = 500  # characters of a parameter that every store takes


class MlflowLogger:
    """Writes one run of MLflow, which a later attempt finds by its tag and resumes."""

    def __init__(self, run: LoggedRun) -> None:
        """Begins the run with its settings as parameters, or resumes it."""
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        if not uri:
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
            uri = run.folder.parent.resolve().as_uri()
        self._client = MlflowClient(tracking_uri=uri)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "haepo_jax")
        experiment = self._client.get_experiment_by_name(name)
        number = self._client.create_experiment(name) if experiment is None else experiment.experiment_id
        begun = self._client.search_runs([number], filter_string=f"tags.`{_ID}` = '{run.id}'")
        if begun:
            self._run_id = begun[0].info.run_id
            self._client.set_terminated(self._run_id, "RUNNING")
            return
        self._run_id = self._client.create_run(number, tags={_ID: run.id}, run_name=run.name).info.run_id
        settings = flatten(run.config) | dict(run.settings) | {"seed": run.seed, "member": run.member}
        params = [Param(name, str(value)[:_LONGEST]) for name, value in settings.items()]
        for first in range(0, len(params), _MOST_PARAMS):
            self._client.log_batch(self._run_id, params=params[first : first + _MOST_PARAMS])

    def write(self, update: int, metrics: Mapping[str, float]) -> None:
        """Logs the metrics of one step, in one call."""
        now = int(time.time() * 1e3)
        self._client.log_batch(self._run_id, [Metric(name, value, now, update) for name, value in metrics.items()])

    def close(self) -> None:
        """Marks the run as finished."""
        self._client.set_terminated(self._run_id)
