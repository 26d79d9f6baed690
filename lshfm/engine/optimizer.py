"""The optimisers, in the form that a step needs: plain, fused, or such that a recording can repeat their update."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

OWN = ("foreach", "fused", "capturable", "differentiable")  # how a process computes an update: not what it computes


def make_optimizer(
    groups: Iterable[dict[str, Any]], name: str, *, momentum: float, weight_decay: float, fused: bool, capturable: bool
) -> torch.optim.Optimizer:
    """SGD with momentum, Adam or AdamW, over groups of parameters.

    fused: in one kernel, where the device has it. capturable: the learning rate lies in a tensor, and nothing is first
    made at the first update; it takes `fused`.
    """
    fast: dict[str, Any] = {"fused": True} if fused else {}
    optimizer: torch.optim.Optimizer
    if name == "sgd":
        optimizer = torch.optim.SGD(groups, lr=0.0, momentum=momentum, weight_decay=weight_decay, **fast)
    else:
        adam = torch.optim.Adam if name == "adam" else torch.optim.AdamW
        fast |= {"capturable": True} if capturable else {}
        optimizer = adam(groups, lr=0.0, betas=(momentum, 0.999), weight_decay=weight_decay, **fast)
    if capturable:
        for group in optimizer.param_groups:
            group["lr"] = _rate(group["params"])
        # Odd batches go uncaptured, of which torch would warn.
        optimizer._warned_capturable_if_run_uncaptured = True
    complete(optimizer)
    return optimizer


def _rate(parameters: list[nn.Parameter]) -> torch.Tensor:
    """A learning rate that lies where the parameters do; CUDA's kernels take it in single precision."""
    device = parameters[0].device
    return torch.zeros((), device=device, dtype=torch.float32 if device.type == "cuda" else torch.float64)


def complete(optimizer: torch.optim.Optimizer) -> None:
    """Give fused SGD all its momenta, as zeros: it takes either all of a group's or none."""
    for group in optimizer.param_groups:
        if isinstance(optimizer, torch.optim.SGD) and group.get("fused") and group["momentum"]:
            for parameter in group["params"]:
                own = optimizer.state[parameter]
                if own.get("momentum_buffer") is None:
                    own["momentum_buffer"] = torch.zeros_like(parameter)


def plain_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The optimiser's state dict with learning rates as numbers, whatever it computes with."""
    state: dict[str, Any] = optimizer.state_dict()
    groups = [group | {"lr": _number(group["lr"])} for group in state["param_groups"]]
    return state | {"param_groups": groups}


def adopt(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Load what `plain_state` gave; how this process computes updates stays as it is."""
    own = [{name: group[name] for name in OWN if name in group} for group in optimizer.param_groups]
    rates = [group["lr"] for group in optimizer.param_groups]
    groups = [group | kept for group, kept in zip(saved["param_groups"], own, strict=False)]
    optimizer.load_state_dict(saved | {"param_groups": groups})
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        if isinstance(rate, torch.Tensor):
            group["lr"] = rate.fill_(_number(group["lr"]))


def _number(rate: Any) -> float:
    return float(rate)
