"""Weights from files of every kind: all of the backbone or an error, heads where they fit."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

from lshfm.errors import InputError
from lshfm.models.backbones import torchvision_classifier
from lshfm.models.cifar import cifar_classifier
from lshfm.models.classifier import Classifier
from lshfm.models.weights import load_weights, published_network

State = dict[str, Tensor]


def save(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def agree(module: nn.Module, other: nn.Module) -> bool:
    mine, theirs = module.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def published(model: Classifier, arch: str, classifier: str) -> dict[str, Any]:
    """A checkpoint as the published code writes it, from one of our networks."""
    names = {"backbone": "", "projection": "feat_fc.", "classifier": f"{classifier}."}
    state = {}
    for name, tensor in model.state_dict().items():
        part, _, rest = name.partition(".")
        state[f"module.{names[part]}{rest}"] = tensor
    return {
        "state_dict": state,
        "arch": arch,
        "epoch": 60,
        "global_step": 18780,
        "best_prec1": np.float64(91.25),
        "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(2)}}, "param_groups": [{"lr": 0.01}]},
    }


class TestTorchvision:
    def test_real_imagenet_weights(self, test_data: Path) -> None:
        path = test_data / "weights" / "mobilenet_v2-imagenet.pth"
        model = torchvision_classifier("mobilenet_v2", 20)
        loaded = load_weights(model, path)
        assert (loaded.kind, loaded.taken) == ("torchvision", 312)
        assert (loaded.dropped, loaded.missing) == (["classifier (1000 classes)"], ["classifier"])
        assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert loaded.describe() == (
            "taken 312 tensors from mobilenet_v2-imagenet.pth (torchvision); "
            "dropped classifier (1000 classes); missing: classifier (starts anew)"
        )
        theirs = torchvision.models.mobilenet_v2(weights=None)
        theirs.load_state_dict(torch.load(path, weights_only=True))
        assert agree(model.backbone.features, theirs.features)

    def test_whole_network_gives_the_same_logits(self, test_data: Path) -> None:
        path = test_data / "weights" / "mobilenet_v2-imagenet.pth"
        model = torchvision_classifier("mobilenet_v2", 1000).eval()
        loaded = load_weights(model, path)
        assert (loaded.taken, loaded.dropped, loaded.missing) == (314, [], [])
        theirs = torchvision.models.mobilenet_v2(weights=None).eval()
        theirs.load_state_dict(torch.load(path, weights_only=True))
        images = torch.randn(1, 3, 64, 64)
        with torch.no_grad():
            assert torch.equal(model(images)[1], theirs(images))

    @pytest.mark.parametrize("zipped", [True, False])
    def test_old_files_without_batch_counts(self, tmp_path: Path, zipped: bool) -> None:
        state = torchvision.models.resnet18(weights=None).state_dict()
        state = {name: tensor for name, tensor in state.items() if "num_batches_tracked" not in name}
        torch.save(state, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
        model = torchvision_classifier("resnet18", 20, projection=64)
        loaded = load_weights(model, tmp_path / "w.pth")
        assert (loaded.taken, loaded.missing) == (100, ["projection", "classifier"])
        assert torch.equal(model.backbone.layer4[1].conv2.weight, state["layer4.1.conv2.weight"])

    def test_wide_vgg_classifier_is_dropped(self, tmp_path: Path) -> None:
        source = torchvision_classifier("vgg16_bn", 20)
        state = source.backbone.state_dict()
        for i, (rows, columns) in {0: (40, 70), 3: (40, 40), 6: (1000, 40)}.items():
            state |= {
                f"classifier.{i}.weight": torch.zeros(rows, columns),
                f"classifier.{i}.bias": torch.zeros(rows),
            }
        model = torchvision_classifier("vgg16_bn", 20)
        loaded = load_weights(model, save(tmp_path / "w.pth", state))
        assert (loaded.dropped, loaded.missing) == (["classifier (1000 classes)"], ["classifier"])
        assert agree(model.backbone, source.backbone)


class TestPublished:
    @pytest.mark.parametrize(
        ("arch", "pool", "written", "classifier"),
        [
            ("resnet18", "GAP", "resnet18", "fc"),
            ("mobilenet_v2", "GAP", "mobilenet_v2", "classifier"),
            ("mobilenet_v2", "GWP", "mobilenet_v2_GWP", "classifier"),
            ("vgg16_bn", "GAP", "vgg16bn", "fc"),
        ],
    )
    def test_everything_is_taken(self, tmp_path: Path, arch: str, pool: str, written: str, classifier: str) -> None:
        source, model = (torchvision_classifier(arch, 20, pool=pool, projection=96) for _ in range(2))
        path = save(tmp_path / "w.ckpt", published(source, written, classifier))
        loaded = load_weights(model, path)
        assert (loaded.kind, loaded.taken) == ("published", len(source.state_dict()))
        assert (loaded.dropped, loaded.missing) == ([], [])
        assert agree(model, source)

    def test_the_file_tells_its_network_by_its_entry_arch_alone(self, tmp_path: Path) -> None:
        file = published(torchvision_classifier("resnet18", 20, projection=96), "resnet18_GMP", "fc")
        del file["global_step"]
        path = save(tmp_path / "w.ckpt", file)
        assert published_network(path) == ("resnet18", {"pool": "GMP", "projection": 96})
        assert published_network(save(tmp_path / "o.ckpt", file | {"arch": "theirs"})) is None  # another tool's file
        with pytest.raises(InputError, match="holds a network called 'theirs', which is none of resnet18"):
            published_network(save(tmp_path / "p.ckpt", file | {"arch": "theirs", "global_step": 1}))

    @pytest.mark.parametrize(
        ("written", "said"),
        [
            ("resnet34", "holds resnet34 with pooling GAP"),
            ("resnet18_GMP", "holds resnet18 with pooling GMP"),
            ("vgg19bn", "choose arch=vgg19_bn pool=GAP"),
            ("", "the network is resnet18 with GAP"),
        ],
    )
    def test_another_network_or_pooling(self, tmp_path: Path, written: str, said: str) -> None:
        model = torchvision_classifier("resnet18", 20)
        path = save(tmp_path / "w.ckpt", published(model, written, "fc"))
        with pytest.raises(InputError, match=said):
            load_weights(model, path)

    def test_other_classes_keep_the_projection(self, tmp_path: Path) -> None:
        source = torchvision_classifier("resnet18", 80, projection=96)
        model = torchvision_classifier("resnet18", 20, projection=96)
        loaded = load_weights(model, save(tmp_path / "w.ckpt", published(source, "resnet18", "fc")))
        assert (loaded.dropped, loaded.missing) == (["classifier (80 classes)"], ["classifier"])
        assert agree(model.heads["projection"], source.heads["projection"])

    def test_projection_of_another_width_takes_its_classifier_along(self, tmp_path: Path) -> None:
        source = torchvision_classifier("resnet18", 20, projection=512)
        model = torchvision_classifier("resnet18", 20)
        before = model.classifier.weight.clone()
        loaded = load_weights(model, save(tmp_path / "w.ckpt", published(source, "resnet18", "fc")))
        assert loaded.dropped == ["projection (512 wide)", "classifier (20 classes)"]
        assert loaded.missing == ["classifier"]
        assert torch.equal(model.classifier.weight, before)

    def test_classifier_of_bare_features_is_not_put_behind_a_projection(self, tmp_path: Path) -> None:
        source = torchvision_classifier("resnet18", 20)
        model = torchvision_classifier("resnet18", 20, projection=512)
        loaded = load_weights(model, save(tmp_path / "w.ckpt", published(source, "resnet18", "fc")))
        assert loaded.dropped == ["classifier (20 classes)"]
        assert loaded.missing == ["projection", "classifier"]


class TestOurs:
    CLASSES = ("cat", "dog", "owl")

    def checkpoint(self, path: Path) -> tuple[Classifier, Path]:
        source = cifar_classifier("resnet8", 3, projection=24)
        return source, save(path / "w.ckpt", {"format": "lshfm", "model": source.state_dict(), "classes": self.CLASSES})

    @pytest.mark.parametrize("classes", [CLASSES, list(CLASSES), None])
    def test_everything_is_taken(self, tmp_path: Path, classes: Any) -> None:
        source, path = self.checkpoint(tmp_path)
        model = cifar_classifier("resnet8", 3, projection=24)
        loaded = load_weights(model, path, classes)
        assert (loaded.kind, loaded.dropped, loaded.missing) == ("lshfm", [], [])
        assert loaded.describe() == f"taken {len(source.state_dict())} tensors from w.ckpt (lshfm)"
        assert agree(model, source)

    @pytest.mark.parametrize("classes", [("dog", "cat", "owl"), ("cat", "dog", "cow")])
    def test_other_class_names_drop_the_classifier(self, tmp_path: Path, classes: tuple[str, ...]) -> None:
        source, path = self.checkpoint(tmp_path)
        model = cifar_classifier("resnet8", 3, projection=24)
        loaded = load_weights(model, path, classes)
        assert (loaded.dropped, loaded.missing) == (["classifier (3 classes)"], ["classifier"])
        assert agree(model.heads["projection"], source.heads["projection"])
        assert not torch.equal(model.classifier.weight, source.classifier.weight)

    @pytest.mark.parametrize("bare", [True, False])
    def test_plain_state_dict_of_ours(self, tmp_path: Path, bare: bool) -> None:
        source, model = (cifar_classifier("resnet8", 3, projection=24) for _ in range(2))
        state = {f"module.{name}": tensor for name, tensor in source.state_dict().items()}
        loaded = load_weights(model, save(tmp_path / "w.pth", state if bare else {"state_dict": state, "epoch": 2}))
        assert (loaded.kind, loaded.dropped, loaded.missing) == ("plain", [], [])
        assert agree(model, source)


class Own(nn.Module):
    """A user's network."""

    def __init__(self, num_classes: int, width: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3)
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        feature = self.stem(images).mean((2, 3))
        return feature, self.classifier(feature)


class Student(Own):
    """A user's network with a projection."""

    def __init__(self, num_classes: int, projection: int | None = None) -> None:
        super().__init__(num_classes)
        self.projection = None if projection is None else nn.Linear(4, projection)
        self.classifier = nn.Linear(projection or 4, num_classes)


class TestUsersNetworks:
    def test_everything_is_taken(self, tmp_path: Path) -> None:
        source, model = Own(3), Own(3)
        loaded = load_weights(model, save(tmp_path / "w.pth", source.state_dict()))
        assert (loaded.kind, loaded.taken, loaded.dropped, loaded.missing) == ("plain", 4, [], [])
        assert agree(model, source)

    def test_classifier_of_another_shape_is_dropped(self, tmp_path: Path) -> None:
        source, model = Own(5), Own(3)
        loaded = load_weights(model, save(tmp_path / "w.pth", {"state_dict": source.state_dict()}))
        assert (loaded.taken, loaded.dropped, loaded.missing) == (
            2,
            ["classifier (5 classes)"],
            ["classifier"],
        )
        assert agree(model.stem, source.stem)

    @pytest.mark.parametrize(
        ("projection", "taken", "dropped", "missing"),
        [
            (6, 6, [], []),
            (None, 2, ["projection (6 wide)", "classifier (3 classes)"], ["classifier"]),
            (5, 2, ["projection (6 wide)", "classifier (3 classes)"], ["projection", "classifier"]),
        ],
    )
    def test_a_projection_is_taken_where_it_fits(
        self, tmp_path: Path, projection: int | None, taken: int, dropped: list[str], missing: list[str]
    ) -> None:
        model = Student(3, projection)
        loaded = load_weights(model, save(tmp_path / "w.pth", Student(3, 6).state_dict()))
        assert (loaded.taken, loaded.dropped, loaded.missing) == (taken, dropped, missing)

    def test_a_network_starts_a_student_with_a_projection(self, tmp_path: Path) -> None:
        source, model = Own(3), Student(3, 4)  # as wide as the bare feature, so that the classifier would fit
        loaded = load_weights(model, save(tmp_path / "w.pth", source.state_dict()))
        assert (loaded.dropped, loaded.missing) == (["classifier (3 classes)"], ["projection", "classifier"])
        assert agree(model.stem, source.stem)

    def test_anything_else_must_agree(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"not weights of Own\n  stem\.weight: \(6, 3, 3, 3\) in the file, \(4, 3"):
            load_weights(Own(3), save(tmp_path / "w.pth", Own(3, width=6).state_dict()))


class TestRefusals:
    def fails(self, model: nn.Module, path: Path, message: str) -> None:
        """Refused with this message, the network untouched."""
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        with pytest.raises(InputError, match=message):
            load_weights(model, path)
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())

    def test_another_network_is_recognised(self, tmp_path: Path) -> None:
        path = save(tmp_path / "w.pth", torchvision.models.resnet34(weights=None).state_dict())
        model = torchvision_classifier("resnet18", 20)
        self.fails(model, path, r"w\.pth: these are not weights of resnet18 but of resnet34\n  backbone\.layer1\.2\.")

    def test_first_mismatches_and_how_many_more(self, tmp_path: Path) -> None:
        path = save(tmp_path / "w.pth", cifar_classifier("resnet20", 3).state_dict())
        with pytest.raises(InputError) as caught:
            load_weights(cifar_classifier("resnet8", 3), path)
        first, *faults, last = str(caught.value).splitlines()
        assert first.endswith("these are not weights of resnet8 but of resnet20")
        assert faults[0] == "  backbone.layer1.1.conv1.weight: not in the network"
        assert len(faults) == 5
        # Two more blocks in each of three stages, twelve tensors a block.
        assert last == f"  and {2 * 3 * 12 - 5} more"

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda s: s.pop("backbone.bn1.running_var"), r"bn1\.running_var: missing in the file"),
            (lambda s: s.update({"backbone.extra": torch.zeros(1)}), r"backbone\.extra: not in the network"),
            (lambda s: s.update({"extra": torch.zeros(1)}), r"  extra: not in the network"),
            (
                lambda s: s.update({"backbone.bn1.bias": torch.zeros(3)}),
                r"backbone\.bn1\.bias: \(3,\) in the file, \(16,\) in the network",
            ),
            (
                lambda s: s.update({"backbone.conv1.weight": s["backbone.conv1.weight"].to(torch.int8)}),
                r"backbone\.conv1\.weight: torch\.int8 in the file",
            ),
            (
                lambda s: s["backbone.conv1.weight"].view(-1)[5].fill_(float("nan")),
                r"backbone\.conv1\.weight holds values that are not finite",
            ),
            (
                lambda s: s["classifier.bias"].fill_(float("inf")),
                r"classifier\.bias holds values that are not finite",
            ),
        ],
    )
    def test_one_fault_is_enough(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any, message: str
    ) -> None:
        # Comparing with every known network takes a second; other tests see it.
        monkeypatch.setattr("lshfm.models.weights.recognise", lambda _: None)
        state = cifar_classifier("resnet8", 3).state_dict()
        change(state)
        path = save(tmp_path / "w.pth", {"format": "lshfm", "model": state, "classes": ["a", "b", "c"]})
        self.fails(cifar_classifier("resnet8", 3), path, message)

    @pytest.mark.parametrize(
        ("content", "found"),
        [
            ({}, "nothing"),
            ({"epoch": 3, "weights": [1]}, "epoch, weights"),
            ({"state_dict": 5}, "int"),
            ({"format": "lshfm", "classes": 3}, "NoneType"),
            ({"state_dict": {"a": torch.zeros(1), "b": 2}}, "a, b"),
        ],
    )
    def test_no_state_dict(self, tmp_path: Path, content: Any, found: str) -> None:
        with pytest.raises(InputError, match=rf"w\.pth: holds no state dict \(found: {found}\)"):
            load_weights(cifar_classifier("resnet8", 3), save(tmp_path / "w.pth", content))

    def test_half_precision_is_fine(self, tmp_path: Path) -> None:
        source, model = cifar_classifier("resnet8", 3), cifar_classifier("resnet8", 3)
        expected = source.classifier.weight.half().float()
        load_weights(model, save(tmp_path / "w.pth", source.half().state_dict()))
        assert model.classifier.weight.dtype == torch.float32
        assert torch.equal(model.classifier.weight, expected)
