"""lshfm eval: every metric of a checkpoint, with its predictions."""

import io
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from lshfm.config.compose import Job, changes_results, compose, flatten, peek
from lshfm.console import console, logger, shown
from lshfm.datasets.loader import Loader
from lshfm.datasets.split import Split
from lshfm.engine.evaluate import Predictions
from lshfm.engine.state import Evaluation
from lshfm.errors import InputError, printable
from lshfm.files.write import require_writable, write_bytes, write_json, write_text
from lshfm.metrics.multilabel import devkit_lines
from lshfm.mimicking import measure
from lshfm.mimicking.measure import Beside
from lshfm.mimicking.teachers import TeacherFile, find_teacher, is_stage1, place_teacher
from lshfm.ranks import device
from lshfm.ranks.group import on_main
from lshfm.ranks.start import describe, in_ranks
from lshfm.report.multilabel import WIDTH, tables
from lshfm.runs import checkpoint
from lshfm.runs.naming import checked_name, file_names, join, network_name, plain
from lshfm.tasks import networks, pixels

Evaluate = Callable[[nn.Module], tuple[Evaluation, Predictions | None]]


def run(overrides: Sequence[str]) -> None:
    """Evaluate the checkpoint that `overrides` name, on its own data set unless they name another."""
    path = Path(str(peek("eval", overrides, "checkpoint"))).expanduser()
    is_ours = not _foreign(path, overrides)
    job = _compose(overrides, checkpoint.unpack(path) if is_ours else None)
    in_ranks(eval_here, (path, is_ours, job), job.values)


def eval_here(what: tuple[Path, bool, Job], where: torch.device) -> None:
    """This rank's part in evaluating the checkpoint at a path, ours or not, as a job says."""
    path, is_ours, job = what
    content = checkpoint.unpack(path) if is_ours else None
    values, dataset = job.values, job.values["dataset"]
    folder = Path(values["output_dir"]).expanduser() / "eval" / _name(path, job, content)
    on_main(lambda: require_writable(folder, "output_dir"))
    (split,) = pixels.read_splits(dataset, [dataset["eval_split"]])
    if dataset["devkit"]:
        _require_words(split.ids)
    network = _network(path, content, job, split)
    teacher = find_teacher(job, split) if values["teacher"] else None
    has_classifier = content is None or not is_stage1(content)
    if not has_classifier and not teacher:
        raise InputError(f"{path} is of a stage 1: its classifier is untrained; teacher=... compares its features")
    device.prepare(where, deterministic=values["deterministic"])
    loader = pixels.plain_loader(*pixels.open_pixels(split, dataset, values["workers"]), split, values, where)
    logger.info(pixels.describe_split(split, len(loader.indices), "evaluate on"))
    evaluate = _evaluator(job, loader, split.classes, teacher, labels=has_classifier)
    started = time.perf_counter()
    evaluation, predictions = evaluate(networks.place(network, where, values))
    seconds = time.perf_counter() - started
    record = {
        "name": folder.name,
        "command": "eval",
        "checkpoint": str(path),
        "metric": evaluation.name,
        "score": evaluation.score,
        "dataset": dataset["name"],
        "split": split.name,
        "data": split.fingerprint(),
        "report": evaluation.report,
        "seconds": round(seconds, 2),
        "images_per_second": round(len(loader.indices) / seconds, 2),
        "hardware": describe(where, values),
    } | ({"teacher": teacher.record()} if teacher else {})
    on_main(lambda: _write(folder, record, split, predictions, _competition(content) if dataset["devkit"] else None))
    if has_classifier:
        console.print(tables(evaluation.report), width=max(console.width, WIDTH), crop=False)
    if teacher:
        measure.show(teacher.name, network_name(job, "model"), evaluation.report)
        measure.warn_if_better(teacher.name, evaluation.report)
    score = shown(evaluation.score)
    logger.info("%s of %s on %s: %s; written to %s", evaluation.name, path.name, split.name, score, folder)


def _evaluator(
    job: Job, loader: Loader, classes: Sequence[str], teacher: TeacherFile | None, *, labels: bool
) -> Evaluate:
    """The evaluator of a network alone, or beside its teacher, who is evaluated at once."""
    values, metric = job.values, job.values["dataset"]["metric"]
    if teacher is None:
        return networks.make_evaluator(loader, classes, metric, values["precision"])
    placed = place_teacher(teacher, loader.device, values)
    beside = Beside(loader, classes, metric, placed, teacher.name, labels=labels)
    beside.prepare()
    return beside.compare


def _typed(overrides: Sequence[str]) -> set[str]:
    return {override.partition("=")[0].lstrip("+") for override in overrides}


def _foreign(path: Path, overrides: Sequence[str]) -> bool:
    """Whether the file is none of ours and the user names data set and network instead."""
    return {"dataset", "model"} <= _typed(overrides) and not checkpoint.is_ours(path)


def _compose(overrides: Sequence[str], content: Mapping[str, Any] | None) -> Job:
    """Settings of the checkpoint where the user gave none."""
    typed = _typed(overrides)
    words = [word.removeprefix("++") if word.startswith(("++dataset.", "++model.")) else word for word in overrides]
    saved: dict[str, Any] = {"eval_batch_size": 64, "precision": "fp32", "channels_last": False}
    if content is not None:
        saved |= checkpoint.settings(content, without=typed)
        chosen = {"dataset": content["dataset"]["option"], "model": content["network"]["option"]}
        words = [f"{group}={option}" for group, option in chosen.items() if group not in typed] + words
    job = compose("eval", words, saved)
    job.values["model"]["weights"] = "none"  # the checkpoint's own are loaded
    return job


def _name(path: Path, job: Job, content: Mapping[str, Any] | None) -> str:
    """The checkpoint's name, and what differs from how it was trained."""
    if job.values["name"]:
        return checked_name(job.values["name"])
    if content is None:
        return join(path.stem, {"dataset": job.values["dataset"]["name"]})
    before = checkpoint.settings(content)
    now = flatten(job.values)
    others = {k: v for k, v in now.items() if k in before and before[k] != v and changes_results("eval", k)}
    if job.values["dataset"]["name"] != content["dataset"]["values"]["name"]:
        others["dataset"] = job.values["dataset"]["name"]
    others.pop("model.weights", None)
    return join(path.stem, others)


def _network(path: Path, content: Mapping[str, Any] | None, job: Job, split: Split) -> nn.Module:
    if content is None:
        job.values["model"]["weights"] = str(path)
    elif list(split.classes) != content["classes"]:
        mismatch = checkpoint.class_mismatch(content["classes"], split.classes, job.values["dataset"]["name"])
        raise InputError(f"{path} was {mismatch}")
    network, loaded = networks.build_network(job.values["model"], split.classes, job.values["dataset"]["size"])
    if content is not None:
        checkpoint.check_weights(path, network, content["model"])
    elif loaded and loaded.missing:
        raise InputError(f"{path} cannot be evaluated on {job.values['dataset']['name']}: {loaded.describe()}")
    return network


def _competition(content: Mapping[str, Any] | None) -> str:
    """comp1 is for networks that saw VOC images alone."""
    weights = "?" if content is None else content["network"]["values"].get("weights", "none")
    return "comp1" if weights == "none" else "comp2"


def _require_words(ids: Sequence[str]) -> None:
    """A line of the devkit's files is an id, a blank and a score."""
    if several := [id_ for id_ in ids if len(id_.split()) != 1]:
        raise InputError(
            f"{printable(several[0])!r}: no id with blanks has a place in the VOC devkit's files; dataset.devkit=false"
        )


def _write(
    folder: Path, record: dict[str, Any], split: Split, predictions: Predictions | None, competition: str | None
) -> None:
    """results.json, predictions.npz and, for a `competition`, the devkit's result files."""
    assert predictions
    ids = [split.ids[i] for i in predictions.index]
    buffer = io.BytesIO()
    np.savez(
        buffer,
        ids=np.array(ids),
        logits=predictions.logits,
        targets=predictions.labels,
        classes=list(split.classes),
    )
    write_bytes(folder / "predictions.npz", buffer)
    for column, label in enumerate(file_names(split.classes) if competition else ()):
        lines = devkit_lines(ids, predictions.logits[:, column])
        write_text(folder / "devkit" / f"{competition}_cls_{plain(split.name)}_{label}.txt", lines)
    write_json(folder / "results.json", record)
