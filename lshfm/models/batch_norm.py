"""BatchNorm with statistics over groups of a rank's images, or over those of all ranks, instead of a rank's own."""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lshfm.errors import InputError


class GroupedBatchNorm(nn.BatchNorm2d):
    """BatchNorm over groups of `group_size` consecutive images; the first group alone updates the running statistics.

    As in the published code, where each group lay on a GPU of its own.
    """

    group_size: int

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, h, w) to the same; group_size divides B in training."""
        if not self.training:
            return super().forward(images)
        assert len(images) % self.group_size == 0
        first, *others = images.tensor_split(len(images) // self.group_size)
        return torch.cat([super().forward(first), *(self._normalise(group) for group in others)])

    def _normalise(self, group: Tensor) -> Tensor:
        return F.batch_norm(group, None, None, self.weight, self.bias, training=True, eps=self.eps)


class SharedBatchNorm(nn.BatchNorm2d):
    """BatchNorm over the images of all ranks, where torch's SyncBatchNorm does not run: on a CPU."""

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, h, w) to the same; every rank has as many images."""
        if not self.training:
            return super().forward(images)
        values = images.float()
        mean = _Mean.apply(values.mean((0, 2, 3)))
        centred = values - mean.view(-1, 1, 1)
        variance = _Mean.apply(centred.square().mean((0, 2, 3)))
        self._keep(mean.detach(), variance.detach(), values.numel() // len(mean) * dist.get_world_size())
        normalised = centred * (variance + self.eps).rsqrt().view(-1, 1, 1)
        if self.affine:
            normalised = normalised * self.weight.view(-1, 1, 1) + self.bias.view(-1, 1, 1)
        result: Tensor = normalised.to(images.dtype)
        return result

    @torch.no_grad()
    def _keep(self, mean: Tensor, variance: Tensor, count: int) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * (count / (count - 1)), share)


class _Mean(torch.autograd.Function):
    """Mean over the ranks, forwards and backwards."""

    @staticmethod
    def forward(_context: object, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total / dist.get_world_size()

    @staticmethod
    def backward(_context: object, gradient: Tensor) -> Tensor:
        # Each rank's loss is averaged with the others' later on, so the sum of their gradients is divided as well.
        total = gradient.clone()
        dist.all_reduce(total)
        return total / dist.get_world_size()


def set_statistics(network: nn.Module, *, group_size: int | None, shared: bool, device: torch.device) -> nn.Module:
    """The network with its BatchNorm layers replaced, which share all tensors; unchanged where neither is asked for.

    group_size: images a group. shared: statistics over the images of all ranks. Raises InputError for both at once,
    and for a network without BatchNorm layers or with some that cannot be replaced.
    """
    if group_size and shared:
        raise InputError("sync_bn=true is BatchNorm over the images of all ranks, bn_group_size over few: not both")
    if not group_size and not (shared and dist.is_initialized()):
        return network
    key = "bn_group_size" if group_size else "sync_bn"
    layers = {name: layer for name, layer in network.named_modules() if isinstance(layer, _BatchNorm)}
    if not layers:
        raise InputError(f"{key}: the network has no BatchNorm layers")
    misfit = next((layer for layer in layers.values() if type(layer) is not nn.BatchNorm2d), None)
    if misfit is not None:
        raise InputError(f"{key}: the network's {type(misfit).__name__} layers cannot be replaced, only BatchNorm2d")
    if shared and device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-any-return]
    for name, layer in layers.items():
        parent = network.get_submodule(name.rpartition(".")[0])
        setattr(parent, name.rpartition(".")[2], _replaced(layer, group_size))
    return network


def _replaced(layer: _BatchNorm, group_size: int | None) -> nn.BatchNorm2d:
    new = GroupedBatchNorm if group_size else SharedBatchNorm
    replacement = new(layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats)
    for name, tensor in {**dict(layer.named_parameters()), **dict(layer.named_buffers())}.items():
        setattr(replacement, name, tensor)
    if isinstance(replacement, GroupedBatchNorm) and group_size:
        replacement.group_size = group_size
    return replacement.train(layer.training)
