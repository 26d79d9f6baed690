"""One training run from its parts: resumes, fits, saves every epoch, finishes. The same for every method."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lshfm import console
from lshfm.commands import finished, parts
from lshfm.config.compose import Job, to_yaml
from lshfm.console import logger, shown
from lshfm.engine.files import write_checkpoint, write_json, write_text
from lshfm.engine.journal import Journal
from lshfm.engine.loop import fit
from lshfm.engine.run import RunFolder
from lshfm.engine.schedule import learning_rate
from lshfm.engine.state import Evaluation, State
from lshfm.errors import InputError, RunFailed
from lshfm.models.files import read_checkpoint


class Training:
    """A run folder, a state and data, all checked: nothing is written before `execute`."""

    def __init__(
        self,
        job: Job,
        folder: RunFolder,
        checkpoint: Path,
        state: State,
        data: parts.TrainingData,
        *,
        hardware: Mapping[str, Any],
    ) -> None:
        self.job, self.values, self.folder, self.checkpoint = job, job.values, folder, checkpoint
        self.state, self.data, self.hardware = state, data, dict(hardware)
        metric, precision = self.values["dataset"]["metric"], self.values["precision"]
        self.validate = parts.make_evaluator(data.validation, data.train_split.classes, metric, precision)
        self.test = parts.make_evaluator(data.test, data.test_split.classes, metric, precision)

    def execute(self, identity: Mapping[str, Any]) -> None:
        """Train to the end and leave checkpoint and results."""
        with (
            self.folder.occupy(identity, overwrite=self.values["overwrite"]),
            console.also_to(self.folder.path / "log.txt"),
        ):
            write_text(self.folder.path / "config.yaml", to_yaml(self.values))
            logger.info(
                "run folder %s; %s, %s",
                self.folder.path,
                self.hardware["device"],
                self.hardware["arithmetic"],
            )
            for line in self.data.describe():
                logger.info(line)
            self._resume()
            self._fit()
            self._finish(identity)

    def _resume(self) -> None:
        if self.folder.last.is_file():
            try:
                self.state.load_state_dict(read_checkpoint(self.folder.last)["state"])
            except (InputError, KeyError, ValueError, RuntimeError) as error:
                raise InputError(
                    f"{self.folder.last} is damaged, so the run cannot go on: {error}\n"
                    f"Delete {self.folder.path} to start anew; its best.ckpt may still be evaluated."
                ) from error
            logger.info("continuing after epoch %d of %d", self.state.epoch, self.values["epochs"])

    def _fit(self) -> None:
        values = self.values
        journal = Journal(
            self.folder.metrics,
            epochs=values["epochs"],
            steps=len(self.data.batches),
            batch_size=values["batch_size"],
            every=values["log_every"],
            name_samples=lambda samples: [self.data.train_split.ids[i] for i in samples],
        )
        journal.resume(self.state.epoch)
        self._started = time.monotonic()
        try:
            fit(
                self.state,
                self.data.batches,
                learning_rate(values["lr"], **values["schedule"]),
                journal,
                epochs=values["epochs"],
                accumulate=values["accumulate"],
                evaluate=lambda network: self.validate(network)[0],
                save=self._save,
            )
        except torch.OutOfMemoryError as error:
            raise RunFailed(
                f"the GPU is out of memory at batch_size={values['batch_size']}: accumulate=2 or more takes a batch "
                "in parts, precision=bf16 halves most of it"
            ) from error
        except BaseException as stop:
            if not isinstance(stop, Exception):
                saved = read_checkpoint(self.folder.last)["state"]["epoch"] if self.folder.last.is_file() else 0
                logger.info("stopped; the same command continues after epoch %d", saved)
            raise
        finally:
            journal.close()

    def _save(self, state: State, evaluation: Evaluation, is_best: bool) -> None:
        now = time.monotonic()
        state.seconds += now - self._started
        self._started = now
        if is_best:
            write_checkpoint(self.folder.best, self._pack(evaluation.report))
        write_checkpoint(self.folder.last, {"format": "lshfm-run", "version": 1, "state": state.state_dict()})

    def _pack(self, report: Mapping[str, Any]) -> dict[str, Any]:
        return finished.pack(
            self.job, self.state.model, self.data.train_split.classes,
            epoch=self.state.epoch, metrics=dict(report), hardware=self.hardware,
        )  # fmt: skip

    def _finish(self, identity: Mapping[str, Any]) -> None:
        content = self._selected()
        if self.data.validation is not self.data.test:
            self.state.model.load_state_dict(content["model"])
            content["metrics"] = self.test(self.state.model)[0].report
        write_checkpoint(self.checkpoint, content | {"identity": dict(identity)})
        report, metric = content["metrics"], f"{self.values['dataset']['metric']} mAP"
        results = {
            "name": self.checkpoint.stem,
            "command": "train",
            "metric": metric,
            "score": report["mAP"],
            "epoch": content["epoch"],
            "split": self.data.test_split.name,
            "best": self.state.best,
            "best_chosen_on": self.data.validation_name,
            "history": self.state.history,
            "report": report,
            "checkpoint": str(self.checkpoint),
            "seconds": round(self.state.seconds, 1),
            "hardware": self.hardware,
        }
        write_json(self.folder.results, results)
        logger.info("finished: %s %s on %s; %s", metric, shown(report["mAP"]), results["split"], self.checkpoint)

    def _selected(self) -> dict[str, Any]:
        if self.values["select"] == "last":
            return self._pack(self.state.report)
        if not self.folder.best.is_file():
            raise RunFailed("select=best found no epoch with a defined mAP: does the validation part show any class?")
        return read_checkpoint(self.folder.best)
