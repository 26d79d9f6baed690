"""lshfm train: one network on labels alone."""

from collections.abc import Sequence
from pathlib import Path

import torch

from lshfm.config.compose import Job
from lshfm.config.schema import Train
from lshfm.console import logger
from lshfm.engine.state import State
from lshfm.objectives.supervised import Supervised
from lshfm.ranks.device import prepare
from lshfm.ranks.group import num_ranks
from lshfm.ranks.start import in_ranks
from lshfm.runs.check import check_training
from lshfm.runs.folder import RunFolder
from lshfm.runs.log import logged
from lshfm.runs.naming import train_name
from lshfm.runs.older_names import older_train_name
from lshfm.runs.place import RunPlace, settings_identity, weights_identity
from lshfm.runs.training import TrainingRun, assembled
from lshfm.tasks.losses import with_loss
from lshfm.tasks.networks import check_batch_norm, describe_network, place_trained, starting_weights
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
    identity = settings_identity(settings, train, test)
    identity["model.weights"] = weights_identity(settings.model.weights or "none")
    place = RunPlace.of(settings, train_name(job), identity, older=older_train_name(job))
    if place.is_finished():
        return place.folder
    prepare(device, deterministic=settings.deterministic)
    torch.manual_seed(settings.seed)
    state, weights = _state(settings, task, train.classes, device)
    data = task.training_data(train, test, settings, device)
    validate = task.evaluator(data.validation, data.validation_split, dataset.metric, settings.precision)
    final = task.evaluator(data.test, test, dataset.metric, settings.precision)
    _, loss = task.label_loss(settings.loss, 1, at="loss")
    with place.occupied(settings):
        training = TrainingRun(
            job, place, data, validate=with_loss(validate, task, loss), test=with_loss(final, task, loss),
            trained=settings.model, made_by={"starting_weights": weights},
        )  # fmt: skip
        training.announce(task)
        training.train(state)
    return place.folder


def _state(settings: Train, task: Task, classes: Sequence[str], device: torch.device) -> tuple[State, str]:
    """Network, objective and optimiser, ready to train; and where the weights come from, in words."""
    network, loaded = task.network(settings.model, classes, settings.dataset.size)
    check_batch_norm(network, settings)
    weights = starting_weights(settings.model, loaded)
    logger.info(describe_network(settings.model.title, network, weights))
    name, loss = task.label_loss(settings.loss, num_ranks() * settings.accumulate, at="loss")
    network = place_trained(network, device, settings)
    objective = Supervised(network, loss, name, freeze=settings.freeze, precision=settings.precision)
    return assembled(objective, settings), weights
