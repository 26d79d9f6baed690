"""lshfm check: read all annotations and images of a data set and list what is wrong with them."""

import json
import os
import time
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

from lshfm.config.compose import Job
from lshfm.config.groups import Dataset
from lshfm.config.schema import Check
from lshfm.console import console, logger, progress, silence
from lshfm.datasets.annotations import ONE_CLASS, OTHER_CLASSES, Fault, Grade
from lshfm.datasets.audit.boxes import box_faults
from lshfm.datasets.audit.images import Seen, inspect, same_content
from lshfm.datasets.audit.sources import Audit, audit, few_images
from lshfm.datasets.reader import class_difference
from lshfm.datasets.single import only_class
from lshfm.errors import RunFailed, at, count
from lshfm.report.check import tables
from lshfm.tasks.pixels import build_source, split_names
from lshfm.tasks.task import open_task


def run(job: Job[Check]) -> None:
    """Check both splits of the job's data set. Raises RunFailed, shown, for faults."""
    settings, dataset = job.settings, job.settings.dataset
    as_json = settings.format == "json"
    workers = len(os.sched_getaffinity(0)) if settings.workers is None else settings.workers
    started = time.perf_counter()
    with silence() if as_json else nullcontext():
        audits, seen = _read(dataset, workers)
        seconds = time.perf_counter() - started
    report = _report(dataset.name, audits, seen, seconds)
    if as_json:
        print(json.dumps(report, indent=1, allow_nan=False))
    else:
        console.print(tables(report), soft_wrap=True)
    if report["num_faults"]:
        error = RunFailed(count(report["num_faults"], "fault"))
        error.shown = True
        raise error


def _read(dataset: Dataset, workers: int) -> tuple[dict[str, Audit], dict[str, list[Seen]]]:
    """Every split's audit, and what decoding each of its pictures gave."""
    source, task = build_source(dataset), open_task(dataset)
    audits: dict[str, Audit] = {}
    seen: dict[str, list[Seen]] = {}
    for name in dict.fromkeys(split_names(source, dataset)):
        known = {fault for found in audits.values() for fault in found.faults}  # of what all splits share
        classes = audits[dataset.train_split].classes if audits else None
        with at("dataset"):
            audits[name] = audit(source, name, classes)
        if classes and audits[name].classes != classes:
            what = f"its classes {class_difference(classes, audits[name].classes)}"
            audits[name].faults.append(Fault(OTHER_CLASSES, name, f"{what}; the first are those of training"))
        if task.has_one_label and len(audits[name].classes) == 1:
            audits[name].faults.append(Fault(ONE_CLASS, name, only_class(audits[name].classes)))
        if task.gives_boxes:
            first = audits[dataset.train_split] if classes else None
            audits[name].faults += box_faults(audits[name], name, first)
        else:
            audits[name].faults += few_images(audits[name], name, is_learnt=classes is None)
        audits[name].faults = [fault for fault in audits[name].faults if fault not in known]
        logger.info("%s: %s listed", name, count(len(audits[name].images), "image"))
        with progress(f"decoding {name}") as report:
            seen[name] = inspect(audits[name], workers, report)
    return audits, seen


def _report(name: str, audits: Mapping[str, Audit], seen: Mapping[str, list[Seen]], seconds: float) -> dict[str, Any]:
    """All faults and counts, as plain values for JSON."""
    between = same_content({split: (found.images, seen[split]) for split, found in audits.items()})
    splits = {split: _split(found) for split, found in audits.items()}
    images = sum(len(found.images) for found in audits.values())
    return {
        "dataset": name,
        "splits": splits,
        "equal_files": [_plain(fault) for fault in between],
        "num_faults": sum(len(split["faults"]) for split in splits.values()) + len(between),
        "num_warnings": sum(len(split["warnings"]) for split in splits.values()),
        "images": images,
        "seconds": round(seconds, 2),
        "images_per_second": round(images / max(seconds, 1e-9), 2),
    }


def _split(found: Audit) -> dict[str, Any]:
    names = sorted(found.present.keys() | found.difficult.keys())
    counts = {name: {"present": found.present[name], "difficult": found.difficult[name]} for name in names}
    aside = {Grade.WARNS: "warnings", Grade.TELLS: "notes"}
    graded: dict[str, list[dict[str, str]]] = {"faults": [], "warnings": [], "notes": []}
    for fault in found.faults:
        graded[aside.get(fault.grade, "faults")].append(_plain(fault))
    return {"images": len(found.images), "classes": counts, **graded}


def _plain(fault: Fault) -> dict[str, str]:
    return {"kind": fault.kind, "where": fault.where, "what": fault.what}
