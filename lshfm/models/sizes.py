"""Whether a network can take images of a given size."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.func import functional_call

from lshfm.errors import InputError, parameter

LARGEST_TRIED = 1024
# What networks raise when a map shrinks to nothing or does not divide into their patches.
MISFITS = (RuntimeError, ValueError, AssertionError, IndexError)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def _run_on_meta(model: nn.Module, size: int) -> None:
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    with torch.device("meta"):
        shapes = {name: tensor.to("meta") for name, tensor in tensors.items()}
        functional_call(model, shapes, (torch.zeros(1, 3, size, size),))


def _run(model: nn.Module, size: int) -> None:
    like = next(model.parameters())
    model(torch.zeros(1, 3, size, size, device=like.device, dtype=like.dtype))


def _failure(model: nn.Module, size: int) -> Exception | None:
    """Why the network cannot take this size. Shapes alone decide at no cost; a real run confirms a refusal,
    since a user's network may do what only real tensors allow."""
    try:
        _run_on_meta(model, size)
    except Exception:  # noqa: BLE001 - the real run below decides
        try:
            _run(model, size)
        except MISFITS as error:
            return error
    return None


def check_size(model: nn.Module, size: int) -> None:
    """InputError if the network cannot take images (3, size, size), naming the smallest size that works.

    The network's weights, buffers and modes stay as they are.
    """
    with _evaluating(model):
        failure = _failure(model, size)
        if failure is None:
            return
        smallest = next((s for s in range(1, LARGEST_TRIED + 1) if _failure(model, s) is None), None)
    name = getattr(model, "arch", type(model).__name__)
    if smallest is None:
        raise InputError(f"{name} takes no size up to {LARGEST_TRIED}; with {parameter('size')}={size}: {failure}")
    fault = "is too small for" if size < smallest else "does not fit"
    raise InputError(f"{parameter('size')}={size} {fault} {name}: the smallest size that works is {smallest}")
