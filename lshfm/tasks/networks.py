"""Building what commands share: networks, losses, the optimiser, the evaluator."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from lshfm.config.build import build
from lshfm.config.compose import Job
from lshfm.console import Bar
from lshfm.datasets import keyed
from lshfm.datasets.loader import Loader
from lshfm.engine.evaluate import Predictions, predict
from lshfm.engine.state import Evaluation, Objective, make_optimizer
from lshfm.errors import InputError
from lshfm.losses.classification import Summed
from lshfm.metrics.multilabel import measure
from lshfm.models.batch_norm import set_statistics
from lshfm.models.imagenet import resolve
from lshfm.models.sizes import check_size
from lshfm.models.weights import Loaded, load_weights
from lshfm.ranks.group import num_ranks, on_main, rank

Values = dict[str, Any]


def build_network(model: Values, classes: Sequence[str], size: int) -> tuple[nn.Module, Loaded | None]:
    """The network with its starting weights, and what these were.

    Raises InputError if it does not keep the contract (feature, logits) with num_features, if its weights do not
    fit, or if it cannot take images of this size.
    """
    keywords = {name: value for name, value in model.items() if name not in {"name", "weights"}}
    weights = str(model.get("weights") or "none")
    arch = str(model.get("arch") or model.get("_target_"))
    if "pretrained" in keywords:  # a library that keeps weights of its own
        if weights == "auto":
            raise InputError(
                f"model.weights is not given for {arch}. Choose one of model.weights=imagenet (its library fetches "
                "them), model.weights=PATH, model.weights=none"
            )
        keywords["pretrained"] = weights == "imagenet"
        weights = "none" if weights == "imagenet" else weights
    network = build(keywords, num_classes=len(classes))
    check_size(network, size)
    _check_contract(network, len(classes), size)
    path = resolve(weights, arch)
    return network, load_weights(network, path, classes) if path else None


def _check_contract(network: nn.Module, num_classes: int, size: int) -> None:
    training = network.training
    network.eval()
    with torch.no_grad():
        output = network(torch.zeros(1, 3, size, size))
    network.train(training)
    width = getattr(network, "num_features", None)
    wanted = [(1, width), (1, num_classes)]
    is_pair = isinstance(output, tuple) and len(output) == 2 and all(isinstance(o, torch.Tensor) for o in output)
    if not is_pair or [tuple(o.shape) for o in output] != wanted:
        got = [tuple(o.shape) for o in output] if is_pair else type(output).__name__
        raise InputError(
            f"{type(network).__name__} must return (feature, logits) of shapes (B, num_features={width}) and "
            f"(B, {num_classes}); for one image it gave {got}"
        )


def describe_network(name: str, network: nn.Module, loaded: Loaded | None) -> str:
    """A line on a network and where its weights come from."""
    millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    weights = loaded.describe() if loaded else "random"
    return f"{name}: {millions:.2f} M parameters, feature width {network.num_features}; weights: {weights}"


def label_loss(job: Job, role: str) -> tuple[str, nn.Module]:
    """The loss on labels that the group `role` chose, with its name."""
    node = job.values[role]
    settings = {name: value for name, value in node.items() if name not in {"name", "kind"}}
    loss, pieces = build(settings), num_ranks() * job.values["accumulate"]
    is_sum = getattr(loss, "reduction", "mean") == "sum"
    return str(node.get("name") or job.choices[role]), Summed(loss, pieces) if is_sum and pieces > 1 else loss


def optimizer(objective: Objective, values: Values) -> torch.optim.Optimizer:
    """The optimiser that the settings ask for."""
    return make_optimizer(
        objective, values["optimizer"], momentum=values["momentum"], weight_decay=values["weight_decay"]
    )


def check_batch_norm(network: nn.Module, size: int, values: Values) -> None:
    """Raise InputError where BatchNorm would see a single value a channel in training."""
    images = values["batch_size"] // num_ranks() // values["accumulate"]
    if min(images, values["bn_group_size"] or images) > 1 or (values["sync_bn"] and num_ranks() > 1):
        return
    try:
        with torch.no_grad():
            copy.deepcopy(network).train()(torch.zeros(1, 3, size, size))
    except ValueError as error:
        raise InputError(f"one image at a time is too few for BatchNorm here ({error}): raise batch_size") from error


def place(network: nn.Module, where: torch.device, values: Values) -> nn.Module:
    """The network on its device, in the asked memory order."""
    order = torch.channels_last if values["channels_last"] else torch.contiguous_format
    return network.to(where).to(memory_format=order)


def place_trained(network: nn.Module, where: torch.device, values: Values) -> nn.Module:
    """The network to train, on its device; what is random in a step differs between ranks from here on."""
    grouped = set_statistics(network, group_size=values["bn_group_size"], shared=values["sync_bn"], device=where)
    if rank():
        torch.manual_seed(int(keyed.bits(values["seed"], 0, rank(), keyed.Stream.RANK)[0] >> 1))
    return place(grouped, where, values)


def make_evaluator(
    loader: Loader, classes: Sequence[str], metric: str, precision: str, *, features: bool = False
) -> Callable[[nn.Module], tuple[Evaluation, Predictions | None]]:
    """A function that runs a network over `loader` and measures it by every multi-label metric.

    All ranks do so together; each is told the evaluation, rank 0 has the predictions.
    """

    def evaluate(network: nn.Module) -> tuple[Evaluation, Predictions | None]:
        with Bar("evaluating", len(loader)) as bar:
            predictions = predict(network, loader.epoch(0), precision=precision, features=features, report=bar.update)

        def measured() -> Evaluation:
            assert predictions
            assert len(predictions.index) == len(loader.indices)
            report = measure(predictions.logits, predictions.labels, classes, metric)
            return Evaluation(f"{metric} mAP", report["mAP"], report)

        return on_main(measured), predictions

    return evaluate
