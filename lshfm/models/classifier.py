"""The contract every network of the project satisfies: images in, (feature, logits) out.

`model(images) -> (feature, logits)`, with the feature's width as `num_features`. A network that wants to be a
student with a projection has two attributes more: `raw_feature(images)`, all that comes before the projection,
and `projection`, a module from there to the feature, or None. One whose maps can be mimicked has
`maps(images) -> (maps, (feature, logits))`: maps (B, C_i, h_i, w_i) of its stages and, of the same pass, the outputs.
"""

from collections.abc import Iterator

from torch import Tensor, nn

from lshfm.checks import positive
from lshfm.errors import InputError, parameter
from lshfm.models.pooling import pooling


class Classifier(nn.Module):
    """backbone -> pool -> [projection] -> feature -> [dropout] -> classifier -> logits.

    The feature is what a student mimics (arXiv 2011.01424, section 3): after the linear projection where
    there is one, before the dropout. `forward` is `head(raw_feature(images))`; the two are public, so that a
    frozen backbone can run without gradients.

    `backbone` maps (B, 3, S, S) to (B, raw_features, h, w). `linear_std` draws projection and classifier from
    a normal distribution of that deviation with zero biases; None keeps PyTorch's default for linear layers. `stages`
    names the modules of a sequential backbone after which `maps` takes its maps.
    Raises InputError for an unknown pooling and for widths or class counts that are no positive numbers.
    """

    projection: nn.Linear | None

    def __init__(
        self,
        arch: str,
        backbone: nn.Module,
        raw_features: int,
        num_classes: int,
        *,
        pool: str = "GAP",
        projection: int | None = None,
        dropout: float = 0.0,
        linear_std: float | None = None,
        stages: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.arch = arch
        self.raw_features = raw_features
        self.num_features = raw_features if projection is None else positive(parameter("projection"), projection)
        self.backbone = backbone
        self.stages = stages
        self.pool = pooling(pool)
        self.projection = None if projection is None else nn.Linear(raw_features, self.num_features)
        # Dropout(0) would still draw random numbers.
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.classifier = nn.Linear(self.num_features, positive("num_classes", num_classes))
        if linear_std is not None:
            for head in self.heads.values():
                nn.init.normal_(head.weight, std=linear_std)
                nn.init.zeros_(head.bias)

    @property
    def heads(self) -> dict[str, nn.Linear]:
        """The layers that learn outside the backbone, by name, in the order data meets them."""
        projection = {} if self.projection is None else {"projection": self.projection}
        return {**projection, "classifier": self.classifier}

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) -> feature (B, num_features), logits (B, C)."""
        return self.head(self.raw_feature(images))

    def raw_feature(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, raw_features), the pooled map."""
        raw: Tensor = self.pool(self.backbone(images))
        return raw

    def head(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """(B, raw_features) -> feature (B, num_features), logits (B, C)."""
        feature = raw if self.projection is None else self.projection(raw)
        return feature, self.classifier(self.dropout(feature))

    def maps(self, images: Tensor) -> tuple[list[Tensor], tuple[Tensor, Tensor]]:
        """(B, 3, S, S) -> maps (B, C_i, h_i, w_i) behind each stage, and what `forward` gives.

        Raises InputError for a network without stages.
        """
        if not self.stages:
            raise InputError(f"{self.arch} names no stages whose maps could be mimicked: take another loss or network")
        found, last = [], images
        for name, layer in _in_order(self.backbone, self.stages):
            last = layer(last)
            if name in self.stages:
                found.append(last)
        return found, self.head(self.pool(last))


def _in_order(module: nn.Module, stages: tuple[str, ...], prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The layers of a sequential module by name, those that hold stages taken apart."""
    for name, layer in module.named_children():
        whole = f"{prefix}{name}"
        if any(stage.startswith(f"{whole}.") for stage in stages):
            yield from _in_order(layer, stages, f"{whole}.")
        else:
            yield whole, layer
