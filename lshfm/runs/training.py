"""One training run from its parts: resumes, fits, saves every epoch, finishes. The same for every method and task."""

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from lshfm import __version__
from lshfm.config.compose import Job
from lshfm.config.groups import Network
from lshfm.config.schema import Mimic, Train
from lshfm.console import logger, shown
from lshfm.engine.interrupts import Interrupts
from lshfm.engine.journal import Journal
from lshfm.engine.loop import Batches, fit
from lshfm.engine.state import Evaluation, State
from lshfm.errors import RunFailed, printable
from lshfm.files.read import read_checkpoint
from lshfm.files.write import write_checkpoint
from lshfm.ranks.group import Consensus, all_gather, doing, is_main, num_ranks, on_main
from lshfm.ranks.start import describe
from lshfm.runs.averaged import averaged
from lshfm.runs.last import log_room, position_of, restore, write_last
from lshfm.runs.layout import named, pack
from lshfm.runs.memory import TooLargeToEvaluate, enough_to_evaluate, enough_to_train
from lshfm.runs.place import RunPlace
from lshfm.runs.predictions import write_predictions
from lshfm.runs.provenance import peak_memory, revision
from lshfm.runs.record import Metrics, Results, measured
from lshfm.runs.settled import enough_of, log_data, log_early_stop, log_options, rate_of, step_of
from lshfm.runs.speed import Speed
from lshfm.tasks.pixels import TrainingData
from lshfm.tasks.task import Arrays, Evaluate, Task
from lshfm.tracking.followers import followed

SAVE = 1  # what ranks agree on, below the number of every signal that is handled


class TrainingRun:
    """A training run: its settings, its place, whose folder is occupied, and its data.

    validate, test: evaluators of the network in training, on the data's validation and test batches.
    trained: the settings of that network. speed: how it computes. made_by: entries on the method (stage, loss,
    teacher) for the records. keep_constants: whether the finished checkpoint holds what the losses were set up with.
    batches: those to train on, where they are not the data's own.
    """

    def __init__(
        self,
        job: Job[Train] | Job[Mimic],
        place: RunPlace,
        data: TrainingData,
        *,
        validate: Evaluate,
        test: Evaluate,
        trained: Network,
        speed: Speed,
        made_by: Mapping[str, Any],
        keep_constants: bool = False,
        batches: Batches | None = None,
    ) -> None:
        self.settings: Train | Mimic = job.settings
        self.typed, self.place, self.folder, self.data = job.typed, place, place.folder, data
        self.validate, self.test, self.trained, self.speed = validate, test, trained, speed
        self.made_by, self.keep_constants, self.batches = dict(made_by), keep_constants, batches or data.batches
        self.hardware = describe(data.batches.device, speed.precision)
        self.planned_before: list[dict[str, int]] = []  # as `restore` tells it
        self._arrays: Arrays | None = None  # of the last evaluation on the test split, at rank 0

    def announce(self, task: Task) -> None:
        """Log the run's folder, its hardware and its data. task: writes the tables of the results, too."""
        self.write_tables = task.write_tables
        logger.info("run folder %s; %s, %s", self.folder.path, self.hardware["device"], self.hardware["arithmetic"])
        log_options(self.settings)
        self.speed.log(self.settings, self.data.batches.device)
        log_data(self.data, task, self.settings)

    def train(self, state: State) -> Results:
        """Train to the end, leave checkpoint and results, and return the results; all ranks together."""
        self.state = state
        log_room(self.folder.path, state, self.settings.keep_last, self.data.stores)
        names, batches = self.settings.trackers, self.data.batches
        self.lines = followed(Metrics(self.folder.metrics), names, self.folder.path, self.place.identity, len(batches))
        try:
            self._fit()
            if state.epoch < self.settings.epochs:
                log_early_stop(state, self.settings)
            return self._finish()
        finally:
            self.lines.close()

    def _fit(self) -> None:
        settings = self.settings
        self.journal = Journal(
            self.lines,
            epochs=settings.epochs,
            steps=len(self.data.batches),
            every=settings.log_every,
            name_samples=lambda samples: [printable(self.data.train_split.ids[i]) for i in samples],
        )
        self.planned_before = restore(self.folder, self.state, self.journal, self._saved_by(), settings.epochs)
        self._saved_at = time.monotonic()
        self.state.start_clock()
        self._agree = Consensus()
        try:
            with Interrupts() as self.interrupts, doing("training"), enough_to_train(settings.batch_size):
                fit(
                    self.state,
                    step_of(self.state, settings, self.speed, self.data.batches.full),
                    self.batches,
                    rate_of(settings, len(self.data.batches)),
                    self.journal,
                    epochs=settings.epochs,
                    pause=self._pause,
                    evaluate=self._evaluate,
                    save=self._save,
                    is_enough=enough_of(settings),
                    eval_every=settings.eval_every,
                )
        except BaseException as stop:
            if not isinstance(stop, Exception):
                logger.info("stopped; the same command continues %s", position_of(self.folder) if is_main() else "")
            raise
        finally:
            self.journal.close()

    def _pause(self, state: State) -> None:
        """After a step: save where it is time to, or where a rank was asked to stop, and then stop."""
        minutes = self.settings.checkpoint_minutes
        is_due = is_main() and 0 < minutes * 60 < time.monotonic() - self._saved_at
        agreed = self._agree(self.interrupts.asked or (SAVE if is_due else 0))
        if agreed:
            self.journal.settle()
            state.synchronise()
            on_main(self._write_last, "writing last.ckpt")
            self._saved_at = time.monotonic()
        if agreed > SAVE:
            self.interrupts.stop(agreed)

    def _evaluate(self, network: nn.Module) -> Evaluation:
        try:
            with self.interrupts.at_once(), self.state.evaluating(), self._memory():
                evaluation, arrays = self.validate(network)
        except BaseException as stop:
            if is_main() and (not isinstance(stop, Exception) or isinstance(stop, TooLargeToEvaluate)):
                self._write_last()  # the epoch is done but for its evaluation
            raise
        self._arrays = arrays
        return evaluation

    def _memory(self) -> AbstractContextManager[None]:
        return enough_to_evaluate(self.settings.eval_batch_size)

    def _save(self, _state: State, evaluation: Evaluation | None, is_best: bool) -> None:
        def write() -> None:
            if evaluation and is_best:
                write_checkpoint(self.folder.best, self._pack() | measured(evaluation))
            self._write_last()

        on_main(write, "writing checkpoints")
        self._saved_at = time.monotonic()

    def _write_last(self) -> None:
        self.state.count_seconds()
        write_last(self.folder, self.state, self.journal, self._saved_by(), self.settings.keep_last)

    def _saved_by(self) -> dict[str, Any]:
        """What the exact results of a resumed run depend on, and what it says of its network, for last.ckpt."""
        device = self.data.batches.device.type
        threads = {"threads": torch.get_num_threads()} if device == "cpu" else {}
        versions = {"pixels": self.data.pixels, "torch": str(torch.__version__)}
        of_network = named(self.settings, self.trained, self.data.train_split.classes) | self.data.about | self.made_by
        record = {"command": self.settings.command, "identity": self.place.identity}
        plans = {"planned_before": self.planned_before} if self.planned_before else {}
        return {"ranks": num_ranks(), "device": device, **threads, **versions, **of_network, **record, **plans}

    def _pack(self, network: nn.Module | None = None) -> dict[str, Any]:
        more = self.data.about | self.made_by | ({"constants": self.state.constants} if self.keep_constants else {})
        more |= {"hardware": self.hardware, "command": self.settings.command, "identity": self.place.identity}
        trained, classes = network or self.state.model, self.data.train_split.classes
        return pack(self.settings, self.trained, trained, classes, epoch=self.state.epoch, **more)

    def _finish(self) -> Results:
        content, arrays = self._selected(), self._arrays
        is_held_out = self.data.validation is not self.data.test
        if is_held_out or arrays is None or self.settings.select == "best":  # of other images or weights
            self.state.model.load_state_dict(content["model"])
            with self.state.evaluating(), self._memory():
                evaluation, arrays = self.test(self.state.model)
            content |= measured(evaluation) if is_held_out else {}
        mean = averaged(self.folder.path, self.state, self.settings, self.data.batches, self.test, self._pack)
        results = self._results(content, mean)

        def write() -> None:
            self.place.require_own()  # another run may have finished there meanwhile
            own = {"identity": self.place.identity}  # which the best.ckpt of an older version lacks
            write_checkpoint(self.place.checkpoint, content | own)
            write_predictions(self.folder.predictions, arrays, self.data.test_split.classes)
            self.write_tables(self.folder.path, results.report)
            results.write(self.folder.results)
            self.lines.finish(results.metric, results.score, results.report)

        on_main(write, "writing the results")
        score = shown(results.score)
        logger.info("finished: %s %s on %s; %s", results.metric, score, results.split, results.checkpoint)
        return results

    def _results(self, content: Mapping[str, Any], mean: dict[str, Any] | None) -> Results:
        state, seen = self.state, self.state.epoch * self.data.batches.images
        memory = all_gather(peak_memory(self.data.batches.device))
        return Results(
            name=self.place.checkpoint.stem,
            command=self.settings.command,
            command_line=list(self.typed) or None,
            lshfm=__version__,
            revision=revision(),
            **self.made_by,
            dataset=self.settings.dataset.name,
            metric=content["metric"],
            score=content["score"],
            label_loss=content.get("label_loss"),
            epoch=content["epoch"],
            planned_before=self.planned_before or None,
            split=self.data.test_name,
            data=self.data.test_split.fingerprint(),
            best=state.best,
            best_chosen_on=self.data.validation_name,
            history=state.history,
            report=content["metrics"],
            average=mean,
            checkpoint=str(self.place.checkpoint),
            training_seconds=round(state.seconds, 1),
            evaluation_seconds=round(state.evaluation_seconds, 1),
            images_per_second=round(seen / max(state.seconds, 1e-9), 2),
            peak_memory={name: max((m[name] or 0) for m in memory) or None for name in memory[0]},
            hardware=self.hardware,
        )

    def _selected(self) -> dict[str, Any]:
        if self.settings.select == "last":
            last, report = self.state.history[-1], self.state.report
            evaluation = Evaluation(last["metric"], last["score"], report, loss=last.get("validation_loss"))
            return self._pack() | measured(evaluation)
        if not self.folder.best.is_file():
            what = f"select=best found no epoch with a defined {self.state.history[-1]['metric']}"
            raise RunFailed(f"{what}; {self.place.way_to_end(self.settings)}")
        return read_checkpoint(self.folder.best)
