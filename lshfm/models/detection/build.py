"""Builds a detector by its name."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.ops import MultiScaleRoIAlign

from lshfm.checks import is_number, pick, positive
from lshfm.errors import InputError, parameter
from lshfm.models.detection.backbones import (
    Norm,
    frozen_norm,
    mobilenet_pyramid,
    resnet_c4,
    resnet_pyramid,
    two_more_levels,
    vgg_map,
    vgg_pyramid,
)
from lshfm.models.detection.faster_rcnn import FasterRCNN
from lshfm.models.detection.retinanet import RetinaNet

FPN_CHANNELS, PROPOSALS = 256, 512
ALL_SIZES = (32, 64, 128, 256, 512)  # of a single map's anchors
RATIOS = (0.5, 1.0, 2.0)
MOBILENET = "mobilenet_v2"


@dataclass(frozen=True)
class Options:
    """What a design is built with."""

    arch: str
    num_classes: int  # with the background
    size: int
    norm: Norm
    channels: int  # of the pyramid
    width: float  # of MobileNetV2
    proposals: int  # sampled an image in training
    per_class: int | None  # RetinaNet's detections of each class
    frozen: bool = field(kw_only=True)  # whether MobileNetV2's first blocks are


@dataclass(frozen=True)
class Design:
    """A detector: how it is built, and which network its backbone is of."""

    build: Callable[[Options, str], nn.Module] = field(repr=False)
    backbone: str
    has_frozen_norms: bool = False
    has_pyramid: bool = True


def _pyramid(options: Options, backbone: str, *, for_retinanet: bool) -> nn.Module:
    levels = (2, 3, 4) if for_retinanet else (1, 2, 3, 4)
    extra = two_more_levels(options.channels) if for_retinanet else None
    if backbone == MOBILENET:
        return mobilenet_pyramid(
            options.norm, levels, extra, options.channels, width=options.width, frozen=options.frozen
        )
    if backbone.startswith("vgg"):
        return vgg_pyramid(backbone, [level + 1 for level in levels], extra, options.channels)
    return resnet_pyramid(backbone, options.norm, levels, extra)


def _pool(**keywords: Any) -> MultiScaleRoIAlign:
    return MultiScaleRoIAlign(featmap_names=["0"], output_size=7, sampling_ratio=2, **keywords)


def _one_map() -> AnchorGenerator:
    return AnchorGenerator(sizes=(ALL_SIZES,), aspect_ratios=(RATIOS,))


def _faster_fpn(options: Options, backbone: str) -> nn.Module:
    pyramid = _pyramid(options, backbone, for_retinanet=False)
    return FasterRCNN(
        pyramid, options.num_classes, arch=options.arch, size=options.size, box_batch_size_per_image=options.proposals
    )


def _faster_map(options: Options, backbone: str) -> nn.Module:
    return FasterRCNN(
        vgg_map(backbone, frozen=True), options.num_classes, arch=options.arch, size=options.size,
        rpn_anchor_generator=_one_map(), box_roi_pool=_pool(), box_batch_size_per_image=options.proposals,
    )  # fmt: skip


def _faster_c4(options: Options, backbone: str) -> nn.Module:
    trunk, box_head = resnet_c4(backbone)
    return FasterRCNN(
        trunk, None, arch=options.arch, size=options.size, still_norms=True, rpn_anchor_generator=_one_map(),
        box_roi_pool=_pool(), box_head=box_head, box_predictor=FastRCNNPredictor(2048, options.num_classes),
        box_batch_size_per_image=options.proposals,
    )  # fmt: skip


def _retina_fpn(options: Options, backbone: str) -> nn.Module:
    pyramid = _pyramid(options, backbone, for_retinanet=True)
    return RetinaNet(pyramid, options.num_classes, arch=options.arch, size=options.size, per_class=options.per_class)


def _retina_map(options: Options, backbone: str) -> nn.Module:
    return RetinaNet(
        vgg_map(backbone, frozen=False), options.num_classes, arch=options.arch, size=options.size,
        anchor_generator=_one_map(), per_class=options.per_class,
    )  # fmt: skip


DETECTORS: dict[str, Design] = {
    **{f"fasterrcnn_{net}_fpn": Design(_faster_fpn, net, has_frozen_norms=True) for net in ("resnet50", "resnet101")},
    **{f"fasterrcnn_{net}_c4": Design(_faster_c4, net, has_pyramid=False) for net in ("resnet50", "resnet101")},
    **{f"fasterrcnn_{net}_fpn": Design(_faster_fpn, net) for net in ("vgg11", "vgg16")},
    **{f"fasterrcnn_{net}": Design(_faster_map, net, has_pyramid=False) for net in ("vgg11", "vgg16")},
    "fasterrcnn_mobilenet_v2_fpn": Design(_faster_fpn, MOBILENET, has_frozen_norms=True),
    **{f"retinanet_{net}_fpn": Design(_retina_fpn, net, has_frozen_norms=True) for net in ("resnet50", "resnet101")},
    **{f"retinanet_{net}_fpn": Design(_retina_fpn, net) for net in ("vgg11", "vgg16")},
    **{f"retinanet_{net}": Design(_retina_map, net, has_pyramid=False) for net in ("vgg11", "vgg16")},
    "retinanet_mobilenet_v2_fpn": Design(_retina_fpn, MOBILENET, has_frozen_norms=True),
}


def detector(
    arch: str, num_classes: int, size: int = 800, *, frozen_eps: float = 1e-5, norm: str = "frozen",
    fpn_channels: int = FPN_CHANNELS, width: float = 1.0, proposals: int = PROPOSALS,
    per_class: int | None = None,
) -> nn.Module:  # fmt: skip
    """A network of `DETECTORS` with fresh weights; nothing is downloaded.

    num_classes: with the background, which is class 0. size: of shorter sides in evaluation. frozen_eps: of frozen
    BatchNorm layers, 0 in published checkpoints and in torchvision's own. norm: frozen, or batch for a MobileNetV2 that
    learns from random weights, all of it. fpn_channels: of the pyramid. width: factor of MobileNetV2's channels.
    proposals: that Faster R-CNN samples of an image in training. per_class: as RetinaNet has it, 300 as published.
    Raises InputError for an unknown name and for settings that the network does not have.
    """
    design = pick(parameter("arch"), arch, DETECTORS)
    pick(parameter("norm"), norm, {"frozen": 0, "batch": 1})
    positive(parameter("fpn_channels"), fpn_channels)
    positive(parameter("proposals"), proposals)
    if not is_number(width) or not 0 < width < torch.inf:
        raise InputError(f"{parameter('width')}={width} must be a number above 0")
    if per_class is not None and (positive(parameter("per_class"), per_class) and arch.startswith("faster")):
        raise InputError(f"{parameter('per_class')}={per_class} is RetinaNet's: {arch} keeps 100 of an image")
    if arch.startswith("retinanet") and proposals != PROPOSALS:
        raise InputError(f"{parameter('proposals')}={proposals}: {arch} has none")
    if design.backbone != MOBILENET and (norm != "frozen" or width != 1):
        raise InputError(f"{parameter('norm')} and {parameter('width')} are MobileNetV2's: {arch} has neither")
    if (not design.has_pyramid or design.backbone.startswith("resnet")) and fpn_channels != FPN_CHANNELS:
        raise InputError(f"{parameter('fpn_channels')}={fpn_channels}: {arch} has {FPN_CHANNELS} or no pyramid")
    made_with = frozen_norm(frozen_eps) if norm == "frozen" else nn.BatchNorm2d
    options = Options(
        arch, num_classes, size, made_with, fpn_channels, width, proposals, per_class, frozen=norm == "frozen"
    )
    return design.build(options, design.backbone)
