"""Networks of timm that end in one linear layer, behind the project's contract (the extra `timm`)."""

from types import ModuleType
from typing import Any

from torch import Tensor, nn

from lshfm.checks import pick, positive
from lshfm.errors import InputError, nearest, parameter

POOL_TYPES = {"GAP": "avg", "GMP": "max", "GWP": "avgmax"}


class TimmClassifier(nn.Module):
    """A network of timm split at its last linear layer: the feature is what that layer is given.

    With a `projection`, a linear layer to that width comes in between, its output is the feature, and the last
    layer is made anew behind it; `network` alone does not run then.
    Networks are built without dropout (timm's default), which would come before the feature.
    Raises InputError unless the network ends in exactly one linear layer, and for a `projection` that is no width.
    """

    network: Any
    projection: nn.Linear | None

    def __init__(self, arch: str, network: nn.Module, projection: int | None = None) -> None:
        super().__init__()
        self.arch = arch
        self.network = network
        # Networks with an auxiliary head (VOLO) mix its logits into their own.
        one_head = getattr(network, "aux_head", None) is None
        if not (one_head and isinstance(self.network.get_classifier(), nn.Linear)):
            raise InputError(
                f"{parameter('arch')}={arch} does not end in one linear layer (several heads, a distillation head "
                "or a convolution), so its feature is not defined: choose another network"
            )
        self.raw_features: int = self.classifier.in_features
        self.num_features = self.raw_features if projection is None else positive(parameter("projection"), projection)
        self.projection = None if projection is None else nn.Linear(self.raw_features, self.num_features)
        if self.projection is not None:
            self._renew_classifier()

    def _renew_classifier(self) -> None:
        """Replace the last layer where timm has it, so that its weights keep their names."""
        name = next(name for name, module in self.network.named_modules() if module is self.classifier)
        self.network.set_submodule(name, nn.Linear(self.num_features, self.classifier.out_features))

    @property
    def classifier(self) -> nn.Linear:
        """The last layer; a property, so that its weights have one name only."""
        layer: nn.Linear = self.network.get_classifier()
        return layer

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) -> feature (B, num_features), logits (B, C)."""
        return self.head(self.raw_feature(images))

    def raw_feature(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, raw_features), what timm would give its last layer."""
        raw: Tensor = self.network.forward_head(self.network.forward_features(images), pre_logits=True)
        return raw

    def head(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """(B, raw_features) -> feature (B, num_features), logits (B, C)."""
        feature = raw if self.projection is None else self.projection(raw)
        return feature, self.classifier(feature)


def _import_timm(arch: str) -> ModuleType:
    try:
        import timm
    except ImportError as error:
        raise InputError(f"{parameter('arch')}={arch} needs timm ({error}): pip install 'lshfm[timm]'") from error
    return timm


def _pools_as(network: nn.Module, pool_type: str) -> bool:
    from timm.layers.adaptive_avgmax_pool import SelectAdaptivePool2d

    return any(isinstance(m, SelectAdaptivePool2d) and m.pool_type == pool_type for m in network.modules())


def _create(arch: str, **settings: Any) -> nn.Module:
    try:
        network: nn.Module = _import_timm(arch).create_model(arch, **settings)
    except (OSError, RuntimeError, TypeError, ValueError, AssertionError) as error:
        raise InputError(f"timm cannot build {parameter('arch')}={arch} with {settings}: {error}") from error
    return network


def timm_classifier(
    arch: str, num_classes: int, pool: str | None = None, pretrained: bool = False, projection: int | None = None
) -> TimmClassifier:
    """A network of timm by its name there, such as `resnet26d` or `vit_tiny_patch16_224`.

    `pool` (GAP, GMP, GWP) replaces the pooling of convolutional networks; None keeps the network's own.
    `pretrained` lets timm fetch its weights; otherwise nothing is downloaded. `projection` is the width of a
    linear layer before the last one, None for no such layer; it and the last layer behind it start anew.
    Raises InputError if timm is not installed, for an unknown `arch`, for networks with another ending than
    one linear layer, for a `pool` the network cannot have, for a `projection` that is no width, and if the
    weights cannot be fetched.
    """
    timm = _import_timm(arch)
    if not (isinstance(arch, str) and timm.is_model(arch)):
        raise InputError(f"{parameter('arch')}={arch} is no network of timm{nearest(arch, timm.list_models())}")
    settings: dict[str, Any] = {"num_classes": positive("num_classes", num_classes), "pretrained": pretrained}
    if pool is None:
        return TimmClassifier(arch, _create(arch, **settings), projection)
    pool_type = pick(parameter("pool"), pool, POOL_TYPES)
    network = _create(arch, **settings, global_pool=pool_type)
    if not _pools_as(network, pool_type):
        own, given = f"{parameter('arch')}={arch}", f"{parameter('pool')}={pool}"
        raise InputError(f"{own} has no convolutional pooling: leave out {given}")
    return TimmClassifier(arch, network, projection)
