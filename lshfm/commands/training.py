"""One training run from its parts: resumes, fits, saves every epoch, finishes. The same for every method."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from lshfm import console
from lshfm.commands import finished, parts
from lshfm.commands.claim import Claim
from lshfm.config.compose import Job, to_yaml
from lshfm.console import logger, shown
from lshfm.datasets.loader import holdout
from lshfm.engine.files import write_checkpoint, write_json, write_text
from lshfm.engine.journal import Journal
from lshfm.engine.loop import fit
from lshfm.engine.schedule import learning_rate
from lshfm.engine.state import Evaluation, State
from lshfm.errors import InputError, RunFailed
from lshfm.models.files import read_checkpoint

Evaluate = Callable[[nn.Module], Evaluation]


class Training:
    """A claimed place and data, all checked: nothing is written before `execute`.

    validate, test: evaluators of the network in training, on the data's validation and test batches.
    role: the group that holds the network's settings. record: what checkpoint and results say beside the rest.
    keep_constants: whether the finished checkpoint holds what the losses were set up with.
    """

    def __init__(
        self,
        job: Job,
        claim: Claim,
        data: parts.TrainingData,
        *,
        validate: Evaluate,
        test: Evaluate,
        hardware: Mapping[str, Any],
        role: str,
        record: Mapping[str, Any],
        keep_constants: bool = False,
    ) -> None:
        self.job, self.values, self.claim, self.data = job, job.values, claim, data
        self.validate, self.test, self.hardware = validate, test, dict(hardware)
        self.role, self.record, self.keep_constants = role, dict(record), keep_constants
        self.folder = claim.folder

    def execute(self, begin: Callable[[], State]) -> dict[str, Any]:
        """Train to the end, leave checkpoint and results, and return the results.

        begin: makes the state to train, inside the run folder.
        """
        with (
            self.folder.occupy(self.claim.identity, overwrite=self.claim.overwrite),
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
            self.state = begin()
            self._resume()
            self._fit()
            return self._finish()

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
                evaluate=self.validate,
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
            write_checkpoint(self.folder.best, self._pack() | _measured(evaluation))
        write_checkpoint(self.folder.last, {"format": "lshfm-run", "version": 1, "state": state.state_dict()})

    def _pack(self) -> dict[str, Any]:
        constants = {"constants": self.state.constants} if self.keep_constants else {}
        return finished.pack(
            self.job, self.role, self.state.model, self.data.train_split.classes,
            epoch=self.state.epoch, hardware=self.hardware, **self.record, **constants,
        )  # fmt: skip

    def _finish(self) -> dict[str, Any]:
        content = self._selected()
        if self.data.validation is not self.data.test:
            self.state.model.load_state_dict(content["model"])
            content |= _measured(self.test(self.state.model))
        write_checkpoint(self.claim.checkpoint, content | {"identity": self.claim.identity})
        results = {
            "name": self.claim.checkpoint.stem,
            **self.record,
            "metric": content["metric"],
            "score": content["score"],
            "epoch": content["epoch"],
            "split": self.data.test_split.name,
            "best": self.state.best,
            "best_chosen_on": self.data.validation_name,
            "history": self.state.history,
            "report": content["metrics"],
            "checkpoint": str(self.claim.checkpoint),
            "seconds": round(self.state.seconds, 1),
            "hardware": self.hardware,
        }
        write_json(self.folder.results, results)
        logger.info(
            "finished: %s %s on %s; %s", results["metric"], shown(results["score"]), results["split"],
            self.claim.checkpoint,
        )  # fmt: skip
        return results

    def _selected(self) -> dict[str, Any]:
        if self.values["select"] == "last":
            last = self.state.history[-1]
            return self._pack() | {"metric": last["metric"], "score": last["score"], "metrics": self.state.report}
        if not self.folder.best.is_file():
            raise RunFailed("select=best found no epoch with a defined mAP: does the validation part show any class?")
        return read_checkpoint(self.folder.best)


def check_training(values: Mapping[str, Any], num_images: int) -> None:
    """What no single key can say. Raises InputError."""
    batch, cosine, dataset = values["batch_size"], values["schedule"]["cosine_epochs"], values["dataset"]
    if batch % values["accumulate"]:
        raise InputError(f"accumulate={values['accumulate']} must divide batch_size={batch}")
    if batch > num_images:
        raise InputError(f"batch_size={batch} is more than the {num_images} images of {dataset['train_split']}")
    parts.make_view(dataset, values["augment"], channels_last=values["channels_last"])
    holdout(num_images, dataset["holdout"])
    if 0 < cosine < values["epochs"]:
        raise InputError(f"schedule.cosine_epochs={cosine:g} must be 0 or at least epochs={values['epochs']}")
    if values["select"] == "best" and not dataset["holdout"] and not values["allow_test"]:
        raise InputError(
            f"select=best would choose the epoch by the test split ({dataset['eval_split']}), which flatters the "
            "result: add dataset.holdout=0.1 to choose on a part of the training split, or allow_test=true"
        )


def _measured(evaluation: Evaluation) -> dict[str, Any]:
    return {"metric": evaluation.name, "score": evaluation.score, "metrics": dict(evaluation.report)}
