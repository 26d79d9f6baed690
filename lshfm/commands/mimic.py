"""lshfm mimic: a student learns a teacher's features; stage 1 aligns its projection, stage 2 trains all of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lshfm.config.changes import ONCE_COUNTED
from lshfm.config.compose import Job
from lshfm.config.schema import Mimic
from lshfm.console import logger
from lshfm.datasets.split import Split
from lshfm.errors import InputError
from lshfm.losses.lsh import HashFunctions
from lshfm.mimicking import hashing
from lshfm.mimicking.kept_outputs import KeptOutputs, outputs_key
from lshfm.mimicking.maps import check_maps
from lshfm.mimicking.measure import ComparedEvaluator, show, start_comparing, warn_if_apart
from lshfm.mimicking.objective import stage_objective
from lshfm.mimicking.starts import Start, find_start, settled
from lshfm.mimicking.tape import open_tape
from lshfm.mimicking.teachers import TeacherFile, cast_once, find_teacher
from lshfm.objectives.teacher import Recorded, Teacher
from lshfm.ranks.device import prepare
from lshfm.ranks.group import on_main
from lshfm.ranks.start import in_ranks
from lshfm.runs.check import check_labels, check_selection, check_training
from lshfm.runs.log import logged, remembering
from lshfm.runs.naming import mimic_name, used_in_stage
from lshfm.runs.older_names import older_mimic_name
from lshfm.runs.place import RunPlace, settings_identity
from lshfm.runs.settled import assembled
from lshfm.runs.speed import speed_of
from lshfm.runs.training import TrainingRun
from lshfm.tasks.losses import counted, with_loss
from lshfm.tasks.networks import check_batch_norm, check_parts, describe_network, place_trained, starting_weights
from lshfm.tasks.pixels import TrainingData
from lshfm.tasks.task import Task, open_task


def run(jobs: Sequence[Job[Mimic]], notes: Sequence[str] = ()) -> Path:
    """Run the stages; a finished one is only reported. notes: first lines of the log. Returns the last one's folder."""
    return Path(in_ranks(_noted, (jobs, notes), gpus=jobs[-1].settings.gpus, ranks=jobs[-1].settings.ranks))


def _noted(planned: tuple[Sequence[Job[Mimic]], Sequence[str]], device: torch.device) -> str:
    jobs, notes = planned
    with logged(jobs[-1].typed, device, jobs[-1].settings.precision):
        for note in notes:
            logger.info(note)
        return mimic_here(jobs, device)


def mimic_here(jobs: Sequence[Job[Mimic]], device: torch.device) -> str:
    """This rank's part of the stages, one after the other; returns the last one's folder."""
    last, dataset = jobs[-1], jobs[-1].settings.dataset
    task = open_task(dataset, last.folders)
    jobs = _stages_of(task, jobs)
    task.check_losses({name: loss.kind for name, loss in last.settings.loss.chosen.items()})
    for job in jobs:
        task.check_mimicking(job.settings.loss, job.settings.student)
    train, test = task.read(dataset, [dataset.train_split, dataset.eval_split])
    teacher = find_teacher(last, task, train)
    logger.info("teacher %s from %s, feature width %d", teacher.name, teacher.path, teacher.network.num_features)
    if teacher.data not in (None, train.fingerprint()):
        logger.warning("the teacher was trained on other images or labels of %s than these", dataset.name)
    for job in jobs:
        check_training(job.settings, len(train))
        if not job.settings.is_stage1:
            check_labels(task, job.settings, job.settings.label_loss, train, at="label_loss")
    aligned: Path | None = None
    for job, later in zip_longest(jobs, jobs[1:]):
        width = int(teacher.network.num_features)  # type: ignore[arg-type]
        student = settled(job.settings.student, width, task, train.classes, dataset.size)
        ready = replace(job, settings=replace(job.settings, student=student))
        with remembering():  # what this stage says before it has a folder
            aligned = Stage(ready, task, teacher, train, test, device, later).run(aligned)
    assert aligned
    return str(Path(last.settings.output_dir).expanduser() / "mimic" / aligned.stem)


def _stages_of(task: Task, jobs: Sequence[Job[Mimic]]) -> list[Job[Mimic]]:
    """The jobs without stages that the task does not have. Raises InputError if none is left."""
    supported = [job for job in jobs if job.settings.stage.name in task.stages]
    if not supported:
        asked = jobs[-1].settings
        raise InputError(f"stage={asked.stage.name}: the task {asked.dataset.task} has {', '.join(task.stages)} alone")
    return supported


@dataclass(frozen=True)
class Stage:
    """One stage of a mimic command: its job, task, teacher, splits and device; and the job of the stage after it."""

    job: Job[Mimic]
    task: Task
    teacher: TeacherFile
    train: Split
    test: Split
    device: torch.device
    later: Job[Mimic] | None = None

    @property
    def settings(self) -> Mimic:
        """The stage's settings; student.projection is the projection's width by now, or None."""
        return self.job.settings

    def run(self, aligned: Path | None = None) -> Path:
        """Train to the end and return the checkpoint's path; `aligned` is the stage 1 to start from."""
        settings = self.settings
        start = find_start(settings, self.teacher, self.train, aligned)
        job, teacher_name = self.job, self.teacher.name
        older = [mimic_name(job, teacher_name, also=ONCE_COUNTED), older_mimic_name(job, teacher_name)]
        name = mimic_name(job, teacher_name)
        place = RunPlace.of(settings, name, self._identity(start), older=older, typed=job.typed)
        if self.later:
            behind = mimic_name(self.later, teacher_name)
            on_main(lambda: place.require_nothing_behind(behind))
        if place.is_finished(goes_on=self.later is not None):
            return place.checkpoint
        return self._as_begun(place)._train(place, start)

    def _as_begun(self, place: RunPlace) -> "Stage":
        """The stage as it holds for its place: an older version may have begun the run."""
        dataset = self.settings.dataset
        if (begun := place.as_begun(dataset)) == dataset:
            return self
        train, test = self.task.read(begun, [begun.train_split, begun.eval_split])
        return replace(
            self, job=replace(self.job, settings=replace(self.settings, dataset=begun)), train=train, test=test
        )

    def _train(self, place: RunPlace, start: Start) -> Path:
        settings = self.settings
        if not settings.is_stage1:
            check_selection(settings, self.task, self.train, self.test)
        prepare(self.device, deterministic=settings.deterministic, varied=self.task.has_varied_shapes)
        torch.manual_seed(settings.seed)
        student, weights = self._student(start)
        self._say_unpublished()
        data = self.task.training_data(self.train, self.test, settings, self.device)
        speed = speed_of(settings, self.device, len(data.batches.indices), varied=self.task.has_varied_shapes)
        teacher = self.teacher.placed(self.device, precision=speed.precision, channels_last=settings.channels_last)
        tape = open_tape(settings, self.teacher, teacher, data)
        run = place.folder.path
        validate = self._evaluator(data, teacher, run, is_test=data.validation is data.test)
        test = validate if data.test is data.validation else self._evaluator(data, teacher, run, is_test=True)
        loss = self._label_loss(data)
        with place.occupied(settings) as folder:
            training = TrainingRun(
                self.job, place, data, validate=with_loss(validate, self.task, loss),
                test=with_loss(test, self.task, loss), trained=settings.student, speed=speed,
                made_by=self._made_by(start, weights) | counted(loss), keep_constants=settings.is_stage1,
                batches=tape,
            )  # fmt: skip
            training.announce(self.task)
            start_comparing(folder, validate, student, settings.eval_batch_size)
            functions, constants = self._hash_functions(folder.path, teacher, data, start)
            taught_by = Recorded(teacher.num_features) if tape else teacher
            if speed.fused:
                cast_once(teacher, settings.dataset.size, self.device)
            objective = stage_objective(
                settings, self.task, student, taught_by, functions, data, self.device, speed.precision
            )
            results = training.train(assembled(objective, settings, speed, constants))
            show(self.task, self.teacher.name, settings.student.title, results.report)
            if settings.is_stage1 or any(each.kind in ("feature", "correct") for each in settings.loss.chosen.values()):
                warn_if_apart(results.report)
        return place.checkpoint

    def _identity(self, start: Start) -> dict[str, Any]:
        identity = settings_identity(self.settings, self.train, self.test)
        used = {
            key: value
            for key, value in identity.items()
            if used_in_stage(self.settings, key) and not key.startswith("teacher") and key != "student.init"
        }
        teacher = {f"teacher.{name}": value for name, value in self.teacher.constants.items()}
        return used | {"student.weights": start.identity, "teacher": self.teacher.identity} | teacher

    def _made_by(self, start: Start, weights: str) -> dict[str, Any]:
        """Entries on the method for results and checkpoints."""
        stage, loss = self.settings.stage.title, self.settings.loss.title
        began = {"starting_weights": weights} | ({"stage1": start.weights} if start.stage1 else {})
        return {"stage": stage, "loss": loss, "teacher": self.teacher.record(), **began}

    def _student(self, start: Start) -> tuple[nn.Module, str]:
        """The student to train, and where its weights come from, in words."""
        settings = self.settings
        student, loaded = start.build(settings.student, self.task, self.train.classes, settings.dataset.size)
        check_batch_norm(student, settings)
        check_parts(student, settings)
        name = settings.student.title
        begun = settings.student.with_weights(start.weights)
        weights = f"stage 1, {start.weights}" if start.stage1 else starting_weights(begun, loaded)
        logger.info(describe_network(name, student, weights))
        kinds = {loss.kind for loss in settings.loss.chosen.values()}
        if kinds & {"feature", "correct"} and student.num_features != self.teacher.network.num_features:
            raise InputError(
                f"{name}'s feature is {student.num_features} wide, the teacher's {self.teacher.network.num_features}: "
                + ("student.projection=true bridges them" if self.task.has_projection else "they must be equally wide")
            )
        check_maps(settings.loss, student, self.teacher.network, settings.dataset.size)
        return place_trained(student, self.device, settings), weights

    def _say_unpublished(self) -> None:
        settings, row = self.settings, self.settings.published_row
        if settings.recipe and (not row or row.get("published") is False):
            logger.info("loss %s in stage %s: not published for this pair", settings.loss.title, settings.stage.title)

    def _evaluator(self, data: TrainingData, teacher: Teacher, run: Path, *, is_test: bool) -> ComparedEvaluator:
        """Of students beside their teacher, whose outputs are kept in the run's folder."""
        loader, split = (data.test, self.test) if is_test else (data.validation, data.validation_split)
        dataset, its = self.settings.dataset, self.teacher
        key = outputs_key(
            its.identity, its.normalisation, teacher.precision, split, loader, data.pixels[split.name],
            dataset.task, dataset.metric, its.constants,
        )  # fmt: skip
        kept = KeptOutputs(run / f"teacher_{'test' if is_test else 'held_out'}.npz", key, len(loader.indices))
        labels = not self.settings.is_stage1
        return ComparedEvaluator(self.task, loader, split, dataset.metric, teacher, its.name, labels=labels, kept=kept)

    def _label_loss(self, data: TrainingData) -> nn.Module | None:
        """The loss on labels to evaluate, where labels are learnt."""
        if self.settings.is_stage1:
            return None
        return self.task.label_loss(self.settings.label_loss, 1, at="label_loss", labels=data.labels)[1]

    def _hash_functions(
        self, folder: Path, teacher: Teacher, data: TrainingData, start: Start
    ) -> tuple[HashFunctions | None, dict[str, Any]]:
        """The hash functions of the losses, and their state for checkpoints; None and {} for losses without any."""
        settings = self.settings
        nodes = [term for loss in settings.loss.chosen.values() for term in loss.terms.values()]
        if not any("functions" in node for node in nodes):
            return None, {}
        assert settings.loss.hashing
        wanted = hashing.Wanted.by(settings.loss.hashing, settings.seed, teacher)
        images = hashing.bias_images(data, views=settings.loss.hashing.bias_views, batch_size=settings.eval_batch_size)
        stage1 = start.stage1.get("constants", {}) if start.stage1 else None
        return hashing.prepare(folder, wanted, teacher, images, self.train.ids, stage1)
