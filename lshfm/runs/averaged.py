"""The mean of the last epochs' weights at the end of a run: built, evaluated, kept beside the last."""

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from lshfm.config.schema import Training
from lshfm.console import logger, shown
from lshfm.datasets.loader import Loader
from lshfm.engine.state import State
from lshfm.files.write import write_checkpoint
from lshfm.models.statistics import renew_statistics
from lshfm.ranks.group import on_main, share_buffers
from lshfm.runs.memory import enough_to_evaluate
from lshfm.runs.record import measured
from lshfm.tasks.task import Evaluate

FILE = "average.ckpt"


def averaged(
    folder: Path, state: State, settings: Training, batches: Loader, test: Evaluate,
    pack: Callable[[nn.Module], Mapping[str, Any]],
) -> dict[str, Any] | None:  # fmt: skip
    """Evaluate the mean of the last epochs' weights and keep it as average.ckpt; all ranks together.

    Returns its entry for the record; None where nothing was averaged. pack: a network's checkpoint content.
    """
    if state.average is None:
        return None
    if not state.average.count:
        logger.info(
            "average=%d: there is no mean of weights, as the run ended after epoch %d, before the last %d of %d epochs",
            settings.average, state.epoch, settings.average, settings.epochs,
        )  # fmt: skip
        return None
    network = _mean(state, settings, batches)
    with state.evaluating(), enough_to_evaluate(settings.eval_batch_size):
        evaluation, _ = test(network)
    found, count = measured(evaluation), state.average.count
    path = folder / FILE
    on_main(lambda: write_checkpoint(path, {**pack(network), **found}), f"writing {FILE}")
    logger.info(
        "mean of the weights of %d epochs (BatchNorm %s): %s %s; %s",
        count, settings.average_bn, evaluation.name, shown(evaluation.score), path,
    )  # fmt: skip
    return {"epochs": count, "batch_norm": settings.average_bn, "checkpoint": str(path), **found}


def _mean(state: State, settings: Training, batches: Loader) -> nn.Module:
    """A network with the mean of the weights."""
    assert state.average
    network = copy.deepcopy(state.model)
    network.load_state_dict(state.average.mean(network))
    if settings.average_bn == "anew":  # from one more epoch's pictures, as training would have seen them
        renew_statistics(network, (batch.images for batch in batches.epoch(settings.epochs)))
        share_buffers(network)
    return network
