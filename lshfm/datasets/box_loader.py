"""Batches of pictures in their own sizes with their boxes: of one aspect group, sizes drawn for each picture."""

import logging
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lshfm.datasets import keyed
from lshfm.datasets.augment import constants, send
from lshfm.datasets.boxes import BoxSplit, Rows, learnt
from lshfm.datasets.cutting import Index, Share
from lshfm.datasets.decode import decode, decode_pictures
from lshfm.datasets.keyed import Stream
from lshfm.datasets.loader import Loader
from lshfm.datasets.overlap import in_advance, side_of
from lshfm.datasets.split import Images, Pixels
from lshfm.errors import InputError

log = logging.getLogger("lshfm")

GROUPS = 3  # edges of the aspect groups are at 2^(k / 3), from a half to 2: eight groups
Target = dict[str, Tensor]


@dataclass(frozen=True)
class Drawn:
    """What chance decides of a picture in an epoch."""

    size: int  # of its shorter side
    seed: int  # for what the detector samples


@dataclass(frozen=True)
class BoxBatch:
    """A batch of pictures, which lie with their boxes on the device."""

    index: Tensor  # int64 (B,) on the CPU: samples within their split
    images: list[Tensor]  # float32 (3, h, w), normalised
    targets: list[Target]  # boxes (k, 4) float32 and labels (k,) int64 from 1, of the objects that are learnt
    draws: list[Drawn]
    epoch: int
    progress: float  # epochs done before it, with the fraction

    @property
    def columns(self) -> dict[str, Tensor]:
        """What lies on the device."""
        boxes = {f"{name} {i}": each for i, target in enumerate(self.targets) for name, each in target.items()}
        return {f"image {i}": each for i, each in enumerate(self.images)} | boxes

    def split(self, parts: int) -> list["BoxBatch"]:
        """The batch in so many equal parts, for gradient accumulation."""
        size = len(self.images) // parts
        cuts = [slice(start, start + size) for start in range(0, size * parts, size)]
        return [
            BoxBatch(
                self.index[c], self.images[c], self.targets[c], self.draws[c], self.epoch, self.progress
            ) for c in cuts
        ]  # fmt: skip


@dataclass(frozen=True)
class BoxView:
    """How a picture becomes a network's input: mirrored perhaps, normalised. mean, std: RGB, for pixels in [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    flip: float = 0.0  # probability
    channels_last: bool = False

    def __call__(self, pixels: Tensor, *, mirrored: bool) -> Tensor:
        """Uint8 (h, w, 3) to float32 (3, h, w), where they lie."""
        planes = pixels.permute(2, 0, 1)
        planes = planes.flip(2) if mirrored else planes
        full, centre, scale = constants(self.mean, self.std, pixels.device)
        return planes.to(torch.float32, memory_format=torch.contiguous_format).div_(full).sub_(centre).div_(scale)


class Pictures(Protocol):
    """A split's pictures in their own size, batch by batch."""

    def __len__(self) -> int: ...

    def stream(self, batches: Iterable[Index]) -> Generator[list[Pixels], None, None]:
        """Uint8 (h, w, 3) of each picture, writable, for each array of indices. InputError: a broken picture."""
        ...


@dataclass(frozen=True)
class DecodedPictures:
    """Pictures decoded at each use in their own size: by `workers` processes, or in this one if 0.

    advice: what to do about a broken picture, for the message.
    """

    images: Images
    workers: int = 0
    advice: str = "Mend it"

    def __len__(self) -> int:
        return len(self.images)

    def stream(self, batches: Iterable[Index]) -> Generator[list[Pixels], None, None]:
        """Uint8 (h, w, 3) of each picture, for each array of indices. InputError: a broken picture."""
        for pictures in decode(self.images, decode_pictures, batches, self.workers):
            if isinstance(pictures, str):
                raise InputError(f"{pictures}\n{self.advice}")
            yield pictures


class BoxLoader(Loader):
    """A split's pictures with their boxes, epoch by epoch. Which ones, and how, depends on (seed, epoch) alone.

    sizes: that the shorter side of each picture is drawn from, with equal chances. Shuffled batches are whole and of
    one aspect group, but for the last ones, which are of neighbouring groups; an epoch has every picture.
    """

    view: BoxView  # type: ignore[assignment]

    def __init__(
        self, pixels: Pictures, split: BoxSplit, *, batch_size: int, device: torch.device, view: BoxView,
        shuffle: bool, sizes: Sequence[int], indices: Index | None = None, seed: int = 0, share: Share = Share(),  # noqa: B008
    ) -> None:  # fmt: skip
        super().__init__(
            pixels, split.labels, batch_size=batch_size, device=device, view=view, shuffle=shuffle,  # type: ignore[arg-type]
            drop_last=shuffle, indices=indices, seed=seed, share=share,
        )  # fmt: skip
        self.split, self.sizes = split, tuple(sizes)
        self.groups = aspect_groups(split.sizes)
        self._tells = True

    def epoch(self, epoch: int, start: int = 0) -> Iterator[BoxBatch]:  # type: ignore[override]
        """The epoch's batches from step `start` on."""
        steps = self._steps(self.order(epoch))[start:]
        whole = max(len(self), 1)
        with closing(self.pixels.stream(steps)) as stream:
            made = (
                self._boxes(index, pictures, epoch, epoch + number / whole)  # type: ignore[arg-type]
                for number, (index, pictures) in enumerate(zip(steps, stream, strict=True), start=start)
            )
            yield from in_advance(made, side_of(self.device))

    def __len__(self) -> int:
        """Steps of an epoch, of this rank; counted without grouping the pictures."""
        number = -(-len(self.indices) // self.batch_size)
        return number if self.drop_last else len(range(self.share.rank, number, self.share.num))

    def used(self, epoch: int) -> Index:
        """The samples that an epoch's batches hold: all."""
        return self.order(epoch)

    def _steps(self, order: Index) -> Sequence[Index]:
        if not self.drop_last:
            return super()._steps(order)
        return self.share.within(grouped(order, self.groups[order], self.batch_size))

    def _boxes(self, index: Index, pictures: list[Pixels], epoch: int, progress: float) -> BoxBatch:
        mirrored = (keyed.uniform(self.seed, epoch, index, Stream.FLIP) < self.view.flip).tolist()
        self._tell_of_sizes(index, pictures)
        sent = send_all([torch.from_numpy(each) for each in pictures], self.device)
        images = [self.view(each, mirrored=is_mirrored) for each, is_mirrored in zip(sent, mirrored, strict=True)]
        found = [target(self.labels[i], *each.shape[:2], mirrored=is_mirrored)
                 for i, each, is_mirrored in zip(index, pictures, mirrored, strict=True)]  # fmt: skip
        columns = [send_all([each[name] for each in found], self.device) for name in ("boxes", "labels")]
        targets = [{"boxes": boxes, "labels": labels} for boxes, labels in zip(*columns, strict=True)]
        return BoxBatch(torch.from_numpy(index), images, targets, self._draws(index, epoch), epoch, progress)

    def _tell_of_sizes(self, index: Index, pictures: list[Pixels]) -> None:
        """Warn of the first picture that is not as large as annotated: its boxes are hardly right, and were cut."""
        for number, picture in zip(index, pictures, strict=True) if self._tells else ():
            own, annotated = (picture.shape[1], picture.shape[0]), tuple(map(int, self.split.sizes[number]))
            if own != annotated and self.split.labels[number, :, 0].any():
                self._tells = False
                log.warning(
                    "%s: %s is %d x %d, and annotated as %d x %d: its boxes are cut to both; lshfm check lists such",
                    self.split.name, self.split.images.where(int(number)), *own, *annotated,
                )  # fmt: skip
                return

    def _draws(self, index: Index, epoch: int) -> list[Drawn]:
        places = (keyed.uniform(self.seed, epoch, index, Stream.SIZE) * len(self.sizes)).astype(int)
        seeds = keyed.bits(self.seed, epoch, index, Stream.SAMPLES) >> np.uint64(1)
        return [Drawn(self.sizes[place], int(seed)) for place, seed in zip(places, seeds, strict=True)]


def send_all(values: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Copies of tensors of one kind on a device, in one go where that is CUDA; on a CPU the tensors themselves."""
    if device.type != "cuda":
        return list(values)
    flat = send(torch.cat([each.flatten() for each in values]), device)
    parts = torch.split(flat, [each.numel() for each in values])
    return [part.view(each.shape) for part, each in zip(parts, values, strict=True)]


def target(rows: Rows, height: int, width: int, *, mirrored: bool) -> Target:
    """The objects to learn of a picture's rows (M, 7), cut to the picture as it was decoded."""
    rows = rows[learnt(rows)]
    boxes = np.clip(rows[:, 1:5], 0, np.array([width, height, width, height], np.float32))
    if mirrored:
        boxes = np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1)
    there = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    labels = torch.from_numpy(rows[there, 0].astype(np.int64))
    return {"boxes": torch.from_numpy(boxes[there].astype(np.float32)), "labels": labels}


def aspect_groups(sizes: NDArray[np.int64], groups: int = GROUPS) -> NDArray[np.int64]:
    """The group (n,) of pictures of these widths and heights (n, 2); a ratio on an edge is in the upper one."""
    edges = 2.0 ** (np.arange(-groups, groups + 1) / groups)
    return np.searchsorted(edges, sizes[:, 0] / sizes[:, 1], side="right").astype(np.int64)


def grouped(order: Index, groups: NDArray[np.int64], batch_size: int) -> list[Index]:
    """Batches of one group each, as they fill in this order; then what is left of the groups, one after the other.

    groups: of each sample of the order. Every sample is in a batch. The last batch is completed with the first samples
    of its group, or of the nearest ones, which come a second time.
    """
    by_group = np.argsort(groups, kind="stable")  # places in the order
    sizes = np.bincount(groups)
    place = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # within its group
    fills = place < np.repeat(sizes // batch_size * batch_size, sizes)
    whole = by_group[fills].reshape(-1, batch_size)
    left = _completed(by_group[~fills], groups, batch_size).reshape(-1, batch_size)
    return list(order[np.concatenate([whole[np.argsort(whole[:, -1])], left])])


def _completed(left: Index, groups: NDArray[np.int64], batch_size: int) -> Index:
    """These places of the order and a few others, to a multiple of the batch size."""
    tail = left[len(left) // batch_size * batch_size :]
    if not len(tail):
        return left
    others = np.setdiff1d(np.arange(len(groups)), tail)
    nearest = others[np.argsort(np.abs(groups[others] - groups[tail[-1]]), kind="stable")]
    return np.concatenate([left, np.resize(nearest, batch_size - len(tail))])
