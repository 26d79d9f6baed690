"""Evaluates a detector on a split: detections collected from all ranks, measured by every definition of AP."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lshfm.console import Bar
from lshfm.datasets.box_loader import BoxBatch, BoxLoader
from lshfm.datasets.boxes import CROWD, DIFFICULT, BoxSplit
from lshfm.engine.state import Evaluation
from lshfm.errors import RunFailed
from lshfm.metrics.boxes import Found, Truth
from lshfm.metrics.detection import measure
from lshfm.models.detection.contract import Places
from lshfm.ranks.device import autocast
from lshfm.ranks.group import doing, gather, on_main
from lshfm.tasks.task import Arrays, Evaluate

NAMES = {"coco_ap50": "coco_ap50 (difficult removed)", "coco_ap": "COCO AP"}
BESIDE = ("coco_ap50", "voc2007", "voc_area", "coco_ap")
NOTHING = -1.0  # score of a row that holds no detection


def evaluator(loader: BoxLoader, split: BoxSplit, metric: str, precision: str, *, features: bool) -> Evaluate:
    """A function that measures a detector; its arrays have a row an image, padded to the most detections of one.

    `boxes` (n, K, 4), `scores` (n, K) (NOTHING: none), `labels` (n, K) from 0, `objects` (n, M, 7) as the split has
    them; with `features` (n, D), the mean of the features of an image's objects, or of the whole image without any,
    and for windows of maps the mean over all positions.
    """

    def evaluate(network: nn.Module) -> tuple[Evaluation, Arrays]:
        """The evaluation, and on rank 0 the arrays. Raises RunFailed for a network that diverged."""
        require_finite(network)
        columns = gather(_collect(network, loader, precision, features=features))

        def measured() -> tuple[Evaluation, Arrays]:
            assert columns
            return _measured(merged(columns), loader, split, metric)

        arrays: Arrays = {}

        def evaluation() -> Evaluation:
            result, found = measured()
            arrays.update(found)
            return result

        return on_main(evaluation, "computing the metrics"), arrays

    return evaluate


def require_finite(network: nn.Module) -> None:
    """RunFailed for a network that diverged: its detections would be none, without a word."""
    broken = [name for name, tensor in network.state_dict().items() if not torch.isfinite(tensor).all()]
    if broken:
        raise RunFailed(
            f"the network's {broken[0]} holds values that are not finite: use a checkpoint from before it diverged, or "
            "train with a lower lr, clip_grad or loss.beta_warmup"
        )


@torch.no_grad()
def _collect(network: nn.Module, loader: BoxLoader, precision: str, *, features: bool) -> list[np.ndarray]:
    """This rank's images and detections as columns: image numbers, detections of each, boxes, scores, labels."""
    network.eval()
    rows: list[tuple[int, Mapping[str, Tensor], Tensor]] = []
    with Bar("evaluating", len(loader)) as bar, doing("evaluating"):
        for done, batch in enumerate(loader.epoch(0), start=1):
            with autocast(loader.device, precision):
                rows += list(_of_batch(network, batch, features=features))
            bar.update(done)
    return _columns(rows)


def _of_batch(
    network: nn.Module, batch: BoxBatch, *, features: bool
) -> Iterator[tuple[int, Mapping[str, Tensor], Tensor]]:
    """Images of one size together, as padding to the sizes of others would change the outputs."""
    for places in of_one_size(batch.images):
        together = network([batch.images[place] for place in places])
        for place, found in zip(places, together, strict=True):
            image, boxes = batch.images[place], batch.targets[place]["boxes"]
            mean = mean_feature(network, image, boxes) if features else image.new_zeros(0)
            yield int(batch.index[place]), found, mean.float()


def of_one_size(images: Sequence[Tensor]) -> list[list[int]]:
    """Places of images in a batch, those of one size together."""
    places: dict[torch.Size, list[int]] = {}
    for place, image in enumerate(images):
        places.setdefault(image.shape, []).append(place)
    return list(places.values())


def mean_feature(network: Any, image: Tensor, boxes: Tensor) -> Tensor:
    """The mean feature (D,) of the boxes in an image (3, h, w), of all of it where there is none."""
    if not len(boxes):
        boxes = image.new_tensor([[0, 0, image.shape[2], image.shape[1]]])
    batch, scaled = network.transform([image], [{"boxes": boxes}])
    features = network.features(Places(batch.tensors, batch.image_sizes, [scaled[0]["boxes"]]))
    return features.mean(0) if isinstance(features, Tensor) else mean_window(features)


def mean_window(maps: Sequence[Tensor]) -> Tensor:
    """The mean 3x3 window (9 C,) over all positions of maps (1, C, h, w); channels before rows before columns."""
    sums, positions = [], 0
    for each in maps:
        padded = nn.functional.pad(each[0], (1, 1, 1, 1))
        height, width = each.shape[2:]
        sums.append(
            torch.stack(
                [padded[:, y : y + height, x : x + width].sum((1, 2)) for y in range(3) for x in range(3)], dim=1
            )
        )
        positions += height * width
    return torch.stack(sums).sum(0).flatten() / positions


def _columns(rows: Sequence[tuple[int, Mapping[str, Tensor], Tensor]]) -> list[np.ndarray]:
    if not rows:
        return []
    counts = [len(found["scores"]) for _, found, _ in rows]
    flat = [torch.cat([found[name] for _, found, _ in rows]).float().cpu().numpy()
            for name in ("boxes", "scores", "labels")]  # fmt: skip
    means = torch.stack([mean for _, _, mean in rows]).cpu().numpy()
    return [np.array([number for number, _, _ in rows]), np.array(counts), *flat, means]


def merged(ranks: Sequence[Sequence[np.ndarray]]) -> Arrays:
    """The columns of all ranks as arrays with a row an image, in the split's order, each image once."""
    there = [columns for columns in ranks if columns]  # there may be fewer batches than ranks
    index, counts, boxes, scores, labels, means = (np.concatenate(parts) for parts in zip(*there, strict=True))
    image = np.repeat(np.arange(len(index)), counts)
    place = np.arange(len(image)) - np.repeat(np.cumsum(counts) - counts, counts)
    shape = (len(index), max(int(counts.max(initial=0)), 1))
    padded = {"boxes": np.zeros((*shape, 4), np.float32), "scores": np.full(shape, NOTHING, np.float32)}
    padded["labels"] = np.zeros(shape, np.int64)
    for name, values in (("boxes", boxes), ("scores", scores), ("labels", labels - 1)):
        padded[name][image, place] = values
    _, first = np.unique(index, return_index=True)
    features = {"features": means[first]} if means.shape[1] else {}
    return {"index": index[first], **{name: values[first] for name, values in padded.items()}, **features}


def _measured(arrays: Arrays, loader: BoxLoader, split: BoxSplit, metric: str) -> tuple[Evaluation, Arrays]:
    index = arrays.pop("index")
    assert np.array_equal(index, np.sort(loader.indices))
    ids, objects = np.array([split.ids[i] for i in index]), split.labels[index]
    report = measure(truth_of(objects), found_of(arrays), len(index), split.classes, metric)
    beside = {NAMES.get(name, name): report[name] for name in BESIDE if name != metric}
    arrays = {"ids": ids, **arrays, "objects": objects}
    return Evaluation(NAMES.get(metric, metric), report["AP"], report, beside), arrays


def truth_of(objects: np.ndarray) -> Truth:
    """The annotated objects of images, (n, M, 7) as a split has them."""
    image, place = np.nonzero(objects[..., 0] > 0)
    rows = objects[image, place]
    flags = rows[:, 5]
    return Truth(
        image, rows[:, 0].astype(np.int64) - 1, rows[:, 1:5].astype(np.float64), flags == DIFFICULT, flags == CROWD,
        rows[:, 6].astype(np.float64),
    )  # fmt: skip


def found_of(arrays: Arrays) -> Found:
    """The detections of images, as an evaluation keeps them."""
    image, place = np.nonzero(arrays["scores"] > NOTHING)
    boxes, scores = arrays["boxes"][image, place], arrays["scores"][image, place]
    return Found(image, arrays["labels"][image, place], boxes.astype(np.float64), scores.astype(np.float64))
