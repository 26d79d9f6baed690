"""timm's networks behind the contract; nothing is downloaded."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lshfm.errors import InputError
from lshfm.models.freeze import apply_freeze
from lshfm.models.sizes import check_size
from lshfm.models.timm_backbone import TimmClassifier, timm_classifier
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

    def test_only_the_classifier_learns_behind_a_projection_too(self) -> None:
        model = timm_classifier("test_resnet", 7, projection=5)
        apply_freeze(model, ["backbone"])
        assert {n for n, p in model.named_parameters() if p.requires_grad} == {"network.fc.weight", "network.fc.bias"}

    def test_size_that_does_not_fit(self) -> None:
        with pytest.raises(InputError, match=r"^size=448 does not fit vit_tiny.*: .* is 224"):
            check_size(timm_classifier("vit_tiny_patch16_224", 7), 448)


@pytest.mark.usefixtures("timm")
class TestProjection:
    @pytest.mark.parametrize("arch", ["test_resnet", "test_efficientnet", "test_convnext", "test_vit"])
    def test_it_comes_between_timms_feature_and_the_classifier(self, arch: str) -> None:
        plain, model = timm_classifier(arch, 7).eval(), timm_classifier(arch, 7, projection=5).eval()
        model.load_state_dict(plain.state_dict() | {n: t for n, t in model.state_dict().items() if is_head(n, model)})
        images = torch.randn(2, 3, 160, 160)
        with torch.no_grad():
            raw, (feature, logits) = model.raw_feature(images), model(images)
            assert torch.equal(raw, plain(images)[0])
            torch.testing.assert_close(feature, raw @ model.projection.weight.T + model.projection.bias)
            torch.testing.assert_close(logits, feature @ model.classifier.weight.T + model.classifier.bias)
        assert (model.raw_features, model.num_features) == (plain.num_features, 5)
        assert logits.shape == (2, 7)

    @pytest.mark.parametrize("arch", ["test_resnet", "test_efficientnet", "test_convnext", "test_vit"])
    def test_the_classifiers_weights_keep_timms_name(self, arch: str) -> None:
        plain, model = (timm_classifier(arch, 7, projection=width).state_dict() for width in (None, 5))
        assert model.keys() - plain.keys() == {"projection.weight", "projection.bias"}
        assert plain.keys() <= model.keys()

    def test_without_one_the_weights_are_drawn_as_timm_does(self, timm: Any) -> None:
        torch.manual_seed(0)
        source = timm.create_model("test_resnet", num_classes=7)
        torch.manual_seed(0)
        model = timm_classifier("test_resnet", 7)
        assert all(torch.equal(t, model.network.state_dict()[name]) for name, t in source.state_dict().items())
        assert (model.projection, model.raw_features) == (None, model.num_features)

    def test_both_new_layers_start_as_pytorchs(self) -> None:
        model = timm_classifier("test_resnet", 300, projection=400)
        for layer in (model.projection, model.classifier):
            bound = layer.in_features**-0.5
            assert layer.weight.abs().max().item() == pytest.approx(bound, rel=0.01)
            assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)  # uniform
            assert layer.bias.abs().max().item() == pytest.approx(bound, rel=0.1)

    @pytest.mark.parametrize("projection", [0, True, "512"])
    def test_it_must_be_a_width(self, projection: object) -> None:
        with pytest.raises(InputError, match=r"^projection=.* must be a whole number above 0"):
            timm_classifier("test_resnet", 7, projection=projection)

    def test_pooling_goes_with_it(self) -> None:
        model = timm_classifier("test_resnet", 7, pool="GMP", projection=5).eval()
        images = torch.randn(2, 3, 64, 64)
        with torch.no_grad():
            assert torch.equal(model.raw_feature(images), model.network.forward_features(images).amax((2, 3)))


def is_head(name: str, model: TimmClassifier) -> bool:
    layers = [module for module in (model.projection, model.classifier) if module is not None]
    tensors = {id(parameter) for layer in layers for parameter in layer.parameters()}
    return id(dict(model.named_parameters()).get(name)) in tensors


@pytest.mark.usefixtures("timm")
class TestRefusals:
    def test_unknown_network_names_the_nearest(self) -> None:
        with pytest.raises(InputError, match=r"^arch=resnet26_d is no network of timm .*resnet26d"):
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
        with pytest.raises(InputError, match=f"no convolutional pooling: leave out pool={pool}"):
            timm_classifier("test_vit", 7, pool=pool)

    def test_unknown_pooling(self) -> None:
        with pytest.raises(InputError, match=r"^pool=avg is unknown; choices: GAP, GMP, GWP"):
            timm_classifier("test_resnet", 7, pool="avg")

    def test_weights_that_cannot_be_fetched(self, timm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        def offline(*_: object, **__: object) -> None:
            raise OSError("no connection")

        monkeypatch.setattr(timm, "create_model", offline)
        with pytest.raises(InputError, match=r"timm cannot build arch=test_resnet with .*: no connection"):
            timm_classifier("test_resnet", 7, pretrained=True)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


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
        assert same(model.state_dict(), source.state_dict())

    def test_our_own_with_a_projection(self, tmp_path: Path) -> None:
        source, model = (timm_classifier("test_resnet", 7, projection=5) for _ in range(2))
        torch.save({"format": "lshfm", "model": source.state_dict()}, tmp_path / "w.ckpt")
        loaded = load_weights(model, tmp_path / "w.ckpt")
        assert (loaded.taken, loaded.dropped, loaded.missing) == (len(source.state_dict()), [], [])
        assert same(model.state_dict(), source.state_dict())

    @pytest.mark.parametrize("bare", [True, False])
    def test_a_file_without_the_projection(self, tmp_path: Path, bare: bool) -> None:
        source, model = timm_classifier("test_resnet", 7), timm_classifier("test_resnet", 7, projection=5)
        heads = {name: tensor.clone() for name, tensor in model.state_dict().items() if is_head(name, model)}
        torch.save((source.network if bare else source).state_dict(), tmp_path / "w.pth")
        loaded = load_weights(model, tmp_path / "w.pth")
        assert loaded.dropped == ["classifier (7 classes)"]
        assert loaded.missing == ["projection", "classifier"]
        assert len(heads) == 4
        assert same(model.state_dict(), source.state_dict() | heads)

    def test_a_file_with_a_projection_too_many(self, tmp_path: Path) -> None:
        source, model = timm_classifier("test_resnet", 7, projection=5), timm_classifier("test_resnet", 7)
        torch.save(source.state_dict(), tmp_path / "w.pth")
        loaded = load_weights(model, tmp_path / "w.pth")
        assert loaded.dropped == ["projection (5 wide)", "classifier (7 classes)"]
        assert loaded.missing == ["classifier"]

    def test_other_classes_keep_the_projection(self, tmp_path: Path) -> None:
        source, model = (timm_classifier("test_resnet", classes, projection=5) for classes in (7, 3))
        torch.save(source.state_dict(), tmp_path / "w.pth")
        loaded = load_weights(model, tmp_path / "w.pth")
        assert (loaded.dropped, loaded.missing) == (["classifier (7 classes)"], ["classifier"])
        assert same(model.projection.state_dict(), source.projection.state_dict())

    def test_another_network(self, tmp_path: Path) -> None:
        torch.save(timm_classifier("test_vit", 7).state_dict(), tmp_path / "w.pth")
        with pytest.raises(InputError, match="these are not weights of test_resnet"):
            load_weights(timm_classifier("test_resnet", 7), tmp_path / "w.pth")
