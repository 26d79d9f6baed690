"""Makes a training state of an objective: replicas, optimiser and moving average, in the one order that works."""

from typing import Any

import torch
from torch import nn

from lshfm.engine.average import WeightAverage
from lshfm.engine.compiled import Compiled, Compiler, inductor
from lshfm.engine.moving_average import MovingAverage
from lshfm.engine.optimizer import make_optimizer as make
from lshfm.engine.state import Objective, State
from lshfm.ranks.replicas import Clock, replicate


def assemble(
    objective: Objective,
    *,
    optimizer: str,
    momentum: float,
    weight_decay: float,
    head_lr: float = 1.0,
    decay_weights_only: bool = False,
    freeze_epochs: int = 0,
    ema: float = 0.0,
    constants: dict[str, Any] | None = None,
    average: WeightAverage | None = None,
    fused: bool = False,
    capturable: bool = False,
    compile_teacher: bool = False,
    compile_student: bool = False,
    compiler: Compiler = inductor,
    varied: bool = False,
) -> State:
    """The state before the first step. All ranks together; they start with rank 0's weights.

    objective: on its device, with what does not learn frozen already. head_lr, decay_weights_only: as make_optimizer
    has them. freeze_epochs: in so many first epochs the backbone is held; the optimiser has its parameters from the
    start, passes over them as long as they have no gradients, and keeps nothing of them. ema: decay of the moving
    average of the weights, 0 for none. constants, average: as in State. fused: the optimiser's update is one kernel.
    capturable: it can be recorded, see `make_step`. compile_teacher, compile_student: the frozen networks of a step,
    and what is trained, are compiled for the shape of the first batch. compiler: what compiles them. varied: it does
    so for batches of any shape.
    """
    clock = Clock()
    torch_optimizer = make_optimizer(
        objective, optimizer, momentum=momentum, weight_decay=weight_decay, head_lr=head_lr,
        decay_weights_only=decay_weights_only, fused=fused, capturable=capturable,
    )  # fmt: skip
    if freeze_epochs:
        objective.hold()
    compiled = _compile(objective, compiler, teacher=compile_teacher, student=compile_student, varied=varied)
    objective.trained = replicate(objective.trained, clock)
    moving = MovingAverage(objective.model, ema) if ema else None
    return State(
        objective, torch_optimizer, ema=moving, clock=clock, constants=constants, held_epochs=freeze_epochs,
        average=average, compiled=compiled,
    )  # fmt: skip


def _compile(objective: Objective, compiler: Compiler, *, teacher: bool, student: bool, varied: bool) -> list[Compiled]:
    """Compile networks of a step: after freezing, and before DDP wraps what is trained, whose hooks stay outside."""
    compiled: list[Compiled] = []

    def wrap(network: nn.Module) -> nn.Module:
        compiled.append(Compiled(network, compiler, varied=varied))
        return compiled[-1]

    if teacher:
        objective.wrap_frozen(wrap)
    if student:
        objective.trained = wrap(objective.trained)
    return compiled


def make_optimizer(
    objective: Objective,
    name: str,
    *,
    momentum: float,
    weight_decay: float,
    head_lr: float = 1.0,
    decay_weights_only: bool = False,
    fused: bool = False,
    capturable: bool = False,
) -> torch.optim.Optimizer:
    """SGD with momentum, Adam or AdamW, over what learns; weight decay on all of it, as published.

    head_lr: factor of the learning rate behind the backbone. decay_weights_only: none of the weight decay on
    parameters of one dimension, which are biases and the weights of normalisation. fused, capturable: as in optimizer.
    """
    groups = _groups(objective, weight_decay, head_lr, decay_weights_only)
    return make(
        groups, name, momentum=momentum, weight_decay=weight_decay, fused=fused or capturable, capturable=capturable
    )


def _groups(
    objective: Objective, weight_decay: float, head_lr: float, decay_weights_only: bool
) -> list[dict[str, Any]]:
    """The optimiser's groups, which differ in `factor` of the learning rate and in weight decay."""
    heads = {id(parameter) for parameter in objective.heads()} if head_lr != 1 else set()
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in (p for p in objective.parameters() if p.requires_grad):
        factor = head_lr if id(parameter) in heads else 1.0
        decay = 0.0 if decay_weights_only and parameter.ndim <= 1 else weight_decay
        groups.setdefault((factor, decay), []).append(parameter)
    return [{"params": own, "factor": factor, "weight_decay": decay} for (factor, decay), own in groups.items()]
