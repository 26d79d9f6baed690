"""Faster R-CNN (Ren et al. 2015) on torchvision's parts; what is mimicked are the features of its box head."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN as TorchvisionFasterRCNN
from torchvision.models.detection.roi_heads import fastrcnn_loss
from torchvision.ops.poolers import MultiScaleRoIAlign, initLevelMapper

from lshfm.models.detection.contract import Draw, Places, Seen, Target
from lshfm.models.detection.single import boxes_in_single
from lshfm.models.detection.transform import Resize
from lshfm.models.freeze import freeze_bn_statistics

# Candidates of a level that go into the RPN's suppression, as published; torchvision's defaults are half of them.
PRE_NMS = {"rpn_pre_nms_top_n_train": 4000, "rpn_pre_nms_top_n_test": 2000}

STRIDES = {1: (16,), 4: (4, 8, 16, 32)}  # of the maps that boxes are pooled from, by their number


@contextmanager
def seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Within the block, random numbers on the device come from a seed; behind it they go on as before.

    torch.manual_seed would go to all devices, and on a CPU walk the stack for those that have not begun.
    """
    generator = torch.cuda.default_generators[device.index] if device.type == "cuda" else torch.default_generator
    before = generator.get_state()
    try:
        generator.manual_seed(seed)
        yield
    finally:
        generator.set_state(before)


def fix_scales(pool: MultiScaleRoIAlign) -> None:
    """Say how much smaller the maps are that boxes are pooled from.

    torchvision guesses it from the first batch that a process sees, and wrongly where much of that is padding.
    """
    strides = STRIDES[len(pool.featmap_names)]
    pool.scales = [1 / stride for stride in strides]
    pool.map_levels = initLevelMapper(
        strides[0].bit_length() - 1, strides[-1].bit_length() - 1, canonical_scale=pool.canonical_scale,
        canonical_level=pool.canonical_level,
    )  # fmt: skip


class KeyedSampler:
    """torchvision's sampler of positives and negatives, with an image's own seed for each image."""

    def __init__(self, sampler: Callable[[list[Tensor]], tuple[list[Tensor], list[Tensor]]]) -> None:
        self.sampler = sampler
        self.seeds: Sequence[int] = ()

    def __call__(self, matches: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Of each image's anchors or proposals (n,), masks of those that are sampled."""
        masks = [self._sampled(*each) for each in zip(matches, self.seeds, strict=True)]
        return [positive for positive, _ in masks], [negative for _, negative in masks]

    def _sampled(self, matches: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        with seeded(matches.device, seed):
            (positive,), (negative,) = self.sampler([matches])
        return positive, negative


class FasterRCNN(TorchvisionFasterRCNN):  # type: ignore[misc]
    """torchvision's, with features in training. A feature is a box's (D,), after the box head's last layer.

    num_classes: the background's included. size: of shorter sides in evaluation. still_norms: BatchNorm layers keep
    their statistics in training. parts: torchvision's own (anchors, pooling, box head).
    """

    def __init__(
        self, backbone: nn.Module, num_classes: int | None, *, arch: str, size: int, still_norms: bool = False,
        **parts: Any,
    ) -> None:  # fmt: skip
        super().__init__(backbone, num_classes, **PRE_NMS, **parts)
        fix_scales(self.roi_heads.box_roi_pool)
        boxes_in_single(self.rpn.anchor_generator, self.rpn.head, self.roi_heads.box_predictor)
        self.arch, self.still_norms = arch, still_norms
        self.transform = Resize(size)
        self._samplers = [KeyedSampler(part.fg_bg_sampler) for part in (self.rpn, self.roi_heads)]
        self.rpn.fg_bg_sampler, self.roi_heads.fg_bg_sampler = self._samplers

    @property
    def classifier(self) -> nn.Linear:
        """The layer from a feature to class scores, (C, D)."""
        layer: nn.Linear = self.roi_heads.box_predictor.cls_score
        return layer

    @property
    def num_features(self) -> int:
        """The feature's width, D."""
        return self.classifier.in_features

    def train(self, mode: bool = True) -> Self:
        """Set training mode."""
        super().train(mode)
        if self.still_norms:
            freeze_bn_statistics(self)
        return self

    def learn(self, images: Sequence[Tensor], targets: Sequence[Target], draws: Sequence[Draw]) -> Seen:
        """Losses and the features (R, D) of the sampled proposals, image by image; normalised images (3, h, w)."""
        for sampler in self._samplers:
            sampler.seeds = [draw.seed for draw in draws]
        batch, scaled = self.transform.resized(images, targets, draws)
        maps = self._maps(batch.tensors)
        proposals, losses = self.rpn(batch, maps, scaled)
        boxes, _, labels, offsets = self.roi_heads.select_training_samples(proposals, scaled)
        places = Places(batch.tensors, batch.image_sizes, boxes)
        features = self._features(maps, places)
        logits, deltas = self.roi_heads.box_predictor(features)
        in_class, in_place = fastrcnn_loss(logits, deltas, labels, offsets)
        losses = {**losses, "loss_classifier": in_class, "loss_box_reg": in_place}
        matched = torch.cat(labels) > 0
        return Seen(losses, features.flatten(1), torch.ones_like(matched), matched, places)

    def features(self, places: Places) -> Tensor:
        """The features (R, D) of boxes in a batch: backbone, pooling and box head alone."""
        return self._features(self._maps(places.pixels), places).flatten(1)

    def _maps(self, pixels: Tensor) -> Mapping[str, Tensor]:
        maps: Tensor | Mapping[str, Tensor] = self.backbone(pixels)
        return OrderedDict([("0", maps)]) if isinstance(maps, Tensor) else maps

    def _features(self, maps: Mapping[str, Tensor], places: Places) -> Tensor:
        features: Tensor = self.roi_heads.box_head(self.roi_heads.box_roi_pool(maps, places.boxes, places.sizes))
        return features
