"""Parts of a network that do not learn; works on any network, the parts named as in `freeze=[...]`."""

from collections.abc import Callable, Iterator, Sequence

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from lshfm.checks import pick
from lshfm.errors import InputError


def _batch_norms(model: nn.Module) -> Iterator[_BatchNorm]:
    return (module for module in model.modules() if isinstance(module, _BatchNorm))


def freeze_bn_statistics(model: nn.Module) -> None:
    """BatchNorm normalises with its running statistics and keeps them; weight and bias still learn.

    `model.train()` undoes this: train through `set_train_mode`. Raises InputError without BatchNorm layers.
    """
    layers = list(_batch_norms(model))
    if not layers:
        raise InputError("freeze=bn_stats: the network has no BatchNorm layers")
    for layer in layers:
        layer.eval()


def freeze_bn_affine(model: nn.Module) -> None:
    """BatchNorm's weight and bias stop learning; its statistics still adapt.

    Raises InputError if no BatchNorm layer has them.
    """
    parameters = [parameter for layer in _batch_norms(model) for parameter in layer.parameters()]
    if not parameters:
        raise InputError("freeze=bn_affine: the network has no BatchNorm layers with weight and bias")
    for parameter in parameters:
        parameter.requires_grad = False


def freeze_backbone(model: nn.Module) -> None:
    """Only `model.classifier` learns; BatchNorm statistics still adapt (freeze bn_stats too to stop them).

    Raises InputError if the network has no layer of that name.
    """
    classifier = getattr(model, "classifier", None)
    if not isinstance(classifier, nn.Module):
        raise InputError(
            f"freeze=backbone trains the classifier alone, but {type(model).__name__} has no layer called "
            "'classifier': give it that attribute"
        )
    model.requires_grad_(False)
    classifier.requires_grad_(True)


def heads(model: nn.Module) -> list[nn.Module]:
    """The layers behind the backbone: `model.projection`, if it has one, and `model.classifier`.

    Raises InputError if the network has no layer of the last name.
    """
    found = [getattr(model, name, None) for name in ("projection", "classifier")]
    if not isinstance(found[-1], nn.Module):
        raise InputError(
            f"head_lr and freeze_epochs tell the backbone from what is behind it, but {type(model).__name__} has no "
            "layer called 'classifier': give it that attribute"
        )
    return [layer for layer in found if isinstance(layer, nn.Module)]


def hold_backbone(model: nn.Module) -> list[nn.Parameter]:
    """Stop all that learns but the `heads`; what was stopped, to be set going again."""
    apart = {id(parameter) for head in heads(model) for parameter in head.parameters()}
    held = [p for p in model.parameters() if p.requires_grad and id(p) not in apart]
    for parameter in held:
        parameter.requires_grad = False
    return held


def hold_statistics(model: nn.Module) -> None:
    """BatchNorm of the backbone, all but the `heads`, is in eval mode until the next `model.train()`."""
    apart = {id(module) for head in heads(model) for module in head.modules()}
    for layer in _batch_norms(model):
        if id(layer) not in apart:
            layer.eval()


# In the order they apply, whatever the user's: the classifier may itself hold a BatchNorm.
FREEZE: dict[str, Callable[[nn.Module], None]] = {
    "backbone": freeze_backbone,
    "bn_affine": freeze_bn_affine,
    "bn_stats": freeze_bn_statistics,
}


def apply_freeze(model: nn.Module, names: Sequence[str]) -> None:
    """Freeze the named parts of `FREEZE`, before the optimiser is built and before any wrapping.

    Raises InputError for an unknown name (nothing is frozen then) and for a part the network does not have.
    """
    chosen = [pick("freeze", name, FREEZE) for name in names]
    for freeze in FREEZE.values():
        if freeze in chosen:
            freeze(model)


def set_train_mode(model: nn.Module, frozen: Sequence[str]) -> None:
    """`model.train()` for a network with the parts `frozen`: frozen BatchNorm statistics stay as they are."""
    model.train()
    if "bn_stats" in frozen:
        freeze_bn_statistics(model)
