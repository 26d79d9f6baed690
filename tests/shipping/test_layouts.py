"""Other libraries' names for the weights of the same network."""

import pytest
import torch
from torch import nn

from lshfm.models.backbones import torchvision_classifier
from lshfm.models.timm_backbone import timm_classifier
from lshfm.shipping.names import arch_there, other_names, own_names, renamed, why_not


def varied(network: nn.Module) -> nn.Module:
    """The network with statistics and scales that no two layers share, in eval mode."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)  # type: ignore[arg-type]
    return network.eval()


@pytest.mark.parametrize("pool", ["GAP", "GWP"])
def test_mobilenet_in_timms_names(pool: str) -> None:
    """It loads strictly into timm's network, which gives the same logits: paddings and BatchNorm are alike."""
    timm = pytest.importorskip("timm")
    network = varied(torchvision_classifier("mobilenet_v2", 5, pool=pool))
    assert why_not("timm", network) is None
    kind = {"GAP": "avg", "GWP": "avgmax"}[pool]
    theirs = timm.create_model(arch_there("timm", network), num_classes=5, global_pool=kind)
    state = renamed(network.state_dict(), other_names("timm", network))
    theirs.load_state_dict(state, strict=True)
    images = torch.randn(2, 3, 65, 65)
    with torch.inference_mode():
        assert torch.allclose(theirs.eval()(images), network(images)[1], rtol=1e-4, atol=1e-5)
    assert own_names("timm", network, state).keys() == network.state_dict().keys()


def test_timms_own_networks_keep_timms_names() -> None:
    timm = pytest.importorskip("timm")
    network = varied(timm_classifier("mobilenetv3_small_050", 5))
    theirs = timm.create_model("mobilenetv3_small_050", num_classes=5)
    theirs.load_state_dict(renamed(network.state_dict(), other_names("timm", network)), strict=True)
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(theirs.eval()(images), network(images)[1])
