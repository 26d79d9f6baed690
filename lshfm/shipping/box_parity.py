"""An exported detector beside the one it was made from, on real images: detections, score, speed."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from lshfm.errors import RunFailed
from lshfm.metrics.boxes import Found, groups, overlaps
from lshfm.shipping.parity import Compared, images_per_second
from lshfm.tasks.detection.evaluation import found_of
from lshfm.tasks.task import Evaluate

SAME_PLACE = 0.98  # overlap above which two boxes are one detection
TOLERANCE = 1e-3  # of scores
SHARE = 99.0  # percent of detections that must be in both: near-equal scores let suppression choose otherwise


@dataclass(frozen=True)
class BoxParity(Compared):
    """How an exported detector compares with the original on the same images.

    A detection is in both where class, place and, within the tolerance, score are the same.
    """

    images: int
    detections: int  # of the original
    in_both: float  # percent of the detections of either
    largest_box_difference: float  # pixels of an edge, of those in both
    largest_score_difference: float  # of those in both
    metric: str
    score_before: float | None  # None where the images have no boxes
    score_after: float | None

    @property
    def difference(self) -> str:
        """A clause on what differs."""
        if not self.detections and self.in_both == 100:
            return "neither network finds anything, so that nothing is compared"
        return (
            f"{self.in_both:.2f} % of {self.detections} detections are in both; of these boxes differ by at most "
            f"{self.largest_box_difference:.2g} pixels and scores by {self.largest_score_difference:.2g}"
        )

    def require(self) -> None:
        """Raise RunFailed if too few detections are in both."""
        if not self.in_both >= SHARE:
            raise RunFailed(f"the exported network is not the same, and is not kept: {self.words}")

    def record(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def compare_boxes(evaluate: Evaluate, original: nn.Module, exported: nn.Module, tolerance: float) -> BoxParity:
    """Both networks on the same images. tolerance: how much scores of one detection may differ."""
    before, mine = evaluate(original)
    after, theirs = evaluate(exported)
    first, second = found_of(mine), found_of(theirs)
    gaps = np.array(list(_pairs(first, second, tolerance))).reshape(-1, 2)
    total = len(first) + len(second)
    share = 200 * len(gaps) / total if total else 100.0
    box, score = gaps.max(axis=0, initial=0.0)
    return BoxParity(
        len(mine["ids"]), len(first), float(share), float(box), float(score), before.name, before.score, after.score
    )


def _pairs(first: Found, second: Found, tolerance: float) -> Iterator[tuple[float, float]]:
    """By how much boxes and scores of the detections that are in both differ, best first, each in one pair."""
    others = dict(groups(second.image))
    for image, rows in groups(first.image):
        free = list(others.get(image, ()))
        for row in rows:
            shares = overlaps(first.box[[row]], second.box[free])[0] if free else np.zeros(0)
            gaps = np.abs(second.score[free] - first.score[row])
            same = (second.label[free] == first.label[row]) & (shares > SAME_PLACE) & (gaps <= tolerance)
            if same.any():
                place = int(np.where(same, shares, -1).argmax())
                yield float(np.abs(second.box[free[place]] - first.box[row]).max()), float(gaps[place])
                del free[place]


@torch.inference_mode()
def bench_boxes(original: nn.Module, exported: nn.Module, size: int, runtime: str) -> dict[str, float]:
    """Images per second on this machine's CPU, one at a time. runtime: what runs the exported one."""
    image = torch.randn(3, size, size * 4 // 3, generator=torch.Generator().manual_seed(0))
    networks = {"PyTorch": original, runtime: exported}
    return {
        f"{name}, 1 at a time": round(images_per_second(lambda n=network: n([image]), 1), 2)  # type: ignore[misc]
        for name, network in networks.items()
    }
