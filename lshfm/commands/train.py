"""lshfm train: one classifier on labels alone."""

from collections.abc import Sequence

import torch

from lshfm.config.compose import Job, compose
from lshfm.console import logger
from lshfm.engine.state import State
from lshfm.objectives.supervised import Supervised
from lshfm.ranks import device
from lshfm.ranks.group import on_main
from lshfm.ranks.start import describe, in_ranks
from lshfm.runs.naming import network_name, train_name
from lshfm.runs.place import Claim, settings_identity, weights_identity
from lshfm.runs.training import Training, check_training
from lshfm.tasks import networks, pixels


def run(overrides: Sequence[str]) -> None:
    """Train as `overrides` say, continue an unfinished run, or say that it is finished."""
    job = compose("train", overrides)
    in_ranks(train_here, job, job.values)


def train_here(job: Job, where: torch.device) -> None:
    """This rank's part of a job."""
    values, dataset = job.values, job.values["dataset"]
    train, test = pixels.read_splits(dataset, [dataset["train_split"], dataset["eval_split"]])
    check_training(values, len(train))
    identity = settings_identity("train", job, train, test)
    identity["model.weights"] = weights_identity(values["model"].get("weights", "none"))
    claim = Claim.of(values, "train", train_name(job), identity)
    if on_main(claim.is_finished):
        return
    device.prepare(where, deterministic=values["deterministic"])
    torch.manual_seed(values["seed"])
    state = _state(job, train.classes, where)
    data = pixels.TrainingData.open(train, test, values, where)
    metric, precision = dataset["metric"], values["precision"]
    validate = networks.make_evaluator(data.validation, train.classes, metric, precision)
    final = networks.make_evaluator(data.test, test.classes, metric, precision)
    training = Training(
        job, claim, data, validate=lambda network: validate(network)[0], test=lambda network: final(network)[0],
        hardware=describe(where, values), role="model", record={"command": "train"},
    )  # fmt: skip
    training.execute(lambda: state)


def _state(job: Job, classes: Sequence[str], where: torch.device) -> State:
    """Network, objective and optimiser, ready to train."""
    values, size = job.values, job.values["dataset"]["size"]
    network, loaded = networks.build_network(values["model"], classes, size)
    networks.check_batch_norm(network, size, values)
    logger.info(networks.describe_network(network_name(job, "model"), network, loaded))
    loss_name, loss = networks.label_loss(job, "loss")
    network = networks.place_trained(network, where, values)
    objective = Supervised(network, loss, loss_name, freeze=values["freeze"], precision=values["precision"])
    return State(objective, networks.optimizer(objective, values), ema=values["ema"])
