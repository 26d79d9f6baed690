"""lshfm train: one network on labels alone."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from lshfm.config.changes import ONCE_COUNTED
from lshfm.config.compose import Job
from lshfm.config.schema import Train
from lshfm.console import logger
from lshfm.engine.state import State
from lshfm.ranks.device import prepare
from lshfm.ranks.group import num_ranks
from lshfm.ranks.start import in_ranks
from lshfm.runs.check import check_labels, check_selection, check_training
from lshfm.runs.folder import RunFolder
from lshfm.runs.log import logged
from lshfm.runs.naming import train_name
from lshfm.runs.older_names import older_train_name
from lshfm.runs.place import RunPlace, settings_identity, weights_identity
from lshfm.runs.settled import assembled
from lshfm.runs.speed import Speed, speed_of
from lshfm.runs.training import TrainingRun
from lshfm.tasks.losses import counted, log_loss, with_loss
from lshfm.tasks.networks import check_batch_norm, check_parts, describe_network, place_trained, starting_weights
from lshfm.tasks.task import Task, open_task


def run(job: Job[Train], notes: Sequence[str] = ()) -> Path:
    """Train, continue an unfinished run, or say that it is finished; returns its folder. notes: the log's first."""
    for note in notes:
        logger.info(note)
    return Path(in_ranks(train_here, job, gpus=job.settings.gpus, ranks=job.settings.ranks))


def train_here(job: Job[Train], device: torch.device) -> str:
    """This rank's part of a job; returns the run's folder."""
    with logged(job.typed, device, job.settings.precision):
        return str(_train(job, device).path)


def _train(job: Job[Train], device: torch.device) -> RunFolder:
    settings, dataset = job.settings, job.settings.dataset
    task = open_task(dataset, job.folders)
    train, test = task.read(dataset, [dataset.train_split, dataset.eval_split])
    check_training(settings, len(train))
    check_labels(task, settings, settings.loss, train, at="loss")
    identity = settings_identity(settings, train, test)
    identity["model.weights"] = weights_identity(settings.model.weights or "none")
    older = [train_name(job, also=ONCE_COUNTED), older_train_name(job)]
    place = RunPlace.of(settings, train_name(job), identity, older=older, typed=job.typed)
    if place.is_finished():
        return place.folder
    if (begun := place.as_begun(dataset)) != dataset:
        job = replace(job, settings=replace(settings, dataset=begun))
        settings, dataset = job.settings, begun
        train, test = task.read(dataset, [dataset.train_split, dataset.eval_split])
    check_selection(settings, task, train, test)
    prepare(device, deterministic=settings.deterministic, varied=task.has_varied_shapes)
    torch.manual_seed(settings.seed)
    network, weights = _network(settings, task, train.classes)
    data = task.training_data(train, test, settings, device)
    speed = speed_of(settings, device, len(data.batches.indices), varied=task.has_varied_shapes)
    state = _state(settings, task, network, data.labels, device, speed)
    validate = task.evaluator(data.validation, data.validation_split, dataset.metric, speed.precision)
    final = task.evaluator(data.test, test, dataset.metric, speed.precision)
    _, loss = task.label_loss(settings.loss, 1, at="loss", labels=data.labels)
    with place.occupied(settings):
        training = TrainingRun(
            job, place, data, validate=with_loss(validate, task, loss), test=with_loss(final, task, loss),
            trained=settings.model, speed=speed, made_by={"starting_weights": weights} | counted(loss),
        )  # fmt: skip
        training.announce(task)
        training.train(state)
    return place.folder


def _network(settings: Train, task: Task, classes: Sequence[str]) -> tuple[nn.Module, str]:
    """The network to train, and where its weights come from, in words."""
    network, loaded = task.network(settings.model, classes, settings.dataset.size)
    check_batch_norm(network, settings)
    check_parts(network, settings)
    weights = starting_weights(settings.model, loaded)
    logger.info(describe_network(settings.model.title, network, weights))
    return network, weights


def _state(
    settings: Train, task: Task, network: nn.Module, labels: np.ndarray, device: torch.device, speed: Speed
) -> State:
    """Network, objective and optimiser, ready to train. labels: of the images to train on."""
    name, loss = task.label_loss(settings.loss, num_ranks() * settings.accumulate, at="loss", labels=labels)
    log_loss(name, loss)
    network = place_trained(network, device, settings)
    objective = task.supervised(network, loss.to(device), name, freeze=settings.freeze, precision=speed.precision)
    return assembled(objective, settings, speed)
