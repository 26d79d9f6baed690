"""Opens a data set of boxes: pictures from a store or decoded anew, in batches of one aspect group, by ranks."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from lshfm.config.groups import Dataset
from lshfm.config.schema import Training
from lshfm.config.shared import Augmentation
from lshfm.console import logger
from lshfm.datasets.box_loader import BoxLoader, BoxView, DecodedPictures, Pictures
from lshfm.datasets.boxes import DIFFICULT, BoxSplit, Rows, box_split, learnt
from lshfm.datasets.cutting import Index
from lshfm.datasets.images import refuse_missing
from lshfm.datasets.reader import Reader
from lshfm.datasets.split import Split
from lshfm.errors import InputError, at, count
from lshfm.models.detection.transform import longest_side
from lshfm.ranks.group import first_on_each_machine
from lshfm.tasks.crops import ADVICE
from lshfm.tasks.parts import parted
from lshfm.tasks.pixels import TrainingData, own_share, read_splits
from lshfm.tasks.stores import broken_of, say_broken, whole_pictures, workers_of

SMALL = 32  # size that pictures are decoded to only to see whether they can be
SIZES, SMALLEST = 11, 0.6  # sizes in training: 480, 512 ... 800 for a size of 800


def boxes_of(source: object, name: str, classes: Sequence[str] | None, folder: Path | None) -> Split:  # noqa: ARG001
    """A split of a data set with its boxes. Raises InputError for a data set that has none."""
    if isinstance(source, Reader):
        return box_split(source, name, classes)
    boxes = getattr(source, "boxes", None)
    if boxes is None:
        raise InputError(f"{type(source).__name__} has no boxes: the task detection needs a data set with them")
    split: Split = boxes(name)
    return split


def read(dataset: Dataset, names: Sequence[str]) -> list[Split]:
    """The named splits, with the same classes. Raises InputError where none of them has a box."""
    splits = read_splits(dataset, names, boxes_of)
    if not any((split.labels[..., 0] > 0).any() for split in splits):
        raise InputError(f"no image of {dataset.name} has a box: the task detection learns from boxes")
    return splits


def training_data(train: Split, test: Split, settings: Training, device: torch.device) -> TrainingData:
    """Both splits' pictures in batches, as the settings say. test: `train` itself where its held-out part is tested."""
    assert isinstance(train, BoxSplit)
    assert isinstance(test, BoxSplit)
    dataset = settings.dataset
    if not settings.drop_last:
        raise InputError("drop_last=false: the task detection has whole batches, each of one aspect group")
    pictures, usable = _open(train, dataset, settings.workers)
    learn, held_out = parted(train, dataset, shows(train), usable)
    learn = _not_empty(train, learn, dataset)
    batches = BoxLoader(
        pictures, train, indices=learn, batch_size=settings.batch_size, device=device, shuffle=True,
        view=_view(dataset, settings.augment), sizes=train_sizes(dataset), seed=settings.seed, share=own_share(),
    )  # fmt: skip
    kept = _plain(pictures, held_out, train, dataset, settings.eval_batch_size, device) if len(held_out) else None
    if test is train and kept:
        tested = kept
    else:
        tested = _plain(*_open(test, dataset, settings.workers), test, dataset, settings.eval_batch_size, device)
    pixels = {split.name: f"{split.images.signature()}_own_size_{dataset.size}" for split in (train, test)}
    return TrainingData(train, test, batches, kept or tested, tested, pixels)


def evaluation_batches(
    split: Split, dataset: Dataset, device: torch.device, *, workers: int | None, batch_size: int
) -> BoxLoader:
    """The split's pictures, each once, in order."""
    assert isinstance(split, BoxSplit)
    return _plain(*_open(split, dataset, workers), split, dataset, batch_size, device)


def shows(split: Split) -> np.ndarray:
    """Bool (n, C): the classes of which each image has an object to learn."""
    found = np.zeros((len(split), len(split.classes) + 1), bool)
    rows, places = np.nonzero(learnt(split.labels))
    found[rows, split.labels[rows, places, 0].astype(int)] = True
    return found[:, 1:]


def train_sizes(dataset: Dataset) -> list[int]:
    """What the shorter side of a picture is drawn from in training. Raises InputError for none."""
    given = dataset.pictures.train_sizes if dataset.pictures else None
    if given is None:
        return [round(dataset.size * each) for each in np.linspace(SMALLEST, 1, SIZES)]
    if not given or max(given) > longest_side(dataset.size):
        raise InputError(
            f"dataset.train_sizes={given}: must be numbers up to {longest_side(dataset.size)}, the most pixels of a "
            f"longer side with dataset.size={dataset.size}"
        )
    return given


def _open(split: BoxSplit, dataset: Dataset, workers: int | None) -> tuple[Pictures, Index]:
    """A split's pictures, and which of its samples can be used; a machine's first rank looks first."""
    with at("dataset"):
        return first_on_each_machine(lambda: _opened(split, dataset, workers))


def _opened(split: BoxSplit, dataset: Dataset, workers: int | None) -> tuple[Pictures, Index]:
    if not dataset.skip_broken:
        refuse_missing(split)
    source: Pictures
    if stored := whole_pictures(split, dataset, workers):
        source, broken = stored, stored.store.broken
    else:
        workers = workers_of(workers)
        source, broken = DecodedPictures(split.images, workers, ADVICE), broken_of(split, dataset, SMALL, workers)
    say_broken(split, broken)
    return source, np.setdiff1d(np.arange(len(split)), broken)


def _not_empty(train: BoxSplit, learn: Index, dataset: Dataset) -> Index:
    """The images to learn from without those that have no object, where the data set says so. InputError: none has."""
    if not learnt(train.labels[learn]).any():
        raise InputError(f"{train.name}: no image has an object to learn; difficult ones and crowds are none")
    skips = bool(dataset.pictures and dataset.pictures.skip_empty)
    there = (has_object if skips else learnt)(train.labels[learn]).any(axis=1)
    bare = int((~there).sum())
    if not bare:
        return learn
    what = "an object are left out (dataset.skip_empty=true)" if skips else "an object to learn are background"
    logger.info("%s: %s without %s", train.name, count(bare, "image"), what)
    return learn[there] if skips else learn


def has_object(rows: Rows) -> np.ndarray:
    """Which rows (..., M) make an image one to learn from, as published for COCO: crowds too, above a pixel a side."""
    sides = rows[..., 3:5] - rows[..., 1:3]
    found: np.ndarray = (rows[..., 0] > 0) & (rows[..., 5] != DIFFICULT) & (sides > 1).all(axis=-1)
    return found


def _view(dataset: Dataset, augment: Augmentation | None) -> BoxView:
    asked = (
        [name for name, value in vars(augment).items() if name not in ("flip", "magnitude") and value]
        if augment
        else []
    )
    if asked:
        raise InputError(
            f"augment.{asked[0]}={getattr(augment, asked[0])}: the task detection mirrors pictures and changes nothing "
            "else of them"
        )
    return BoxView(tuple(dataset.mean), tuple(dataset.std), augment.flip if augment else 0.0)


def _plain(
    pictures: Pictures, indices: Index, split: BoxSplit, dataset: Dataset, batch_size: int, device: torch.device
) -> BoxLoader:
    return BoxLoader(
        pictures, split, indices=indices, batch_size=batch_size, device=device, shuffle=False,
        view=_view(dataset, None), sizes=[dataset.size], share=own_share(),
    )  # fmt: skip
