"""Loads batches: pixels from a store or decoded anew, augmented and normalised on the device, each rank its share."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from lshfm.datasets import keyed
from lshfm.datasets.augment import Augment, normalise, send
from lshfm.datasets.cutting import ALL, Index, Share, batches
from lshfm.datasets.decode import ahead, decode, decode_batch
from lshfm.datasets.mixing import Mixing
from lshfm.datasets.overlap import in_advance, side_of
from lshfm.datasets.split import Images, Labels, Pixels
from lshfm.datasets.store_file import Store
from lshfm.errors import InputError

# So many pixels at a time stay in a CPU's cache through all steps of augmentation: three times as fast.
_CACHED_PIXELS = 400_000
_READ_AT_ONCE = 2**20  # bytes of a batch: fewer are read in less time than a thread takes to be asked for them


@dataclass(frozen=True)
class Batch:
    """A batch, of which images and labels lie on the device."""

    index: Tensor  # int64 (B,) on the CPU: samples within their split
    images: Tensor  # float32 (B, 3, S, S), augmented and normalised
    labels: Tensor  # (B, ...), as the task has them
    epoch: int  # from 0: with an index, it tells how a sample was augmented
    second_labels: Tensor | None = None  # of mixed pictures: those of the pictures mixed in, (B, ...)
    share: Tensor | None = None  # of the first pictures in mixed ones, a scalar

    @property
    def columns(self) -> dict[str, Tensor | None]:
        """What lies on the device: all that a step which is recorded can read."""
        mixed = {"second_labels": self.second_labels, "share": self.share}
        return {"images": self.images, "labels": self.labels, **mixed}

    def split(self, parts: int) -> list["Batch"]:
        """The batch in so many equal parts, for gradient accumulation."""
        columns = (column.chunk(parts) for column in (self.index, self.images, self.labels))
        second = [None] * parts if self.second_labels is None else self.second_labels.chunk(parts)
        return [
            Batch(index, images, labels, self.epoch, others, self.share)
            for index, images, labels, others in zip(*columns, second, strict=True)
        ]


class PixelSource(Protocol):
    """A split's decoded pictures, batch by batch."""

    def __len__(self) -> int: ...

    def stream(self, batches: Iterable[Index]) -> Generator[Pixels | Tensor, None, None]:
        """Uint8 (B, S, S, 3) for each array of indices, on the host or a device. InputError: a broken picture."""


@dataclass(frozen=True)
class StoredPixels:
    """Pixels read from a store, a little ahead, so that a disk's time hides behind the training step.

    pinned: into memory that a GPU copies from by itself.
    """

    store: Store
    pinned: bool = False

    def __len__(self) -> int:
        return len(self.store.pixels)

    def stream(self, batches: Iterable[Index]) -> Generator[Pixels | Tensor, None, None]:
        """Uint8 (B, S, S, 3) for each array of indices; pinned memory where that was asked for."""
        pixels = np.asarray(self.store.pixels)

        def take(index: Index) -> Pixels | Tensor:
            # take() lets other threads run meanwhile; indexing does not.
            if not self.pinned:
                return pixels.take(index, 0)
            room = torch.empty((len(index), *pixels.shape[1:]), dtype=torch.uint8, pin_memory=True)
            pixels.take(index, 0, out=room.numpy(), mode="clip")  # with mode="raise" it would be buffered
            return room

        steps = list(batches)
        if not self.pinned and steps and pixels[: len(steps[0])].nbytes <= _READ_AT_ONCE:
            yield from map(take, steps)
            return
        with ThreadPoolExecutor(1) as pool:
            yield from ahead(lambda index: pool.submit(take, index), steps, depth=2)


@dataclass(frozen=True)
class DecodedPixels:
    """Pixels decoded at each use: by `workers` processes that live as long as a stream, or in this process if 0.

    advice: what to do about a broken picture, for the message.
    """

    images: Images
    size: int
    workers: int = 0
    advice: str = "Mend it"

    def __len__(self) -> int:
        return len(self.images)

    def stream(self, batches: Iterable[Index]) -> Generator[Pixels, None, None]:
        for pixels in decode(self.images, partial(decode_batch, size=self.size), batches, self.workers):
            if isinstance(pixels, str):
                raise InputError(f"{pixels}\n{self.advice}")
            yield pixels


@dataclass(frozen=True)
class View:
    """How pixels become a network's input. `mean` and `std`: of red, green and blue, for pixels in [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: Augment | None = None
    channels_last: bool = False

    def __call__(self, pixels: Tensor, index: Tensor, *, seed: int, epoch: int) -> Tensor:
        """Uint8 (B, S, S, 3) to float32 (B, 3, S, S) on the same device."""
        rows = max(1, _CACHED_PIXELS // (pixels.shape[1] * pixels.shape[2]))
        if len(pixels) <= rows or pixels.device.type != "cpu":
            return self._part(pixels, index, seed, epoch)
        starts = range(0, len(pixels), rows)
        return torch.cat([self._part(pixels[s : s + rows], index[s : s + rows], seed, epoch) for s in starts])

    def _part(self, pixels: Tensor, index: Tensor, seed: int, epoch: int) -> Tensor:
        if self.augment:
            pixels = self.augment(pixels, index, seed=seed, epoch=epoch)
        return normalise(pixels, self.mean, self.std, channels_last=self.channels_last)


class Loader:
    """A split's batches, epoch by epoch. Which ones depends on (seed, epoch) alone.

    `labels` are those of the whole split; `indices` names the samples to use, all by default. `batch_size` is
    that of all ranks together: each gets its `share`, within every batch where `drop_last`, else of whole batches.
    last_multiple: in place of being dropped, the last batch is cut to a multiple of so many images.
    mixing: of each batch's pictures, after the view.
    pools: sets of places in `indices`; a shuffled epoch then is as many draws as there are samples, each of a random
    sample from a random set, so that some samples come several times and others not.
    """

    def __init__(
        self,
        pixels: PixelSource,
        labels: Labels,
        *,
        batch_size: int,
        device: torch.device,
        view: View,
        shuffle: bool,
        drop_last: bool,
        indices: Index | None = None,
        seed: int = 0,
        share: Share = ALL,
        pools: Sequence[Index] | None = None,
        last_multiple: int | None = None,
        mixing: Mixing | None = None,
    ) -> None:
        assert len(pixels) == len(labels)
        assert not drop_last or batch_size % share.num == 0
        self.pixels, self.labels = pixels, labels
        self.indices = np.arange(len(labels)) if indices is None else indices
        self.batch_size, self.drop_last, self.last_multiple = batch_size, drop_last, last_multiple
        self.device, self.view, self.mixing = device, view, mixing
        self.shuffle, self.seed, self.pools, self.share = shuffle, seed, pools, share
        if not batches(self.indices, batch_size, drop_last):
            most = len(self.indices)
            raise InputError(f"batch_size={batch_size} is more than the {most} images there are: at most {most} fit")

    def __len__(self) -> int:
        """Steps of an epoch, of this rank."""
        return len(self._steps(self.indices))

    @property
    def images(self) -> int:
        """Images in the batches of an epoch, of all ranks."""
        return sum(map(len, self._batches(self.indices)))

    @property
    def full(self) -> int:
        """Images in a full batch, of this rank."""
        return len(self._steps(self.indices)[0])

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The epoch's batches from step `start` on; the steps before it cost nothing."""
        order = self.order(epoch)
        steps, whole = self._steps(order)[start:], self._whole(order)[start:]
        of_epoch = getattr(self.pixels, "of_epoch", None)  # a source whose pictures differ from epoch to epoch
        with closing((of_epoch(self.seed, epoch) if of_epoch else self.pixels).stream(steps)) as stream:
            made = (self._batch(*each, epoch) for each in zip(steps, whole, stream, strict=True))
            yield from in_advance(made, side_of(self.device))

    def order(self, epoch: int) -> Index:
        """The epoch's samples in the order in which they come."""
        if not self.shuffle:
            return self.indices
        if self.pools is not None:
            return self.indices[keyed.draws(self.seed, epoch, len(self.indices), self.pools)]
        return self.indices[keyed.permutation(self.seed, epoch, len(self.indices))]

    def used(self, epoch: int) -> Index:
        """The samples that an epoch's batches hold, those of all ranks."""
        return np.concatenate(self._batches(self.order(epoch)))

    def _batches(self, order: Index) -> Sequence[Index]:
        return batches(order, self.batch_size, self.drop_last, self.last_multiple)

    def _whole(self, order: Index) -> Sequence[Index]:
        """The samples of each of this rank's steps, those of all ranks."""
        cut = self._batches(order)
        return cut if self.drop_last else self.share.among(cut)

    def _steps(self, order: Index) -> Sequence[Index]:
        whole = self._whole(order)
        return self.share.within(whole) if self.drop_last else whole

    def _batch(self, index: Index, whole: Index, pixels: Pixels | Tensor, epoch: int) -> Batch:
        samples = torch.from_numpy(index)
        labels = send(torch.from_numpy(self.labels[index]), self.device)
        images = self.view(send(torch.as_tensor(pixels), self.device), samples, seed=self.seed, epoch=epoch)
        if not self.mixing:
            return Batch(samples, images, labels, epoch)
        images, mixed = self.mixing(images, labels, torch.from_numpy(whole), seed=self.seed, epoch=epoch)
        return Batch(samples, images, labels, epoch, *mixed)
