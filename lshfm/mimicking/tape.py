"""Teacher tapes: a teacher's features and logits of every training view, recorded once and replayed in later runs."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from lshfm.config.schema import Mimic
from lshfm.console import logger
from lshfm.datasets.loader import Loader
from lshfm.errors import InputError, count
from lshfm.files.parse import parse_json
from lshfm.files.room import free_bytes
from lshfm.files.tape import Tape
from lshfm.files.write import write_json
from lshfm.mimicking.taught import TaughtBatches
from lshfm.mimicking.teachers import TeacherFile
from lshfm.objectives.teacher import Teacher
from lshfm.ranks.group import first_on_each_machine, is_main, num_ranks, on_main, place
from lshfm.tasks.pixels import TrainingData

FOLDER = "teacher_tapes"  # in dataset.cache_dir
ABOUT = "tape.json"
VERSION = 1


def open_tape(settings: Mimic, file: TeacherFile, teacher: Teacher, data: TrainingData) -> TaughtBatches | None:
    """The training batches with a teacher's outputs, as `teacher_tape` asks; None for off. All ranks together.

    Raises InputError for a tape to replay that is not there, of something else or incomplete; for one to record that
    the disk has no room for, or whose ranks are on several machines; and for views that depend on the other pictures of
    a batch.
    """
    if settings.teacher_tape == "off":
        return None
    if settings.augment.mixup or settings.augment.cutmix:
        raise InputError(
            f"teacher_tape={settings.teacher_tape}: mixup and cutmix mix a picture with others of its batch, so that "
            "no later run sees it again: augment.mixup=0 augment.cutmix=0, or teacher_tape=off"
        )
    key, loader = tape_key(settings, file, teacher, data), data.batches
    width = teacher.num_features + len(data.train_split.classes)
    home = Path(settings.dataset.cache_dir).expanduser() / FOLDER
    name = f"{settings.dataset.name}_{file.name}_s{settings.seed}".replace("/", "-")
    tape = Tape(home / f"{name}_{_digest(key)[:12]}", len(data.train_split), width)
    records = settings.teacher_tape == "record"
    if not (records and on_main(lambda: _prepare(tape, key, loader, settings.epochs))):
        first_on_each_machine(lambda: _require_whole(tape, key, loader, settings.epochs))
    records = records and place().local_num == num_ranks()  # a damaged row is mended
    return TaughtBatches(loader, tape, teacher, records=records, parts=settings.accumulate)


def tape_key(settings: Mimic, file: TeacherFile, teacher: Teacher, data: TrainingData) -> dict[str, Any]:
    """What a teacher's outputs on a training view depend on, beside its epoch and sample."""
    view, split = data.batches.view, data.train_split
    numbers = file.normalisation
    return {
        "teacher": file.identity,
        "normalisation": None if numbers is None else [list(each) for each in numbers],
        "precision": teacher.precision,
        "data": split.fingerprint(),
        "pixels": data.pixels[split.name],
        "seed": settings.seed,
        "augment": asdict(settings.augment),
        "mean": list(view.mean),
        "std": list(view.std),
    }


def _missing(tape: Tape, loader: Loader, epochs: int) -> dict[int, int]:
    """Epochs that are not whole, and how many of their samples are not recorded."""
    counts = {epoch: tape.missing(epoch, loader.used(epoch)) for epoch in range(epochs)}
    return {epoch: number for epoch, number in counts.items() if number}


def _prepare(tape: Tape, key: Mapping[str, Any], loader: Loader, epochs: int) -> bool:
    """Say what will be recorded, and make the folder; False if all of it is there already. At rank 0."""
    missing = _missing(tape, loader, epochs)
    if not missing:
        return False
    if place().local_num != num_ranks():
        raise InputError(
            "teacher_tape=record takes ranks of one machine, as several would write to one file: record on one, "
            "then replay on any number"
        )
    new = sum(tape.epoch_bytes for epoch in missing if not tape.has(epoch))
    free = free_bytes(tape.folder)
    if new * 1.05 > free:
        raise InputError(
            f"no room for the teacher tape in {tape.folder.parent}: it needs {new / 1e9:.2f} GB, {free / 1e9:.2f} GB "
            "are free. dataset.cache_dir=DIR puts it elsewhere, teacher_tape=off does without"
        )
    there = f"; {count(epochs - len(missing), 'epoch')} of it are there" if len(missing) < epochs else ""
    logger.info(
        "teacher tape: recording %d epochs of %d images into %s, %.2f GB more, %.2f GB free%s",
        epochs, tape.num, tape.folder, new / 1e9, free / 1e9, there,
    )  # fmt: skip
    if not (tape.folder / ABOUT).is_file():
        write_json(tape.folder / ABOUT, {"version": VERSION, "rows": tape.num, "width": tape.width, "key": dict(key)})
    return True


def _require_whole(tape: Tape, key: Mapping[str, Any], loader: Loader, epochs: int) -> None:
    """InputError unless the tape has all that a run of so many epochs trains on."""
    if not (tape.folder / ABOUT).is_file():
        raise InputError(f"teacher_tape=replay: {_nearest(tape.folder.parent, key)}; teacher_tape=record makes one")
    missing = _missing(tape, loader, epochs)
    if missing:
        whole = _spans([epoch + 1 for epoch in range(epochs) if epoch not in missing])
        epoch, number = next(iter(missing.items()))
        raise InputError(
            f"teacher_tape=replay: {tape.folder} is not whole for {count(epochs, 'epoch')}: it has {whole}; of epoch "
            f"{epoch + 1}, {number} of {len(np.unique(loader.used(epoch)))} images are missing. teacher_tape=record "
            "records the rest"
        )
    if is_main():
        logger.info("teacher tape: replaying %s, training does not run the teacher", tape.folder)


def _nearest(home: Path, key: Mapping[str, Any]) -> str:
    """Why no tape in the folder fits: the one with the fewest differences, and which they are."""
    found: list[tuple[int, str]] = []
    for about in sorted(home.glob(f"*/{ABOUT}")) if home.is_dir() else ():
        try:
            there = parse_json(about.read_text(encoding="utf-8"))["key"]
            differing = [name for name in key if there.get(name) != key[name]]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
        shown = ", ".join(f"{name} ({_short(there.get(name))} there, {_short(key[name])} now)" for name in differing)
        found.append((len(differing), f"the nearest tape, {about.parent}, differs in {shown}"))
    return min(found)[1] if found else f"there is no teacher tape in {home}"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text[:12] if len(text) == 64 else text  # a digest


def _spans(epochs: Sequence[int]) -> str:
    """Epochs in words: 1-3, 5."""
    spans: list[list[int]] = []
    for epoch in epochs:
        if spans and spans[-1][-1] == epoch - 1:
            spans[-1].append(epoch)
        else:
            spans.append([epoch])
    texts = [str(span[0]) if len(span) == 1 else f"{span[0]}-{span[-1]}" for span in spans]
    return f"epochs {', '.join(texts)}" if texts else "no whole epoch"


def _digest(key: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
