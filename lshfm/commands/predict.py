"""lshfm predict: labels of pictures, or objects in them, by a trained network."""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from lshfm import __version__
from lshfm.checks import require_writable
from lshfm.config.checkpoint_names import checkpoint_file
from lshfm.config.compose import Job
from lshfm.config.schema import Predict
from lshfm.console import Bar, console, logger, speed
from lshfm.datasets.images import FileImages
from lshfm.errors import InputError, RunFailed, printable
from lshfm.files.names import plain
from lshfm.files.read import sha256
from lshfm.files.write import replacing
from lshfm.ranks.device import choose, describe_hardware, prepare
from lshfm.runs.folder import RunFolder, Status
from lshfm.runs.naming import checked_name, file_title, join
from lshfm.runs.provenance import peak_memory
from lshfm.runs.record import Results
from lshfm.shipping.answering import AnyNetwork
from lshfm.shipping.answers import Answers, Entry
from lshfm.shipping.drawing import ON_A_SHEET, TILE, contact_sheet
from lshfm.shipping.inputs import find_pictures
from lshfm.shipping.load import open_predictor
from lshfm.shipping.writing import PredictionFiles

FEW = 12  # pictures whose labels the console shows instead of a file
SHOWN = 20  # broken pictures that the message lists
FROM_HERE_IN_WORKERS = 64  # pictures: starting processes costs more than it saves for fewer


def run(job: Job[Predict]) -> None:
    """Predict, continue predictions that were broken off, or say that they are finished.

    Raises RunFailed for pictures that cannot be read, once all others are done.
    """
    settings = job.settings
    path = checkpoint_file(settings.checkpoint, Path(settings.checkpoint_dir).expanduser())
    pictures = FileImages(tuple(find_pictures(settings.input)))
    extras = settings.features or settings.pictures or settings.sheet or settings.devkit or settings.coco_ids
    is_shown = len(pictures) <= FEW and settings.format == "auto" and not extras and not settings.name
    if not is_shown:
        require_writable(_folder_of(settings, path), "output_dir")
    (device, *more) = choose(settings.gpus)
    if more:
        raise InputError(f"gpus={settings.gpus}: predict runs on one device, as gpus=[0]")
    prepare(device, deterministic=False)
    predictor = open_predictor(path, device, job.folders, fast=settings.speed == "fast")
    ids = Path(settings.coco_ids).expanduser() if settings.coco_ids else None
    answers = predictor.answers(features=settings.features, devkit=settings.devkit, coco_ids=ids)
    answers.check(list(map(str, pictures.paths)))
    if is_shown:
        broken = _show(predictor, answers, pictures, settings)
    else:
        broken = _Folder(job, path, predictor, answers, pictures, device).fill()
    if broken:
        raise RunFailed(_told(broken, len(pictures)))


def _show(predictor: AnyNetwork, answers: Answers, pictures: FileImages, settings: Predict) -> dict[str, str]:
    """Print a line a picture; returns the faults of broken ones by path."""
    broken = {}
    for outputs in predictor.stream(pictures, batch_size=settings.batch_size):
        for each in predictor.records(pictures, outputs, settings.threshold, settings.top):
            assert each.source is not None
            if each.error is None:
                console.print(f"{printable(each.source)}: {answers.words(each)}")
            else:
                broken[each.source] = each.error
    return broken


def _told(broken: Mapping[str, str], total: int) -> str:
    lines = [f"  {fault}" for fault in list(broken.values())[:SHOWN]]
    more = [f"  and {len(broken) - SHOWN} more; the predictions list all"] if len(broken) > SHOWN else []
    return "\n".join([f"{_how_many(len(broken), total)}:", *lines, *more])


def _how_many(broken: int, total: int) -> str:
    if broken < total:
        return f"{broken} of {total} pictures cannot be read; all others are done"
    return "the picture cannot be read" if total == 1 else f"none of the {total} pictures can be read"


class _Folder:
    """A folder of predictions."""

    def __init__(
        self, job: Job[Predict], checkpoint: Path, predictor: AnyNetwork, answers: Answers, pictures: FileImages,
        device: torch.device,
    ) -> None:  # fmt: skip
        self.job, self.settings, self.device = job, job.settings, device
        self.checkpoint, self.predictor, self.answers, self.pictures = checkpoint, predictor, answers, pictures
        self.folder = RunFolder(_folder_of(self.settings, checkpoint))
        self.identity = {
            "weights": sha256(checkpoint), "pictures": pictures.signature(), "decisions": repr(predictor.decisions),
            **{key: getattr(self.settings, key) for key in _CHANGE_RESULTS},
            **{key: value for key in _OF_DETECTORS if (value := getattr(self.settings, key))},
        }  # fmt: skip

    def fill(self) -> dict[str, str]:
        """Write all that is asked for; returns the faults of broken pictures by path."""
        if self.folder.examine(self.identity, overwrite=self.settings.overwrite) is Status.FINISHED:
            logger.info("%s is finished; overwrite=true predicts again", self.folder.path)
            return dict(Results.read(self.folder.results).report["broken"])
        with self.folder.occupy(self.identity, overwrite=self.settings.overwrite):
            return self._predict()

    def _predict(self) -> dict[str, str]:
        settings, total = self.settings, len(self.pictures)
        files = PredictionFiles(
            self.folder.path, self.answers, batch_size=settings.batch_size, has_features=settings.features
        )
        begun, done = time.perf_counter(), files.resume(total)
        first = done
        if done:
            logger.info("%d of %d pictures are done already", done, total)
        with Bar("predicting", total, done) as bar:
            for outputs in self.predictor.stream(
                self.pictures, batch_size=settings.batch_size, workers=self._workers(total - done),
                features=settings.features, start=done,
            ):  # fmt: skip
                records = list(self.predictor.records(self.pictures, outputs, settings.threshold, settings.top))
                if settings.pictures:
                    self._draw(records, done)
                files.add(records, outputs.features)
                done += len(records)
                bar.update(done)
        seconds = time.perf_counter() - begun
        path = files.finish("csv" if settings.format == "csv" else "jsonl")
        entries = files.entries()
        if settings.sheet:
            self._write_sheet(entries)
        broken = {entry["path"]: entry["error"] for entry in entries if "error" in entry}
        rate = (total - first) / max(seconds, 1e-9)
        self._record(broken, seconds, rate).write(self.folder.results)
        files.tidy()
        logger.info("%d pictures in %.1f s, %s; written to %s", total - first, seconds, speed(rate), path)
        return broken

    def _record(self, broken: dict[str, str], seconds: float, rate: float) -> Results:
        is_fast = self.settings.speed == "fast" and self.device.type == "cuda"
        return Results(
            name=self.folder.path.name,
            command="predict",
            command_line=list(self.job.typed) or None,
            lshfm=__version__,
            metric="predictions",
            report={"pictures": len(self.pictures), "broken": broken},
            checkpoint=str(self.checkpoint),
            evaluation_seconds=round(seconds, 2),
            images_per_second=round(rate, 2),
            peak_memory=peak_memory(self.device),
            hardware=describe_hardware(self.device, "bf16" if is_fast else "fp32"),
        )

    def _workers(self, left: int) -> int:
        cores = len(os.sched_getaffinity(0))
        return 0 if left < FROM_HERE_IN_WORKERS else cores if self.settings.workers is None else self.settings.workers

    def _draw(self, records: Sequence[Any], first: int) -> None:
        """Copies with labels or boxes: pictures/NUMBER_NAME.jpg, the number being the picture's place in the input."""
        for index, each in enumerate(records, start=first):
            if each.error is None:
                name = f"{index:06d}_{plain(self.pictures.paths[index].stem)[:80]}.jpg"
                with replacing(self.folder.path / "pictures" / name) as temporary:
                    drawn = self.answers.drawn(self.pictures.picture(index), self.answers.entry(each))
                    drawn.save(temporary, "JPEG", quality=90)

    def _write_sheet(self, entries: Sequence[Entry]) -> None:
        good = [(index, entry) for index, entry in enumerate(entries) if "error" not in entry][:ON_A_SHEET]
        tiles = [self.answers.drawn(self.pictures.picture(index), entry, TILE) for index, entry in good]
        if tiles:
            with replacing(self.folder.path / "sheet.jpg") as temporary:
                contact_sheet(tiles).save(temporary, "JPEG", quality=90)


_CHANGE_RESULTS = ("threshold", "top", "batch_size", "format", "features", "pictures", "sheet", "speed")
_OF_DETECTORS = ("devkit", "coco_ids")  # older predictions lack them


def _folder_of(settings: Predict, checkpoint: Path) -> Path:
    name = checked_name(settings.name) if settings.name else _name(checkpoint, settings.input)
    return Path(settings.output_dir).expanduser() / "predict" / name


def _name(checkpoint: Path, given: str) -> str:
    """Made from the names of the network's file and of the pictures' folder, file or glob."""
    parts = [plain(part).strip("-.") for part in Path(os.path.normpath(given)).parts[-2:]]
    return join("_".join([file_title(checkpoint), *filter(None, parts)]), {})
