"""Parts of the engine as the settings of a run ask for them."""

from collections.abc import Callable
from typing import Any

from lshfm.config.schema import Training
from lshfm.console import logger
from lshfm.datasets.checks import first_five
from lshfm.engine.assemble import assemble
from lshfm.engine.average import WeightAverage
from lshfm.engine.compiled import inductor, of_any_shape
from lshfm.engine.schedule import learning_rate, one_cycle
from lshfm.engine.state import State
from lshfm.engine.step import Step, make_step
from lshfm.engine.stop import never, without_progress
from lshfm.errors import count
from lshfm.objectives.learner import Learner
from lshfm.ranks.start import log_ranks
from lshfm.runs.speed import Speed
from lshfm.tasks.pixels import TrainingData
from lshfm.tasks.task import Task

WORTH_A_LINE = 0.1  # the share of the images that an epoch leaves out


def assembled(objective: Learner, settings: Training, speed: Speed, constants: dict[str, Any] | None = None) -> State:
    """The state to train, with the optimiser and the moving average that the settings ask for."""
    if settings.speed == "fast":
        objective.hasten(bf16=speed.precision == "bf16", compiled=speed.compiled)
    return assemble(
        objective, optimizer=settings.optimizer, momentum=settings.momentum, weight_decay=settings.weight_decay,
        head_lr=settings.head_lr, decay_weights_only=settings.decay_weights_only,
        freeze_epochs=settings.freeze_epochs, ema=settings.ema, constants=constants,
        fused=speed.fused, capturable=speed.captured, compile_teacher=speed.compiled,
        compile_student=speed.compiled and not speed.varied, varied=speed.varied,
        compiler=of_any_shape if speed.varied else inductor,
        average=WeightAverage(settings.average, settings.epochs) if settings.average else None,
    )  # fmt: skip


def step_of(state: State, settings: Training, speed: Speed, images: int) -> Step:
    """The step that trains the state. images: of a full batch, at this rank."""
    return make_step(
        state, accumulate=settings.accumulate, clip_grad=settings.clip_grad, capture=speed.graphs, images=images
    )


def rate_of(settings: Training, steps: int) -> Callable[[float], float]:
    """The learning rate over the epochs. steps: of an epoch."""
    schedule = settings.schedule
    if schedule.policy == "onecycle":
        return one_cycle(settings.lr, epochs=settings.epochs, steps=steps)
    return learning_rate(
        settings.lr, cosine_epochs=schedule.cosine_epochs, steps=schedule.steps,
        warmup=schedule.warmup or min(schedule.warmup_steps, steps - 1) / steps,
        initial_lr=schedule.initial_lr,
    )  # fmt: skip


def enough_of(settings: Training) -> Callable[[State], bool]:
    """Whether a run ends before its last epoch."""
    return without_progress(settings.early_stop) if settings.early_stop else never


def log_options(settings: Training) -> None:
    """Name the options of training that are on, of those that are off unless they are asked for."""
    options = {
        "balanced": settings.balanced, "early_stop": settings.early_stop, "clip_grad": settings.clip_grad,
        "freeze_epochs": settings.freeze_epochs, "decay_weights_only": settings.decay_weights_only,
        "head_lr": settings.head_lr != 1 and settings.head_lr,
        "schedule": settings.schedule.policy != "cosine" and settings.schedule.policy,
    }  # fmt: skip
    if asked := [f"{name}={str(value).lower()}" for name, value in options.items() if value]:
        logger.info("with %s", ", ".join(asked))


def log_early_stop(state: State, settings: Training) -> None:
    """Say why a run has ended before its last epoch."""
    since = f"since epoch {state.best['epoch']}" if state.best else "at all"
    logger.info(
        "early_stop=%s: no better score %s, so the run ends after epoch %d of %d",
        settings.early_stop, since, state.epoch, settings.epochs,
    )  # fmt: skip


def log_data(data: TrainingData, task: Task, settings: Training) -> None:
    """Say what the ranks do with a batch, and what is trained, validated and tested on."""
    log_ranks(
        data.batches.device, batch_size=settings.batch_size, accumulate=settings.accumulate,
        bn_group_size=settings.bn_group_size, sync_bn=settings.sync_bn,
    )  # fmt: skip
    logger.info(task.describe(data.train_split, len(data.batches.indices), "train on"))
    images = len(data.batches.indices)
    left_out = images - len(data.batches) * settings.batch_size
    if left_out > images * WORTH_A_LINE and settings.drop_last and not settings.balanced:
        logger.info(
            "every epoch leaves %d of them out, others each time, which fill no batch of %d; drop_last=false takes all",
            left_out, settings.batch_size,
        )  # fmt: skip
    if data.validation is not data.test:
        logger.info("validate on %s", data.validation_name)
    tested = task.describe(data.test_split, len(data.test.indices), "test on")
    logger.info(f"test on {data.test_name}" if data.test_split is data.train_split else tested)
    if absent := task.absent(data.test_split, data.test.indices):
        logger.warning(
            "%d of %s without an image to test on, so no part of means over classes: %s",
            len(absent), count(len(data.test_split.classes), "class", "classes"), first_five(absent),
        )  # fmt: skip
