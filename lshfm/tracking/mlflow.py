"""MLflow: a run of the experiment MLFLOW_EXPERIMENT_NAME, or of `lshfm`, at MLFLOW_TRACKING_URI."""

import os
from collections.abc import Mapping
from time import time

# A server that is away is given up within seconds; whoever wants more says so.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from lshfm.tracking.tracker import Tracked

EXPERIMENT = "lshfm"
MOST = 100  # settings in a request
LONGEST = 500  # characters of a value


class MLflow:
    """Metrics over the steps; settings as parameters. A run that goes on keeps its id."""

    def __init__(self, tracked: Tracked) -> None:
        self._client, self._step = MlflowClient(), tracked.since
        known = tracked.known_as("mlflow")
        self._id = known or self._begin(tracked)
        if known:
            self._client.update_run(known, "RUNNING")

    def _begin(self, tracked: Tracked) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        found = self._client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else self._client.create_experiment(name)
        begun = str(self._client.create_run(experiment, run_name=tracked.name).info.run_id)
        tracked.call("mlflow", begun)
        params = [Param(_name(key), str(value)[:LONGEST]) for key, value in tracked.settings.items()]
        for part in _parts(params):
            self._client.log_batch(begun, params=part)
        return begun

    def write(self, step: int, epoch: float, values: Mapping[str, float]) -> None:
        """Metrics at a step."""
        self._step, now = step, int(time() * 1000)
        metrics = [Metric(_name(name), value, now, step) for name, value in {**values, "epoch": epoch}.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def finish(self, final: Mapping[str, float]) -> None:
        """Metrics at the last step."""
        now = int(time() * 1000)
        self._client.log_batch(self._id, [Metric(_name(name), value, now, self._step) for name, value in final.items()])

    def close(self, *, finished: bool) -> None:
        """Say how the run ended."""
        self._client.set_terminated(self._id, "FINISHED" if finished else "KILLED")


def _name(name: str) -> str:
    """A name of the characters that MLflow takes."""
    return "".join(char if char.isalnum() or char in "_-. /" else "_" for char in name)


def _parts(params: list[Param]) -> list[list[Param]]:
    return [params[start : start + MOST] for start in range(0, len(params), MOST)]
