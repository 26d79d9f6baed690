"""Builds a task's network from its settings, checks its outputs, and puts it on the device."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from lshfm import errors
from lshfm.config.build import build
from lshfm.config.groups import Network
from lshfm.config.schema import Training
from lshfm.datasets import keyed
from lshfm.errors import InputError
from lshfm.models.batch_norm import set_statistics
from lshfm.models.freeze import apply_freeze, heads
from lshfm.models.imagenet import resolve
from lshfm.models.sizes import check_size
from lshfm.models.weights import Loaded, load_weights
from lshfm.ranks.group import num_ranks, rank


def build_classifier(
    network: Network, outputs: Sequence[str], size: int, *, at: str = "model"
) -> tuple[nn.Module, Loaded | None]:
    """A network with one output for each name in `outputs`, and what its weights were loaded from; None if random.

    at: the group that the network was chosen from, for messages.

    Raises InputError if it does not keep the contract (feature, logits) with num_features, if its weights do not
    fit, or if it cannot take images of this size.
    """
    keywords = dict(network.own)
    weights = network.weights or "none"
    arch = str(keywords.get("arch") or network.target)
    if network.fetches:
        if weights == "auto":
            raise InputError(
                f"{at}.weights is not given for {arch}. Choose one of {at}.weights=imagenet (its library fetches "
                f"them), {at}.weights=PATH, {at}.weights=none"
            )
        keywords["pretrained"] = weights == "imagenet"
        weights = "none" if weights == "imagenet" else weights
    elif "pretrained" in keywords and weights == "imagenet":
        raise InputError(
            f"{at}.weights=imagenet is for torchvision's and timm's networks; {arch} has a key of its own, "
            f"{at}.pretrained: write {at}.pretrained=true {at}.weights=none"
        )
    module: nn.Module = build(keywords, at=at, num_classes=len(outputs))
    with errors.at("dataset"):
        check_size(module, size)
    check_outputs(module, len(outputs), size)
    with errors.at(at):
        path = resolve(weights, arch)
        return module, load_weights(module, path, outputs) if path else None


def check_outputs(network: nn.Module, num_outputs: int, size: int) -> None:
    """Raise InputError unless a network maps images of this size to (feature, logits), (B, num_features) and (B, C)."""
    training = network.training
    network.eval()
    with torch.no_grad():
        output = network(torch.zeros(1, 3, size, size))
    network.train(training)
    width = getattr(network, "num_features", None)
    wanted = [(1, width), (1, num_outputs)]
    is_pair = isinstance(output, tuple) and len(output) == 2 and all(isinstance(o, torch.Tensor) for o in output)
    if not is_pair or [tuple(o.shape) for o in output] != wanted:
        got = [tuple(o.shape) for o in output] if is_pair else type(output).__name__
        raise InputError(
            f"{type(network).__name__} must return (feature, logits) of shapes (B, num_features={width}) and "
            f"(B, {num_outputs}); for one image it gave {got}"
        )


def starting_weights(network: Network, loaded: Loaded | None) -> str:
    """Where a built network's weights come from, in words: what was taken from a file, what dropped, what missing."""
    if loaded:
        return loaded.describe()
    if network.starts_itself:
        return f"those that {network.target} gives itself with pretrained={network.own['pretrained']}"
    return "ImageNet, from the network's library" if network.weights == "imagenet" else "random"


def describe_network(name: str, network: nn.Module, weights: str) -> str:
    """A line on a network and where its weights come from, which is said already."""
    millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    return f"{name}: {millions:.2f} M parameters, feature width {network.num_features}; weights: {weights}"


def check_batch_norm(network: nn.Module, settings: Training) -> None:
    """Raise InputError where BatchNorm would see a single value a channel in training."""
    images = settings.batch_size // num_ranks() // settings.accumulate
    if min(images, settings.bn_group_size or images) > 1 or (settings.sync_bn and num_ranks() > 1):
        return
    size, tried = settings.dataset.size, copy.deepcopy(network).train()
    if not any(isinstance(layer, _BatchNorm) and layer.training for layer in tried.modules()):
        return
    # A detector learns from boxes, too; its BatchNorm layers are those of its backbone.
    part: Any = tried.backbone if hasattr(tried, "learn") else tried
    try:
        with torch.no_grad():
            part(torch.zeros(1, 3, size, size))
    except ValueError as error:
        raise InputError(f"one image at a time is too few for BatchNorm here ({error}): raise batch_size") from error


def check_parts(network: nn.Module, settings: Training) -> None:
    """Freeze what `settings.freeze` names, which the objective repeats; InputError for parts that are not there.

    That is said before pixels are decoded.
    """
    apply_freeze(network, settings.freeze)
    if settings.head_lr != 1 or settings.freeze_epochs:
        heads(network)


def place(network: nn.Module, device: torch.device, *, channels_last: bool) -> nn.Module:
    """The network on its device, in the asked memory order."""
    order = torch.channels_last if channels_last else torch.contiguous_format
    return network.to(device).to(memory_format=order)


def place_trained(network: nn.Module, device: torch.device, settings: Training) -> nn.Module:
    """The network to train, on its device, its BatchNorm as asked; reseeds ranks above 0, so that dropout differs."""
    grouped = set_statistics(network, group_size=settings.bn_group_size, shared=settings.sync_bn, device=device)
    if rank():
        torch.manual_seed(int(keyed.bits(settings.seed, 0, rank(), keyed.Stream.RANK)[0] >> 1))
    return place(grouped, device, channels_last=settings.channels_last)
