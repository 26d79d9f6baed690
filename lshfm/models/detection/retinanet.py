"""RetinaNet (Lin et al. 2017) on torchvision's parts; mimicked are the windows that its classification layer sees."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet as TorchvisionRetinaNet
from torchvision.ops import box_iou

from lshfm.models.detection.contract import Draw, Places, Seen, Target
from lshfm.models.detection.single import boxes_in_single
from lshfm.models.detection.transform import Resize

Matches = Tensor  # (anchors,) int64: an object's number, or one of the two below
ALL = 2**31
SMALLEST_SIDE = 0.01  # pixels, of detections in published evaluations
BACKGROUND, BETWEEN = -1, -2  # torchvision's Matcher: a negative anchor, and one that no loss looks at


class RetinaNet(TorchvisionRetinaNet):  # type: ignore[misc]
    """torchvision's, with features in training. A position's feature is the 3x3 window (D = 9 C) around it.

    num_classes: an unused output 0 included. size: of shorter sides in evaluation. per_class: detections that are kept
    of each class, whatever number of all, as published; None: torchvision's limits of a level and of an image.
    """

    def __init__(
        self, backbone: nn.Module, num_classes: int, *, arch: str, size: int, per_class: int | None = None, **parts: Any
    ) -> None:
        limits = {} if per_class is None else {"topk_candidates": ALL, "detections_per_img": ALL}
        super().__init__(backbone, num_classes, **parts, **limits)
        boxes_in_single(self.anchor_generator, self.classifier, self.head.regression_head)
        self.arch, self.per_class = arch, per_class
        self.transform = Resize(size)

    @property
    def classifier(self) -> nn.Conv2d:
        """The layer from a window to class scores, (A * C, D / 9, 3, 3)."""
        layer: nn.Conv2d = self.head.classification_head.cls_logits
        return layer

    @property
    def num_features(self) -> int:
        """The feature's width, D."""
        return self.classifier.in_channels * 9

    def learn(self, images: Sequence[Tensor], targets: Sequence[Target], draws: Sequence[Draw]) -> Seen:
        """Losses, and the classification tower's maps (B, C, h, w) of each level; normalised images (3, h, w)."""
        batch, scaled = self.transform.resized(images, targets, draws)
        maps = self._maps(batch.tensors)
        towers = [self.head.classification_head.conv(each) for each in maps]
        outputs = {"cls_logits": self._logits(towers), "bbox_regression": self.head.regression_head(maps)}
        anchors = self.anchor_generator(batch, maps)
        matches = [self._match(*each) for each in zip(anchors, scaled, strict=True)]
        losses = self.head.compute_loss(scaled, outputs, anchors, matches)
        kept, matched = self._of_positions(torch.stack(matches), towers)
        return Seen(losses, towers, kept, matched, Places(batch.tensors, batch.image_sizes))

    def features(self, places: Places) -> list[Tensor]:
        """The classification tower's maps (B, C, h, w) of each level: backbone and tower alone."""
        return [self.head.classification_head.conv(each) for each in self._maps(places.pixels)]

    def postprocess_detections(self, *outputs: Any) -> list[dict[str, Tensor]]:
        """Detections of each image, best score first."""
        found: list[dict[str, Tensor]] = super().postprocess_detections(*outputs)
        num, most = self.head.classification_head.num_classes, self.per_class
        return found if most is None else [_best_of_each_class(each, most, num) for each in found]

    def _maps(self, pixels: Tensor) -> list[Tensor]:
        maps = self.backbone(pixels)
        return [maps] if isinstance(maps, Tensor) else list(maps.values())

    def _logits(self, towers: Sequence[Tensor]) -> Tensor:
        """The class layer on all levels, rows before columns before anchors: (B, anchors, C)."""
        per_anchor = self.head.classification_head.num_classes
        scores = [self.classifier(tower).permute(0, 2, 3, 1).flatten(1) for tower in towers]
        return torch.cat(scores, dim=1).view(len(scores[0]), -1, per_anchor)

    def _match(self, anchors: Tensor, target: Target) -> Matches:
        if not len(target["boxes"]):
            return torch.full((len(anchors),), BACKGROUND, device=anchors.device)
        matches: Matches = self.proposal_matcher(box_iou(target["boxes"], anchors))
        return matches

    def _of_positions(self, matches: Tensor, towers: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Bool (B, h, w) of each level: positions with an anchor that a loss looks at, and with a matched one.

        Published as: the sum of a position's match values is above twice -9. matches: (B, anchors).
        """
        at_positions = matches.view(len(matches), -1, self.head.classification_head.num_anchors)  # (B, positions, A)
        shapes = [tower.shape[-2:] for tower in towers]
        both = []
        for flags in (at_positions.sum(2) > BETWEEN * at_positions.shape[2], (at_positions >= 0).any(2)):
            levels = torch.split(flags, [h * w for h, w in shapes], dim=1)
            both.append([level.view(-1, *shape) for level, shape in zip(levels, shapes, strict=True)])
        return both[0], both[1]


def _best_of_each_class(found: dict[str, Tensor], most: int, num_classes: int) -> dict[str, Tensor]:
    """So many of each class, of sorted detections that have an area."""
    sides = found["boxes"][:, 2:] - found["boxes"][:, :2]
    found = {name: values[(sides >= SMALLEST_SIDE).all(1)] for name, values in found.items()}
    labels = found["labels"]
    ranks = (labels[:, None] == torch.arange(num_classes, device=labels.device)).long().cumsum(0)
    kept = ranks.gather(1, labels[:, None])[:, 0] <= most  # without a loop, which no recorded graph would have
    return {name: values[kept] for name, values in found.items()}
