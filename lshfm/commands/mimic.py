"""lshfm mimic: a student learns a teacher's features; stage 1 aligns its projection, stage 2 trains all of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lshfm.config.build import build
from lshfm.config.compose import Job
from lshfm.config.stages import plan, published, terms
from lshfm.console import logger
from lshfm.datasets.loader import Loader
from lshfm.datasets.split import Split
from lshfm.engine.state import State
from lshfm.errors import InputError
from lshfm.losses.lsh import HashFunctions
from lshfm.mimicking import hashing
from lshfm.mimicking.measure import Beside, show, warn_if_better
from lshfm.mimicking.starts import Start, find_start
from lshfm.mimicking.teachers import TeacherFile, find_teacher, place_teacher
from lshfm.objectives.align import Align
from lshfm.objectives.mimic import Mimic
from lshfm.objectives.supervised import Learner
from lshfm.objectives.teacher import Teacher
from lshfm.objectives.terms import Term, Terms
from lshfm.ranks import device
from lshfm.ranks.group import on_main
from lshfm.ranks.start import describe, in_ranks
from lshfm.runs.naming import mimic_name, network_name, used_in_stage
from lshfm.runs.place import Claim, settings_identity
from lshfm.runs.training import Training, check_training
from lshfm.tasks import networks, pixels


def run(overrides: Sequence[str]) -> None:
    """Run the stages that `overrides` ask for, each continued, or said to be finished, as train does."""
    jobs = plan(overrides)
    in_ranks(mimic_here, jobs, jobs[-1].values)


def mimic_here(jobs: Sequence[Job], where: torch.device) -> None:
    """This rank's part of the stages."""
    dataset = jobs[-1].values["dataset"]
    train, test = pixels.read_splits(dataset, [dataset["train_split"], dataset["eval_split"]])
    teacher = find_teacher(jobs[-1], train)
    logger.info("teacher %s from %s, feature width %d", teacher.name, teacher.path, teacher.network.num_features)
    if teacher.data not in (None, train.fingerprint()):
        logger.warning("the teacher was trained on other images or labels of %s than these", dataset["name"])
    for job in jobs:
        check_training(job.values, len(train))
        _settle_projection(job, teacher)
    aligned: Path | None = None
    for job in jobs:
        aligned = Stage(job, teacher, train, test, where).run(aligned)


def _settle_projection(job: Job, teacher: TeacherFile) -> None:
    """From true or false to the projection's width; false with unequal widths shows once the student is built."""
    student = job.values["student"]
    student["projection"] = None if student["projection"] is False else int(teacher.network.num_features)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Stage:
    """One stage of one student."""

    job: Job
    teacher: TeacherFile
    train: Split
    test: Split
    where: torch.device

    def run(self, aligned: Path | None = None) -> Path:
        """Train to the end and return the checkpoint's path; `aligned` is the stage 1 to start from."""
        job, values = self.job, self.job.values
        start = find_start(job, self.teacher, self.train, aligned)
        claim = Claim.of(values, "mimic", mimic_name(job, self.teacher.name), self._identity(start))
        if on_main(claim.is_finished):
            return claim.checkpoint
        device.prepare(self.where, deterministic=values["deterministic"])
        torch.manual_seed(values["seed"])
        student = self._student(start)
        self._say_unpublished()
        teacher = place_teacher(self.teacher, self.where, values)
        data = pixels.TrainingData.open(self.train, self.test, values, self.where)
        validate = self._beside(data.validation, teacher)
        test = validate if data.test is data.validation else self._beside(data.test, teacher)
        training = Training(
            job, claim, data, validate=validate, test=test, role="student", record=self._record(),
            hardware=describe(self.where, values), keep_constants=self._is_first,
        )  # fmt: skip

        def begin() -> State:
            validate.prepare()  # the teacher's own score first: it may be none worth mimicking
            functions, constants = self._hash_functions(claim.folder.path, teacher, data, start)
            objective = self._objective(student, teacher, functions)
            return State(objective, networks.optimizer(objective, values), ema=values["ema"], constants=constants)

        results = training.execute(begin)
        show(self.teacher.name, network_name(job, "student"), results["report"])
        warn_if_better(self.teacher.name, results["report"])
        return claim.checkpoint

    @property
    def _is_first(self) -> bool:
        return bool(self.job.values["stage"]["name"] == "1")

    def _identity(self, start: Start) -> dict[str, Any]:
        values = self.job.values
        identity = settings_identity("mimic", self.job, self.train, self.test)
        identity = {k: v for k, v in identity.items() if used_in_stage(values, k) and not k.startswith("teacher")}
        identity.pop("student.init", None)
        return identity | {"student.weights": start.identity, "teacher": self.teacher.identity}

    def _record(self) -> dict[str, Any]:
        values = self.job.values
        return {
            "command": "mimic",
            "stage": values["stage"]["name"],
            "loss": values["loss"]["name"],
            "teacher": self.teacher.record(),
        }

    def _student(self, start: Start) -> nn.Module:
        values = self.job.values
        student, loaded = start.build(self.job, self.train)
        networks.check_batch_norm(student, values["dataset"]["size"], values)
        name = network_name(self.job, "student")
        described = networks.describe_network(name, student, loaded)
        logger.info(f"{described.removesuffix('random')}stage 1, {start.weights}" if start.stage1 else described)
        kinds = {node["kind"] for node in terms(values["loss"]).values()}
        if "feature" in kinds and student.num_features != self.teacher.network.num_features:
            raise InputError(
                f"{name}'s feature is {student.num_features} wide, the teacher's {self.teacher.network.num_features}: "
                "student.projection=true bridges them"
            )
        return networks.place_trained(student, self.where, values)

    def _say_unpublished(self) -> None:
        recipe, row = self.job.values["recipe"], published(self.job)
        if recipe and (not row or row.get("published") is False):
            loss, stage = self.job.values["loss"]["name"], self.job.values["stage"]["name"]
            logger.info("loss %s in stage %s: not published for this pair", loss, stage)

    def _beside(self, loader: Loader, teacher: Teacher) -> Beside:
        metric = self.job.values["dataset"]["metric"]
        return Beside(loader, self.train.classes, metric, teacher, self.teacher.name, labels=not self._is_first)

    def _hash_functions(
        self, folder: Path, teacher: Teacher, data: pixels.TrainingData, start: Start
    ) -> tuple[HashFunctions | None, dict[str, Any]]:
        """Those of the losses that want them, and what checkpoints keep of them."""
        values = self.job.values
        nodes = [term for option in terms(values["loss"]).values() for term in option["terms"].values()]
        if not any("functions" in node for node in nodes):
            return None, {}
        wanted = hashing.Wanted.by(self.job, teacher)
        images = hashing.bias_images(data, values)
        stage1 = start.stage1.get("constants", {}) if start.stage1 else None
        return hashing.prepare(folder, wanted, teacher, images, self.train.ids, stage1)

    def _objective(self, student: nn.Module, teacher: Teacher, functions: HashFunctions | None) -> Learner:
        values = self.job.values
        freeze, precision = values["freeze"], values["precision"]
        on_features, on_logits = (self._terms(kind, functions).to(self.where) for kind in ("feature", "logit"))
        if self._is_first:
            return Align(student, teacher, on_features, freeze=freeze, precision=precision)
        label_name, label_loss = networks.label_loss(self.job, "label_loss")
        return Mimic(
            student, teacher, label_loss=label_loss, label_name=label_name, gamma=values["loss"]["gamma"],
            feature_terms=on_features, logit_terms=on_logits, freeze=freeze, precision=precision,
        )  # fmt: skip

    def _terms(self, kind: str, functions: HashFunctions | None) -> Terms:
        """The chosen losses of one kind, each weighted by beta and by its own weight."""
        loss: Mapping[str, Any] = self.job.values["loss"]
        found = []
        for option in terms(loss).values():
            for name, node in option["terms"].items() if option["kind"] == kind else ():
                hashed = {"functions": functions} if "functions" in node else {}
                found.append(Term(name, loss["beta"] * option["weight"], build(node, **hashed)))
        return Terms(found)
