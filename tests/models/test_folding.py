"""Layers multiplied into their neighbours do the same."""

import pytest
import torch
from torch import nn

from lshfm.models.cifar import cifar_classifier
from lshfm.models.folding import fold_batch_norm, fold_projection
from lshfm.models.timm_backbone import timm_classifier
from tests.samples.narrow import Narrow

IMAGES = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def timm(**settings: int) -> nn.Module:
    pytest.importorskip("timm")
    return timm_classifier("resnet18", 5, **settings)


@pytest.mark.parametrize("network", [lambda: cifar_classifier("resnet8", 5, projection=7), lambda: timm(projection=7)])
def test_a_projection_is_folded_into_the_classifier(network) -> None:  # type: ignore[no-untyped-def]
    whole = network().eval()
    folded = fold_projection(whole)
    with torch.no_grad():
        (feature, logits), (raw, others) = whole(IMAGES), folded(IMAGES)
        assert torch.equal(raw, whole.raw_feature(IMAGES))
    assert torch.allclose(logits, others, atol=1e-5)
    assert feature.shape[1] == 7
    assert (folded.num_features, folded.projection) == (raw.shape[1], None)
    assert whole.projection is not None  # which stays as it was
    assert not any("projection" in name for name in folded.state_dict())


def test_what_cannot_be_folded_stays() -> None:
    plain, own = cifar_classifier("resnet8", 5).eval(), Narrow(5, 8, projection=4).eval()
    for network in (plain, own):
        with torch.no_grad():
            assert torch.equal(fold_projection(network)(IMAGES)[1], network(IMAGES)[1])


def test_batch_norm_is_folded_into_convolutions() -> None:
    network = cifar_classifier("resnet8", 5)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    network.eval()
    folded = fold_batch_norm(network)
    assert folded is not None
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    with torch.no_grad():
        assert torch.allclose(folded(IMAGES)[1], network(IMAGES)[1], atol=1e-4)

    class Branching(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images if images.sum() > 0 else -images  # what torch.fx cannot follow

    assert fold_batch_norm(Branching()) is None
