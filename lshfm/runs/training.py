"""One training run from its parts: resumes, fits, saves every epoch, finishes. The same for every method."""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn

from lshfm import console
from lshfm.config.compose import Job, to_yaml
from lshfm.console import logger, shown
from lshfm.datasets.loader import holdout
from lshfm.engine.interrupts import Interrupts
from lshfm.engine.journal import Journal
from lshfm.engine.loop import fit
from lshfm.engine.schedule import learning_rate
from lshfm.engine.state import Evaluation, State
from lshfm.errors import InputError, RunFailed, printable
from lshfm.files.read import read_checkpoint
from lshfm.files.write import write_checkpoint, write_json, write_text
from lshfm.ranks.group import Consensus, is_main, num_ranks, on_main
from lshfm.ranks.start import log_ranks
from lshfm.runs import checkpoint
from lshfm.runs.last import position_of, restore, write_last
from lshfm.runs.place import Claim
from lshfm.tasks import pixels

Evaluate = Callable[[nn.Module], Evaluation]

SAVE = 1  # what ranks agree on, below the number of every signal that is handled


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
        data: pixels.TrainingData,
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
        """Train to the end, leave checkpoint and results, and return the results; all ranks together.

        begin: makes the state to train, inside the run folder.
        """
        with ExitStack() as stack:
            on_main(lambda: self._occupy(stack))
            logger.info(
                "run folder %s; %s, %s",
                self.folder.path,
                self.hardware["device"],
                self.hardware["arithmetic"],
            )
            log_ranks(self.data.batches.device, self.values)
            for line in self.data.describe():
                logger.info(line)
            self.state = begin()
            self._fit()
            return self._finish()

    def _occupy(self, stack: ExitStack) -> None:
        stack.enter_context(self.folder.occupy(self.claim.identity, overwrite=self.claim.overwrite))
        stack.enter_context(console.also_to(self.folder.path / "log.txt"))
        write_text(self.folder.path / "config.yaml", to_yaml(self.values))

    def _fit(self) -> None:
        values = self.values
        self.journal = Journal(
            self.folder.metrics,
            epochs=values["epochs"],
            steps=len(self.data.batches),
            batch_size=values["batch_size"],
            every=values["log_every"],
            name_samples=lambda samples: [printable(self.data.train_split.ids[i]) for i in samples],
        )
        restore(self.folder, self.state, self.journal, self._made_by(), values["epochs"])
        self._saved_at = self._counted = time.monotonic()
        self._agree = Consensus()
        try:
            with Interrupts() as self.interrupts:
                fit(
                    self.state,
                    self.data.batches,
                    learning_rate(values["lr"], **values["schedule"]),
                    self.journal,
                    epochs=values["epochs"],
                    accumulate=values["accumulate"],
                    pause=self._pause,
                    evaluate=self._evaluate,
                    save=self._save,
                )
        except torch.OutOfMemoryError as error:
            raise RunFailed(
                f"the GPU is out of memory at batch_size={values['batch_size']}: accumulate=2 or more takes a batch "
                "in parts, precision=bf16 halves most of it"
            ) from error
        except BaseException as stop:
            if not isinstance(stop, Exception):
                logger.info("stopped; the same command continues %s", position_of(self.folder) if is_main() else "")
            raise
        finally:
            self.journal.close()

    def _pause(self, state: State) -> None:
        """After a step: save where it is time to, or where a rank was asked to stop, and then stop."""
        minutes = self.values["checkpoint_minutes"]
        is_due = is_main() and 0 < minutes * 60 < time.monotonic() - self._saved_at
        agreed = self._agree(self.interrupts.asked or (SAVE if is_due else 0))
        if agreed:
            self.journal.settle()
            state.synchronise()
            on_main(self._write_last)
            self._saved_at = time.monotonic()
        if agreed > SAVE:
            self.interrupts.stop(agreed)

    def _evaluate(self, network: nn.Module) -> Evaluation:
        try:
            with self.interrupts.at_once():
                return self.validate(network)
        except BaseException as stop:
            if is_main() and not isinstance(stop, Exception):
                self._write_last()  # the epoch is done but for its evaluation
            raise

    def _save(self, _state: State, evaluation: Evaluation, is_best: bool) -> None:
        def write() -> None:
            if is_best:
                write_checkpoint(self.folder.best, self._pack() | _measured(evaluation))
            self._write_last()

        on_main(write)
        self._saved_at = time.monotonic()

    def _write_last(self) -> None:
        now = time.monotonic()
        self.state.seconds += now - self._counted
        self._counted = now
        write_last(self.folder, self.state, self.journal, self._made_by(), self.values["keep_last"])

    def _made_by(self) -> dict[str, Any]:
        device = self.data.batches.device.type
        config = checkpoint.without_code(self.values)
        threads = {"threads": torch.get_num_threads()} if device == "cpu" else {}
        versions = {"pixels": self.data.pixels, "torch": str(torch.__version__)}
        return {"ranks": num_ranks(), "device": device, **threads, **versions, "config": config}

    def _pack(self) -> dict[str, Any]:
        constants = {"constants": self.state.constants} if self.keep_constants else {}
        return checkpoint.pack(
            self.job, self.role, self.state.model, self.data.train_split.classes,
            epoch=self.state.epoch, hardware=self.hardware, **self.record, **constants,
        )  # fmt: skip

    def _finish(self) -> dict[str, Any]:
        content = self._selected()
        if self.data.validation is not self.data.test:
            self.state.model.load_state_dict(content["model"])
            content |= _measured(self.test(self.state.model))

        def write() -> None:
            self.claim.require_own()  # another run may have finished there meanwhile
            write_checkpoint(self.claim.checkpoint, content | {"identity": self.claim.identity})

        on_main(write)
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
        on_main(lambda: write_json(self.folder.results, results))
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
    accumulate = values["accumulate"]
    ranks, group = num_ranks(), values["bn_group_size"]
    if batch % ranks:
        raise InputError(f"batch_size={batch} is that of all ranks: their number, {ranks}, must divide it")
    share = f"batch_size={batch}" if ranks == 1 else f"the {batch // ranks} images of a batch that a rank gets"
    if batch // ranks % accumulate:
        raise InputError(f"accumulate={accumulate} must divide {share}")
    if group and batch // ranks // accumulate % group:
        raise InputError(
            f"bn_group_size={group} must divide {batch // ranks // accumulate}, the images that go through the network "
            f"at a time (batch_size={batch}, ranks: {ranks}, accumulate={accumulate})"
        )
    if batch > num_images:
        raise InputError(f"batch_size={batch} is more than the {num_images} images of {dataset['train_split']}")
    pixels.make_view(dataset, values["augment"], channels_last=values["channels_last"])
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
