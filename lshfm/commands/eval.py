"""lshfm eval: every metric of a checkpoint, with its predictions."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lshfm import __version__
from lshfm.checks import require_writable
from lshfm.config.catalogue import label_loss_of
from lshfm.config.changes import changes_results, flatten
from lshfm.config.compose import Job, config_folders
from lshfm.config.evaluation import Request
from lshfm.config.keys import plain
from lshfm.config.schema import Eval
from lshfm.console import logger, show_tables, shown
from lshfm.datasets.loader import Loader
from lshfm.datasets.split import Split
from lshfm.engine.state import Evaluation
from lshfm.errors import InputError
from lshfm.files.read import digest
from lshfm.mimicking.measure import ComparedEvaluator, show
from lshfm.mimicking.teachers import TeacherFile, find_teacher
from lshfm.ranks.device import prepare
from lshfm.ranks.group import on_main
from lshfm.ranks.start import describe, in_ranks
from lshfm.runs.checkpoint import Checkpoint
from lshfm.runs.naming import checked_name, data_title, file_title, join
from lshfm.runs.predictions import write_predictions
from lshfm.runs.provenance import peak_memory, revision
from lshfm.runs.record import Results
from lshfm.runs.thresholds import Thresholds
from lshfm.shipping.tested import read_tested
from lshfm.shipping.tuning import HeldOut, chosen, effect, find_held_out, say, say_what_was_there
from lshfm.tasks.losses import with_loss
from lshfm.tasks.networks import place
from lshfm.tasks.task import Arrays, Evaluate, Task, open_task


def run(asked: Request[Eval]) -> Path:
    """Evaluate a checkpoint, on its own data set unless another one was asked for; returns the evaluation's folder."""
    path, given = asked.checkpoint, asked.given
    checkpoint = Checkpoint.open(path, config_folders())
    missing = {"dataset", "model"} - given - checkpoint.options.keys()
    if "model" in missing and checkpoint.run:
        raise InputError(
            f"{path} is {checkpoint.run}. An older version wrote it without saying which network and data set they "
            "are: add dataset=... and model=... to evaluate it"
        )
    if "model" in missing:
        raise InputError(
            f"{path} is no checkpoint of lshfm, so it names neither data set nor network: "
            "add dataset=... and model=... to evaluate it"
        )
    if missing:
        raise InputError(f"{path} holds {checkpoint.title} and names no data set: add dataset=... to evaluate it")
    job = asked.job(checkpoint.options, checkpoint.saved(without=given))
    return Path(in_ranks(eval_here, (path, job), gpus=job.settings.gpus, ranks=job.settings.ranks))


def eval_here(what: tuple[Path, Job[Eval]], device: torch.device) -> str:
    """This rank's part of an evaluation; returns its folder. what: the checkpoint's path, and the job."""
    path, job = what
    settings, dataset = job.settings, job.settings.dataset
    checkpoint, task = Checkpoint.open(path, job.folders), _task(job)
    folder = Path(settings.output_dir).expanduser() / "eval" / _name(checkpoint, settings)
    on_main(lambda: require_writable(folder, "output_dir"))
    tested = read_tested(task, checkpoint, dataset)
    split = tested.split
    write_files = task.file_writer(dataset, split)
    is_tuned = settings.thresholds.tune or settings.calibration != "none"
    held_out = find_held_out(task, checkpoint, job, tested) if is_tuned else None
    network = _network(checkpoint, settings, task, split)
    teacher = find_teacher(job, task, split) if settings.teacher.option else None
    if checkpoint.is_stage1 and not teacher:
        raise InputError(f"{path} is of a stage 1: its classifier is untrained; teacher=... compares its features")
    prepare(device, deterministic=settings.deterministic, varied=task.has_varied_shapes)
    order = settings.channels_last or False
    how: dict[str, Any] = {"workers": settings.workers, "batch_size": settings.eval_batch_size, "channels_last": order}
    if held_out:
        loader = held_out.batches(task, dataset, device, **how)
        _tune(held_out, loader, checkpoint, settings, task, place(network, device, channels_last=order))
    loader = tested.batches(task, dataset, device, **how)
    title = tested.title(loader)
    logger.info(task.describe(split, len(loader.indices), "evaluate on"))
    evaluate = _evaluator(task, loader, split, settings, teacher, labels=not checkpoint.is_stage1)
    loss_name, evaluate = (None, evaluate) if checkpoint.is_stage1 else _told_loss(evaluate, checkpoint, task, job)
    started = time.perf_counter()
    evaluation, arrays = evaluate(place(network, device, channels_last=order))
    seconds = time.perf_counter() - started
    stored = on_main(lambda: Thresholds.of(path, lambda: digest(network.state_dict())))
    evaluation = on_main(lambda: _with_thresholds(evaluation, stored, arrays, split))
    measured = {
        "split": title,
        "data": split.fingerprint(),
        "label_loss_name": loss_name,
        "evaluation_seconds": round(seconds, 2),
        "images_per_second": round(len(loader.indices) / seconds, 2),
        "peak_memory": peak_memory(device),
        "hardware": describe(device, settings.precision or "fp32"),
    }
    results = _results(job, checkpoint, evaluation, teacher, name=folder.name, **measured)

    def write() -> None:
        write_predictions(folder / "predictions.npz", arrays, split.classes)
        if write_files:
            write_files(folder, arrays, checkpoint.saw_only_its_data)
        if not checkpoint.is_stage1:
            task.write_tables(folder, results.report)
        results.write(folder / "results.json")

    on_main(write, "writing the results")
    _show(task, job, evaluation, checkpoint, teacher)
    told = "" if evaluation.loss is None else f"{loss_name} loss {evaluation.loss:.4f}; "
    score = shown(evaluation.score)
    logger.info("%s of %s on %s: %s; %swritten to %s", evaluation.name, path.name, title, score, told, folder)
    return str(folder)


def _task(job: Job[Eval]) -> Task:
    task, threshold = open_task(job.settings.dataset, job.folders), job.settings.threshold
    return task if threshold is None else task.at_threshold(threshold)


def _show(
    task: Task, job: Job[Eval], evaluation: Evaluation, checkpoint: Checkpoint, teacher: TeacherFile | None
) -> None:
    """Print the tables."""
    if not checkpoint.is_stage1:
        show_tables(task.tables(evaluation.report))
    if teacher:
        show(task, teacher.name, job.settings.model.title, evaluation.report)


def _results(
    job: Job[Eval], checkpoint: Checkpoint, evaluation: Evaluation, teacher: TeacherFile | None, **measured: Any
) -> Results:
    """The record of an evaluation. measured: further fields."""
    return Results(
        command="eval",
        command_line=list(job.typed) or None,
        lshfm=__version__,
        revision=revision(),
        teacher=teacher.record() if teacher else None,
        starting_weights=checkpoint.starting_weights,
        dataset=job.settings.dataset.name,
        metric=evaluation.name,
        score=evaluation.score,
        label_loss=evaluation.loss,
        report=evaluation.report,
        checkpoint=str(checkpoint.path),
        **measured,
    )


def _tune(
    held_out: HeldOut, loader: Loader, checkpoint: Checkpoint, settings: Eval, task: Task, network: nn.Module
) -> None:
    """Choose thresholds and temperature as asked, and store them beside the checkpoint."""
    logger.info("thresholds are chosen on %d images: %s", len(loader.indices), held_out.words)
    metric, precision = settings.dataset.metric, settings.precision or "fp32"
    _, arrays = task.evaluator(loader, held_out.split, metric, precision)(network)

    def store() -> None:
        weights = digest(network.state_dict())
        before = Thresholds.of(checkpoint.path, lambda: weights)
        say_what_was_there(before, settings)
        found = chosen(arrays, held_out.split.classes, settings, weights, before, held_out.words)
        say(found.figures, found, "the images they were chosen on")
        logger.info("stored in %s, for predict, export and lshfm.load", found.write(checkpoint.path))

    on_main(store)


def _with_thresholds(evaluation: Evaluation, stored: Thresholds | None, arrays: Arrays, split: Split) -> Evaluation:
    """The evaluation with what the thresholds beside the checkpoint change, where there are any."""
    if stored is None or "logits" not in arrays:
        return evaluation
    figures = effect(stored, arrays, split.classes)
    say(figures, stored, f"split {split.name}")
    return replace(evaluation, report=evaluation.report | {"thresholds": figures})


def _evaluator(
    task: Task, loader: Loader, split: Split, settings: Eval, teacher: TeacherFile | None, *, labels: bool
) -> Evaluate:
    """An evaluator of the network alone, or beside its teacher, which is evaluated first."""
    metric, precision = settings.dataset.metric, settings.precision or "fp32"
    if teacher is None:
        return task.evaluator(loader, split, metric, precision)
    placed = teacher.placed(loader.device, precision=precision, channels_last=settings.channels_last or False)
    compared = ComparedEvaluator(task, loader, split, metric, placed, teacher.name, labels=labels)
    compared.prepare()
    return compared


def _told_loss(evaluate: Evaluate, checkpoint: Checkpoint, task: Task, job: Job[Eval]) -> tuple[str, Evaluate]:
    """The evaluator with the loss of labels that the checkpoint was trained with, else the data set's; and its name."""
    name, loss = _label_loss(checkpoint, task, job)
    return name, with_loss(evaluate, task, loss)


def _label_loss(checkpoint: Checkpoint, task: Task, job: Job[Eval]) -> tuple[str, nn.Module]:
    otherwise: tuple[str, dict[str, Any]] = (job.settings.dataset.default_label_loss, {})
    option, values = checkpoint.label_loss or otherwise
    try:
        return task.label_loss(label_loss_of(option, values, job.folders), 1, at="label_loss")
    except InputError as error:
        logger.warning("the loss of its training is not there, so that of %s is taken: %s", otherwise[0], error)
        return task.label_loss(label_loss_of(*otherwise, job.folders), 1, at="label_loss")


def _name(checkpoint: Checkpoint, settings: Eval) -> str:
    """The evaluation's name: the checkpoint's, and the settings that differ from those it was trained with."""
    path, dataset = checkpoint.path, settings.dataset
    if settings.name:
        return checked_name(settings.name)
    title, stem = data_title(dataset.name, dataset.own.get("root"), checkpoint.folders), file_title(path)
    asked = _asked(settings)
    if checkpoint.content is None:
        return join(stem, {"dataset": title} | asked)
    before, now = checkpoint.saved(), flatten(plain(settings))
    others = asked | {k: v for k, v in now.items() if k in before and before[k] != v and changes_results("eval", k)}
    trained_on = checkpoint.content["dataset"]["values"]
    if title != data_title(trained_on["name"], trained_on.get("root"), checkpoint.folders):
        others["dataset"] = title
    others.pop("model.weights", None)
    return join(stem, others)


def _asked(settings: Eval) -> dict[str, Any]:
    """What an evaluation of the same checkpoint can be asked for, or not."""
    asked: dict[str, Any] = {} if settings.threshold in (None, 0.5) else {"threshold": settings.threshold}
    if settings.teacher.option:
        file = settings.teacher.path
        asked["teacher"] = file_title(Path(file)) if file else settings.teacher.title
    return asked


def _network(checkpoint: Checkpoint, settings: Eval, task: Task, split: Split) -> nn.Module:
    """The checkpoint's network, built as the settings say. Raises InputError if its classes are not the split's."""
    dataset = settings.dataset
    if differs := checkpoint.class_mismatch(split.classes, dataset.name):
        raise InputError(f"{checkpoint.path} was {differs}")
    return checkpoint.network(
        task, split.classes, dataset.size, built_as=settings.model, cannot=f"cannot be evaluated on {dataset.name}"
    )
