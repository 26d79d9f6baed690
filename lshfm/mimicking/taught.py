"""Training batches that carry a teacher's outputs: replayed from a tape, or computed and recorded."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lshfm.datasets.augment import send
from lshfm.datasets.loader import Loader
from lshfm.errors import RunFailed, count
from lshfm.files.tape import Tape
from lshfm.objectives.teacher import Teacher


@dataclass(frozen=True)
class TaughtBatch:
    """A batch with the teacher's feature (B, D) and logits (B, C), fp32 on the batch's device."""

    batch: Any
    feature_t: Tensor
    logits_t: Tensor

    @property
    def index(self) -> Tensor:
        """Sample numbers, (B,)."""
        index: Tensor = self.batch.index
        return index

    @property
    def epoch(self) -> int:
        """From 0."""
        return int(self.batch.epoch)

    @property
    def images(self) -> Tensor:
        """(B, 3, S, S)."""
        images: Tensor = self.batch.images
        return images

    @property
    def labels(self) -> Tensor:
        """As the task has them."""
        labels: Tensor = self.batch.labels
        return labels

    @property
    def second_labels(self) -> Tensor | None:
        """Of mixed pictures: the labels of those mixed in."""
        labels: Tensor | None = self.batch.second_labels
        return labels

    @property
    def share(self) -> Tensor | None:
        """Of the first pictures in mixed ones."""
        share: Tensor | None = self.batch.share
        return share

    @property
    def columns(self) -> dict[str, Tensor | None]:
        """What lies on the device."""
        return dict(self.batch.columns) | {"feature_t": self.feature_t, "logits_t": self.logits_t}

    def split(self, parts: int) -> "list[TaughtBatch]":
        """In so many equal parts."""
        columns = (self.batch.split(parts), self.feature_t.chunk(parts), self.logits_t.chunk(parts))
        return [TaughtBatch(*part) for part in zip(*columns, strict=True)]


class TaughtBatches:
    """A loader's batches with the teacher's outputs: from the tape, else computed and, where it may be, recorded.

    parts: that a step cuts a batch into, as the teacher computes bits that may depend on the size of its batch.
    """

    def __init__(self, loader: Loader, tape: Tape, teacher: Teacher, *, records: bool, parts: int = 1) -> None:
        self.loader, self.tape, self.teacher, self.records, self.parts = loader, tape, teacher, records, parts

    def __len__(self) -> int:
        return len(self.loader)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[TaughtBatch]:
        """The epoch's batches from step `start` on. Raises RunFailed for a damaged row that is not to be recorded."""
        for batch in self.loader.epoch(epoch, start):
            yield TaughtBatch(batch, *self._outputs(batch))

    def _outputs(self, batch: Any) -> tuple[Tensor, Tensor]:
        index, width = batch.index.numpy(), self.teacher.num_features
        rows, is_there = self.tape.read(batch.epoch, index)
        if not is_there.all():
            if not self.records:
                raise RunFailed(
                    f"{self.tape.path(batch.epoch)} is damaged at {count(int((~is_there).sum()), 'sample')}: "
                    "teacher_tape=record mends it"
                )
            computed = [torch.cat(outputs, 1) for outputs in map(self.teacher, batch.split(self.parts))]
            together = torch.cat(computed)
            self.tape.write(batch.epoch, index, together.cpu().numpy())
            return together[:, :width].contiguous(), together[:, width:].contiguous()
        sent = torch.from_numpy(rows)
        feature, logits = (send(part.contiguous(), batch.images.device) for part in (sent[:, :width], sent[:, width:]))
        return feature, logits
