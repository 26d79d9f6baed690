"""Makes a training state of an objective: replicas, optimiser and moving average, in the one order that works."""

from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lshfm.engine.state import Objective, State
from lshfm.ranks.replicas import Clock, replicate


def assemble(
    objective: Objective,
    *,
    optimizer: str,
    momentum: float,
    weight_decay: float,
    ema: float = 0.0,
    constants: dict[str, Any] | None = None,
) -> State:
    """The state before the first step. All ranks together; they start with rank 0's weights.

    objective: on its device, with what does not learn frozen already. ema: decay of the moving average of the
    weights, 0 for none. constants: as in State.
    """
    clock = Clock()
    # torch.compile belongs here: after freezing and before DDP wraps the module, so that DDP's hooks stay outside.
    objective.trained = replicate(objective.trained, clock)
    torch_optimizer = make_optimizer(objective, optimizer, momentum=momentum, weight_decay=weight_decay)
    average = moving_average(objective.model, ema) if ema else None
    return State(objective, torch_optimizer, ema=average, clock=clock, constants=constants)


def make_optimizer(objective: Objective, name: str, *, momentum: float, weight_decay: float) -> torch.optim.Optimizer:
    """SGD with momentum, or AdamW, over what learns; weight decay on all of it, as published."""
    parameters = [p for p in objective.parameters() if p.requires_grad]
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=0.0, momentum=momentum, weight_decay=weight_decay)
    return torch.optim.AdamW(parameters, lr=0.0, betas=(momentum, 0.999), weight_decay=weight_decay)


def moving_average(model: nn.Module, decay: float) -> AveragedModel:
    """Exponential moving average of weights and buffers; the first update copies them."""
    average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return AveragedModel(model, multi_avg_fn=average, use_buffers=True)
