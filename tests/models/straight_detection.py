"""The losses of detectors as straight formulas in double precision, one image and one anchor after the other.

Nothing of torchvision is used but the backbones' convolutions, layer by layer, and RoIAlign. Every anchor and every
proposal is sampled.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align

RATIOS = (0.5, 1.0, 2.0)
FASTER_SIZES = [(32,), (64,), (128,), (256,), (512,)]
RETINA_SIZES = [(s, int(s * 2 ** (1 / 3)), int(s * 2 ** (2 / 3))) for s in (32, 64, 128, 256, 512)]
ONE_MAP = [(32, 64, 128, 256, 512)]
MOST = math.log(1000 / 16)


def conv(layer: nn.Conv2d, values: Tensor) -> Tensor:
    return F.conv2d(values, layer.weight, layer.bias, stride=layer.stride, padding=layer.padding)


def maps_of(net: nn.Module, pixels: Tensor) -> list[Tensor]:
    """The backbone's maps: of a pyramid by hand, from its body's."""
    if not hasattr(net.backbone, "fpn"):
        return [net.backbone(pixels)]
    body = list(net.backbone.body(pixels).values())
    fpn = net.backbone.fpn
    inner = [conv(block[0], each) for block, each in zip(fpn.inner_blocks, body, strict=True)]
    for level in range(len(inner) - 2, -1, -1):
        height, width = inner[level].shape[2:]
        above = inner[level + 1]
        rows = torch.arange(height) * above.shape[2] // height
        columns = torch.arange(width) * above.shape[3] // width
        inner[level] = inner[level] + above[:, :, rows][..., columns]
    maps = [conv(block[0], each) for block, each in zip(fpn.layer_blocks, inner, strict=True)]
    if hasattr(fpn.extra_blocks, "p6"):
        sixth = conv(fpn.extra_blocks.p6, maps[-1])
        return [*maps, sixth, conv(fpn.extra_blocks.p7, sixth.relu())]
    return [*maps, maps[-1][:, :, ::2, ::2]]


def anchors_of(maps: Sequence[Tensor], sizes: Sequence[Sequence[int]], padded: tuple[int, int]) -> list[Tensor]:
    """Of each level (h * w * A, 4), rows before columns before ratios before sizes."""
    levels = []
    for each, own in zip(maps, sizes, strict=True):
        cells = [
            torch.tensor([-size / math.sqrt(r), -size * math.sqrt(r), size / math.sqrt(r), size * math.sqrt(r)]) / 2
            for r in RATIOS for size in own
        ]  # fmt: skip
        height, width = each.shape[2:]
        down, right = padded[0] // height, padded[1] // width
        levels.append(torch.stack([
            cell.round().double() + torch.tensor([x * right, y * down, x * right, y * down])
            for y in range(height) for x in range(width) for cell in cells
        ]))  # fmt: skip
    return levels


def iou(first: Tensor, second: Tensor) -> Tensor:
    low, high = torch.maximum(first[:, None, :2], second[:, :2]), torch.minimum(first[:, None, 2:], second[:, 2:])
    common = (high - low).clamp(min=0).prod(2)
    areas = [(each[:, 2:] - each[:, :2]).prod(1) for each in (first, second)]
    return common / (areas[0][:, None] + areas[1] - common)


def match(boxes: Tensor, anchors: Tensor, high: float, low: float, *, best_of_object: bool) -> Tensor:
    """An object's number, -1 for a negative, -2 for one between."""
    if not len(boxes):
        return torch.full((len(anchors),), -1)
    pairs = iou(boxes, anchors)
    value, number = pairs.max(0)
    found = torch.where(value < low, -1, torch.where(value < high, -2, number))
    if best_of_object:
        for row in pairs:
            is_best = row == row.max()
            found[is_best] = number[is_best]
    return found


def encode(boxes: Tensor, anchors: Tensor, weights: Sequence[float]) -> Tensor:
    sides, theirs = anchors[:, 2:] - anchors[:, :2], boxes[:, 2:] - boxes[:, :2]
    centre, its = anchors[:, :2] + sides / 2, boxes[:, :2] + theirs / 2
    return torch.cat([(its - centre) / sides, (theirs / sides).log()], 1) * torch.tensor(weights)


def decode(deltas: Tensor, anchors: Tensor) -> Tensor:
    sides = anchors[:, 2:] - anchors[:, :2]
    centre = anchors[:, :2] + sides / 2 + deltas[:, :2] * sides
    new = sides * deltas[:, 2:].clamp(max=MOST).exp()
    return torch.cat([centre - new / 2, centre + new / 2], 1)


def smooth_l1(difference: Tensor) -> Tensor:
    size, beta = difference.abs(), 1 / 9
    return torch.where(size < beta, size**2 / (2 * beta), size - beta / 2).sum()


def bce(logits: Tensor, targets: Tensor) -> Tensor:
    return logits.clamp(min=0) - logits * targets + torch.log1p(torch.exp(-logits.abs()))


def suppressed(boxes: Tensor, scores: Tensor, most: float) -> list[int]:
    kept: list[int] = []
    for candidate in scores.argsort(descending=True).tolist():
        if not kept or iou(boxes[candidate : candidate + 1], boxes[kept]).max() <= most:
            kept.append(candidate)
    return kept


def per_anchor(output: Tensor, columns: int) -> Tensor:
    """(B, A * columns, h, w) -> (B, h * w * A, columns)."""
    return output.permute(0, 2, 3, 1).reshape(len(output), -1, columns)


class FasterRCNN:
    """Losses and features of a network of ours on a padded batch."""

    def __init__(
        self, net: nn.Module, pixels: Tensor, shapes: Sequence[tuple[int, int]], targets: Sequence[dict[str, Tensor]]
    ) -> None:
        self.net, self.pixels, self.shapes = net, pixels, shapes
        self.maps = maps_of(net, pixels)
        sizes = FASTER_SIZES if len(self.maps) > 1 else ONE_MAP
        levels = anchors_of(self.maps, sizes, (pixels.shape[2], pixels.shape[3]))
        head = net.rpn.head
        hidden = [conv(head.conv[0][0], each).relu() for each in self.maps]
        scores = [per_anchor(conv(head.cls_logits, each), 1)[..., 0] for each in hidden]
        deltas = [per_anchor(conv(head.bbox_pred, each), 4) for each in hidden]
        self.losses = self._rpn(torch.cat(levels), torch.cat(scores, 1), torch.cat(deltas, 1), targets)
        self.proposals = [
            torch.cat([self._proposals(levels, [s[i] for s in scores], [d[i] for d in deltas], shape), t["boxes"]])
            for i, (shape, t) in enumerate(zip(shapes, targets, strict=True))
        ]
        self.features = self.features_by(net, self.maps)
        self.losses |= self._boxes(targets)

    def _rpn(self, anchors: Tensor, scores: Tensor, deltas: Tensor, targets: Sequence[dict[str, Tensor]]) -> dict:
        objectness, places, count = 0.0, 0.0, 0
        for own_scores, own_deltas, target in zip(scores, deltas, targets, strict=True):
            found = match(target["boxes"], anchors, 0.7, 0.3, best_of_object=True)
            sampled, positive = found != -2, found >= 0
            objectness += bce(own_scores[sampled], positive[sampled].double()).sum()
            count += int(sampled.sum())
            if positive.any():
                wanted = encode(target["boxes"][found[positive]], anchors[positive], (1, 1, 1, 1))
                places += smooth_l1(own_deltas[positive] - wanted)
        return {"loss_objectness": objectness / count, "loss_rpn_box_reg": places / count}

    @torch.no_grad()
    def _proposals(self, anchors: list, scores: list, deltas: list, shape: tuple[int, int]) -> Tensor:
        boxes, chances = [], []
        limit = torch.tensor([shape[1], shape[0], shape[1], shape[0]])
        for own_anchors, own_scores, own_deltas in zip(anchors, scores, deltas, strict=True):
            best = own_scores.argsort(descending=True)[:4000]
            found = decode(own_deltas[best], own_anchors[best]).clamp(min=0).minimum(limit.double())
            there = ((found[:, 2:] - found[:, :2]) >= 1e-3).all(1)
            found, own = found[there], own_scores[best][there]
            kept = suppressed(found, own, 0.7)
            boxes.append(found[kept])
            chances.append(own[kept])
        return torch.cat(boxes)[torch.cat(chances).argsort(descending=True)[:2000]]

    def features_by(self, net: nn.Module, maps: Sequence[Tensor]) -> Tensor:
        """The box head's features of the proposals."""
        rows = torch.cat([F.pad(boxes, (1, 0), value=i) for i, boxes in enumerate(self.proposals)])
        levels = maps[:4]
        scales = [2.0 ** round(math.log2(each.shape[2] / self.pixels.shape[2])) for each in levels]
        if len(levels) == 1:
            pooled = roi_align(levels[0], rows, 7, scales[0], 2)
        else:
            sides = (rows[:, 3:] - rows[:, 1:3]).prod(1).sqrt()
            level = (4 + (sides / 224).log2() + 1e-6).floor().clamp(2, 5) - 2
            pooled = torch.zeros(len(rows), levels[0].shape[1], 7, 7, dtype=torch.float64)
            for number, (each, scale) in enumerate(zip(levels, scales, strict=True)):
                pooled[level == number] = roi_align(each, rows[level == number], 7, scale, 2)
        head = net.roi_heads.box_head
        if not hasattr(head, "fc6"):
            return head[0](pooled).mean((2, 3))
        hidden = (pooled.flatten(1) @ head.fc6.weight.T + head.fc6.bias).relu()
        return (hidden @ head.fc7.weight.T + head.fc7.bias).relu()

    def _boxes(self, targets: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        predictor = self.net.roi_heads.box_predictor
        logits, deltas = predictor.cls_score(self.features), predictor.bbox_pred(self.features)
        in_class, in_place, row = 0.0, 0.0, 0
        self.matched = []
        for proposals, target in zip(self.proposals, targets, strict=True):
            found = match(target["boxes"], proposals, 0.5, 0.5, best_of_object=False)
            for proposal, number in zip(proposals, found.tolist(), strict=True):
                label = int(target["labels"][number]) if number >= 0 else 0
                in_class -= logits[row].log_softmax(0)[label]
                if label:
                    wanted = encode(target["boxes"][number : number + 1], proposal[None], (10, 10, 5, 5))[0]
                    in_place += smooth_l1(deltas[row, 4 * label : 4 * label + 4] - wanted)
                self.matched.append(label > 0)
                row += 1
        return {"loss_classifier": in_class / row, "loss_box_reg": in_place / row}


class RetinaNet:
    """Losses and windows of a network of ours on a padded batch."""

    def __init__(
        self, net: nn.Module, pixels: Tensor, shapes: Sequence[tuple[int, int]], targets: Sequence[dict[str, Tensor]]
    ) -> None:
        self.net, self.pixels, self.shapes = net, pixels, shapes
        maps = maps_of(net, pixels)
        sizes = RETINA_SIZES if len(maps) > 1 else ONE_MAP
        anchors = torch.cat(anchors_of(maps, sizes, (pixels.shape[2], pixels.shape[3])))
        heads = net.head.classification_head, net.head.regression_head
        self.towers = [self.tower(heads[0], each) for each in maps]
        classes = heads[0].cls_logits.out_channels // (3 * len(sizes[0]))
        logits = torch.cat([per_anchor(conv(heads[0].cls_logits, each), classes) for each in self.towers], 1)
        deltas = torch.cat([per_anchor(conv(heads[1].bbox_reg, self.tower(heads[1], each)), 4) for each in maps], 1)
        self.matches = [match(t["boxes"], anchors, 0.5, 0.4, best_of_object=True) for t in targets]
        self.losses = {"classification": self._focal(logits, targets)}
        self.losses["bbox_regression"] = self._places(deltas, anchors, targets)
        self.features = self.windows(self.towers)

    @staticmethod
    def tower(head: nn.Module, values: Tensor) -> Tensor:
        for layer in head.conv:
            values = conv(layer[0], values).relu()
        return values

    def features_by(self, net: nn.Module, maps: Sequence[Tensor]) -> Tensor:
        return self.windows([self.tower(net.head.classification_head, each) for each in maps])

    @staticmethod
    def windows(towers: Sequence[Tensor]) -> Tensor:
        """(B, positions, 9 C)."""
        return torch.cat([F.unfold(each, 3, padding=1).transpose(1, 2) for each in towers], 1)

    def _focal(self, logits: Tensor, targets: Sequence[dict[str, Tensor]]) -> Tensor:
        total = 0.0
        for own, found, target in zip(logits, self.matches, targets, strict=True):
            wanted = torch.zeros_like(own)
            for anchor in (found >= 0).nonzero()[:, 0].tolist():
                wanted[anchor, target["labels"][found[anchor]]] = 1
            p = own.sigmoid()
            right = torch.where(wanted > 0, p, 1 - p)
            loss = torch.where(wanted > 0, 0.25, 0.75) * (1 - right) ** 2 * bce(own, wanted)
            total += loss[found != -2].sum() / max(1, int((found >= 0).sum()))
        return total / len(targets)

    def _places(self, deltas: Tensor, anchors: Tensor, targets: Sequence[dict[str, Tensor]]) -> Tensor:
        total = 0.0
        for own, found, target in zip(deltas, self.matches, targets, strict=True):
            positive = found >= 0
            if positive.any():
                wanted = encode(target["boxes"][found[positive]], anchors[positive], (1, 1, 1, 1))
                total += (own[positive] - wanted).abs().sum() / max(1, int(positive.sum()))
        return total / len(targets)


def mimicked(straight: FasterRCNN | RetinaNet, theirs: Tensor, loss: str, weights: Tensor) -> Tensor:
    """The loss between features, without beta: (R, D), or (B, positions, D) of which an image keeps some."""
    if isinstance(straight, FasterRCNN):
        return compared(straight.features, theirs, loss, weights)
    images = []
    for number, found in enumerate(straight.matches):
        positions = straight.features.shape[1]
        kept = found.view(positions, -1).sum(1) > -2 * len(found) / positions
        images.append(compared(straight.features[number][kept], theirs[number][kept], loss, weights))
    return torch.stack(images).mean()


def compared(ours: Tensor, theirs: Tensor, loss: str, weights: Tensor) -> Tensor:
    l2 = ((ours - theirs) ** 2).mean()
    lsh = bce(ours @ weights.T, (theirs @ weights.T > 0).double()).mean()
    return {"l1": (ours - theirs).abs().mean(), "l2": l2, "lsh": lsh, "lshl2": l2 + lsh}[loss]
