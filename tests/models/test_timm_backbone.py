"""timm's networks behind the contract; nothing is downloaded."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from lshfm.errors import InputError
from lshfm.models.freeze import apply_freeze
from lshfm.models.sizes import check_size
from lshfm.models.timm_backbone import timm_classifier
from lshfm.models.weights import load_weights


def test_without_timm_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=r"pip install 'lshfm\[timm\]'"):
        timm_classifier("resnet18", 3)


@pytest.fixture
def timm() -> Any:
    return pytest.importorskip("timm")


@pytest.mark.usefixtures("timm")
class TestContract:
    @pytest.mark.parametrize("arch", ["test_resnet", "test_efficientnet", "test_convnext", "test_vit"])
    def test_logits_are_timms_and_the_classifiers(self, arch: str) -> None:
        torch.manual_seed(0)
        model = timm_classifier(arch, 7).eval()
        images = torch.randn(2, 3, 160, 160)
        with torch.no_grad():
            feature, logits = model(images)
            assert torch.equal(logits, model.network(images))
            assert torch.equal(logits, model.classifier(feature))
        assert feature.shape == (2, model.num_features)
        assert logits.shape == (2, 7)

    @pytest.mark.parametrize(
        ("pool", "expected"),
        [
            ("GAP", lambda m: m.mean((2, 3))),
            ("GMP", lambda m: m.amax((2, 3))),
            ("GWP", lambda m: (m.mean((2, 3)) + m.amax((2, 3))) / 2),
        ],
    )
    def test_pooling(self, pool: str, expected: Any) -> None:
        model = timm_classifier("test_resnet", 7, pool=pool).eval()
        images = torch.randn(2, 3, 64, 64)
        with torch.no_grad():
            features = model.network.forward_features(images)
            torch.testing.assert_close(model(images)[0], expected(features))

    def test_only_the_classifier_learns_when_the_rest_is_frozen(self) -> None:
        model = timm_classifier("test_resnet", 7)
        apply_freeze(model, ["backbone"])
        assert {n for n, p in model.named_parameters() if p.requires_grad} == {
            "network.fc.weight",
            "network.fc.bias",
        }

    def test_size_that_does_not_fit(self) -> None:
        with pytest.raises(InputError, match=r"dataset.size=448 does not fit vit_tiny.*: .* is 224"):
            check_size(timm_classifier("vit_tiny_patch16_224", 7), 448)


@pytest.mark.usefixtures("timm")
class TestRefusals:
    def test_unknown_network_names_the_nearest(self) -> None:
        with pytest.raises(InputError, match=r"model.arch=resnet26_d is no network of timm .*resnet26d"):
            timm_classifier("resnet26_d", 7)

    def test_hub_addresses_are_not_followed(self) -> None:
        with pytest.raises(InputError, match="is no network of timm"):
            timm_classifier("hf-hub:timm/resnet18", 7)

    @pytest.mark.parametrize("arch", ["deit_tiny_distilled_patch16_224", "levit_128s", "resnetv2_18"])
    def test_other_endings(self, arch: str) -> None:
        with (
            torch.device("meta"),
            pytest.raises(InputError, match=f"{arch} does not end in one linear layer"),
        ):
            timm_classifier(arch, 7)

    def test_auxiliary_heads(self) -> None:
        with torch.device("meta"), pytest.raises(InputError, match="does not end in one linear layer"):
            timm_classifier("volo_d1_224", 7)

    @pytest.mark.parametrize("pool", ["GAP", "GMP"])
    def test_transformers_keep_their_pooling(self, pool: str) -> None:
        with pytest.raises(InputError, match=f"no convolutional pooling: leave out model.pool={pool}"):
            timm_classifier("test_vit", 7, pool=pool)

    def test_unknown_pooling(self) -> None:
        with pytest.raises(InputError, match=r"model.pool=avg is unknown; choices: GAP, GMP, GWP"):
            timm_classifier("test_resnet", 7, pool="avg")

    def test_weights_that_cannot_be_fetched(self, timm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        def offline(*_: object, **__: object) -> None:
            raise OSError("no connection")

        monkeypatch.setattr(timm, "create_model", offline)
        with pytest.raises(InputError, match=r"timm cannot build model.arch=test_resnet with .*: no connection"):
            timm_classifier("test_resnet", 7, pretrained=True)


@pytest.mark.usefixtures("timm")
class TestWeights:
    def test_timms_own_state_dict(self, timm: Any, tmp_path: Path) -> None:
        source = timm.create_model("test_resnet", num_classes=1000)
        torch.save(source.state_dict(), tmp_path / "w.pth")
        model = timm_classifier("test_resnet", 7)
        loaded = load_weights(model, tmp_path / "w.pth")
        assert (loaded.kind, loaded.dropped, loaded.missing) == (
            "plain",
            ["classifier (1000 classes)"],
            ["classifier"],
        )
        assert loaded.taken == len(source.state_dict()) - 2
        body = {f"network.{name}": tensor for name, tensor in source.state_dict().items() if name[:3] != "fc."}
        assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in body.items())

    def test_our_own_state_dict(self, tmp_path: Path) -> None:
        source = timm_classifier("test_resnet", 7)
        torch.save({"format": "lshfm", "model": source.state_dict()}, tmp_path / "w.ckpt")
        model = timm_classifier("test_resnet", 7)
        loaded = load_weights(model, tmp_path / "w.ckpt")
        assert (loaded.kind, loaded.dropped, loaded.missing) == ("lshfm", [], [])
        assert all(
            torch.equal(a, b) for a, b in zip(model.state_dict().values(), source.state_dict().values(), strict=True)
        )

    def test_another_network(self, tmp_path: Path) -> None:
        torch.save(timm_classifier("test_vit", 7).state_dict(), tmp_path / "w.pth")
        with pytest.raises(InputError, match="these are not weights of test_resnet"):
            load_weights(timm_classifier("test_resnet", 7), tmp_path / "w.pth")
