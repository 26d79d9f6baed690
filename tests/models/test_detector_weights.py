"""Weights of detectors from torchvision's files, old and new, the published code's, and classifiers'."""

import argparse
import logging
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

from lshfm.errors import InputError
from lshfm.models.detection.build import DETECTORS, detector
from lshfm.models.detection.weights import COCO_ROWS, load_detector

SMALL = "fasterrcnn_mobilenet_v2_fpn"
State = Mapping[str, Tensor]


def made(arch: str, classes: int = 21, seed: int = 0, **settings: object) -> nn.Module:
    torch.manual_seed(seed)
    small = {"fpn_channels": 8} if "_fpn" in arch and "resnet" not in arch else {}
    return detector(arch, classes, **(small | settings))


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def old_names(state: State) -> dict[str, Tensor]:
    """As torchvision 0.8 called them."""
    rules = (
        (r"(inner_blocks|layer_blocks)\.(\d+)\.0\.", r"\1.\2."),
        (r"rpn\.head\.conv\.0\.0\.", "rpn.head.conv."),
        (r"_head\.conv\.(\d)\.0\.", lambda found: f"_head.conv.{2 * int(found[1])}."),
    )
    renamed = {}
    for name, tensor in state.items():
        for pattern, new in rules:
            name = re.sub(pattern, new, name)
        renamed[name] = tensor
    return renamed


def published_vgg(state: State, ends: tuple[int, ...]) -> dict[str, Tensor]:
    """With the published stages before the layers of a VGG's body."""

    def stage(found: re.Match[str]) -> str:
        return f"backbone.body.layer{1 + sum(int(found[1]) >= end for end in ends)}.0.{found[1]}."

    return {re.sub(r"backbone\.body\.(\d+)\.", stage, name): tensor for name, tensor in state.items()}


def require_same(network: nn.Module, state: State) -> None:
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, state[name]), name


@pytest.mark.parametrize("arch", [SMALL, "retinanet_mobilenet_v2_fpn"])
def test_todays_and_older_names_of_torchvision(arch: str, tmp_path: Path) -> None:
    theirs = made(arch, seed=1).state_dict()
    old = old_names(theirs)
    assert old.keys() != theirs.keys()
    for number, state in enumerate((theirs, old)):
        network = made(arch)
        loaded = load_detector(network, saved(tmp_path / f"{number}.pth", dict(state)))
        require_same(network, theirs)
        assert (loaded.missing, loaded.dropped) == ([], [])


@pytest.mark.parametrize(
    ("arch", "ends"), [("fasterrcnn_vgg11_fpn", (3, 6, 11, 16)), ("retinanet_vgg11_fpn", (3, 6, 11, 16)),
                       pytest.param("fasterrcnn_vgg11", (), marks=pytest.mark.slow)],
)  # fmt: skip
def test_the_published_students_of_mimicking_runs(arch: str, ends: tuple[int, ...], tmp_path: Path) -> None:
    """s_ and t_ before the names, hash functions beside them, a Namespace with the arguments."""
    theirs = made(arch, seed=1).state_dict()
    student = old_names(published_vgg(theirs, ends))
    content = {f"s_{name}": tensor for name, tensor in student.items()}
    content |= {f"t_{name}": torch.zeros_like(tensor) for name, tensor in student.items()}
    content |= {"KD_loss.LSH_weight.weight": torch.zeros(4, 4), "feat_KD_loss.LSH_weight.bias": torch.zeros(4)}
    file = {"model": content, "optimizer": {}, "lr_scheduler": {}, "args": argparse.Namespace(a=1), "epoch": 25}
    network = made(arch)
    loaded = load_detector(network, saved(tmp_path / "model_25.pth", file))
    require_same(network, theirs)
    assert loaded.kind == "published"
    assert "the student of the two" in loaded.describe()


def test_published_frozen_norms_want_their_eps(tmp_path: Path) -> None:
    """0 in torchvision 0.8: with 1e-5 every map would be another."""
    path = saved(tmp_path / "model_25.pth", {"model": old_names(made(SMALL, seed=1).state_dict()), "lr_scheduler": {}})
    network = made(SMALL)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(InputError, match=r"have eps 0.*add frozen_eps=0"):
        load_detector(network, path)
    require_same(network, before)
    assert load_detector(made(SMALL, frozen_eps=0.0), path).kind == "published"


def test_torchvisions_own_training_says_no_eps(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its script keeps optimiser and schedule, too; that its files of COCO have eps 0 makes this none of them."""
    theirs = made(SMALL, seed=1).state_dict()
    file = {"model": dict(theirs), "optimizer": {}, "lr_scheduler": {}, "args": argparse.Namespace(a=1), "epoch": 25}
    network = made(SMALL)
    with caplog.at_level(logging.WARNING, "lshfm"):
        assert load_detector(network, saved(tmp_path / "model_25.pth", file)).kind == "torchvision"
    require_same(network, theirs)
    assert "1e-05 is taken" in caplog.text
    assert "add frozen_eps=0" in caplog.text
    caplog.clear()
    load_detector(made(SMALL, frozen_eps=0.0), tmp_path / "model_25.pth")
    assert caplog.text == ""


def test_the_network_in_a_runs_state(tmp_path: Path) -> None:
    theirs = made(SMALL, 3, seed=1).state_dict()
    content = {"format": "lshfm-run", "state": {"model": dict(theirs), "epoch": 2}, "classes": ["a", "b"]}
    network = made(SMALL, 3)
    loaded = load_detector(network, saved(tmp_path / "last.ckpt", content), ["a", "b"])
    require_same(network, theirs)
    assert "the state of a run after epoch 2" in loaded.describe()
    assert load_detector(network, tmp_path / "last.ckpt", ["b", "a"]).missing == ["class scores and boxes"]


def test_torchvisions_own_file_of_coco(tmp_path: Path) -> None:
    """91 outputs by category id; a data set of the 80 categories takes theirs, one of 20 classes its backbone."""
    theirs = made(SMALL, 91, seed=1, frozen_eps=0.0).state_dict()
    path = saved(tmp_path / "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth", dict(theirs))
    with pytest.raises(InputError, match="eps 0"):
        load_detector(made(SMALL, 81), path)
    network = made(SMALL, 81, frozen_eps=0.0)
    assert load_detector(network, path, ["c"] * 80).missing == []
    rows = list(COCO_ROWS)
    predictor = network.roi_heads.box_predictor
    assert len(rows) == 81
    assert rows[:13] == [*range(12), 13]
    assert torch.equal(predictor.cls_score.weight, theirs["roi_heads.box_predictor.cls_score.weight"][rows])
    last = theirs["roi_heads.box_predictor.bbox_pred.bias"].view(91, 4)[90]
    assert torch.equal(predictor.bbox_pred.bias.view(81, 4)[80], last)
    loaded = load_detector(made(SMALL, 21, frozen_eps=0.0), path, ["c"] * 20)
    assert loaded.missing == ["class scores and boxes"]
    assert loaded.dropped == ["the layers for its 90 classes"]


def test_coco_rows_of_retinanet(tmp_path: Path) -> None:
    theirs = made("retinanet_mobilenet_v2_fpn", 91, seed=1).state_dict()
    network = made("retinanet_mobilenet_v2_fpn", 81)
    load_detector(network, saved(tmp_path / "their.pth", dict(theirs)), ["c"] * 80)
    name = "head.classification_head.cls_logits.bias"
    assert torch.equal(network.state_dict()[name].view(9, 81)[:, 80], theirs[name].view(9, 91)[:, 90])


def test_classes_in_another_order_start_anew(tmp_path: Path) -> None:
    content = {"format": "lshfm", "model": made(SMALL, 3).state_dict(), "classes": ["a", "b"]}
    path = saved(tmp_path / "own.ckpt", content)
    assert load_detector(made(SMALL, 3), path, ["a", "b"]).missing == []
    assert load_detector(made(SMALL, 3), path, ["b", "a"]).missing == ["class scores and boxes"]


CLASSIFIERS = {
    "fasterrcnn_resnet50_fpn": ("resnet50", {"backbone.body.layer3.1.conv2.weight": "layer3.1.conv2.weight"}),
    "fasterrcnn_resnet50_c4": ("resnet50", {"backbone.6.1.conv2.weight": "layer3.1.conv2.weight",
                               "roi_heads.box_head.0.1.bn2.bias": "layer4.1.bn2.bias"}),
    "fasterrcnn_vgg11": ("vgg11", {"backbone.18.weight": "features.18.weight"}),
    "retinanet_vgg11_fpn": ("vgg11", {"backbone.body.18.weight": "features.18.weight"}),
    SMALL: ("mobilenet_v2", {"backbone.body.18.0.weight": "features.18.0.weight"}),
}  # fmt: skip


COSTLY = [pytest.param(arch, marks=pytest.mark.slow) for arch in CLASSIFIERS if arch != SMALL]


@pytest.mark.parametrize("arch", [SMALL, *COSTLY])
def test_a_classifiers_weights_fill_the_backbone(arch: str, tmp_path: Path) -> None:
    name, pairs = CLASSIFIERS[arch]
    with torch.device("meta"):
        shapes = torchvision.models.get_model(name, weights=None).state_dict()
    torch.manual_seed(4)
    state = {
        key: torch.randn(t.shape) if t.is_floating_point() else torch.zeros((), dtype=torch.int64)
        for key, t in shapes.items() if not key.startswith("classifier")
    }  # fmt: skip
    network = made(arch)
    loaded = load_detector(network, saved(tmp_path / "classifier.pth", state))
    own = network.state_dict()
    for ours, theirs in pairs.items():
        assert torch.equal(own[ours], state[theirs])
    assert loaded.missing == ["all but the backbone"]
    assert DETECTORS[arch].backbone == name


def test_weights_of_another_network_leave_it_as_it_was(tmp_path: Path) -> None:
    other = made("retinanet_mobilenet_v2_fpn").state_dict()
    network = made(SMALL)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(InputError, match=f"these are not weights of {SMALL}"):
        load_detector(network, saved(tmp_path / "other.pth", dict(other)))
    broken = {name: tensor.clone() for name, tensor in before.items()}
    broken["rpn.head.cls_logits.bias"][0] = float("nan")
    with pytest.raises(InputError, match="not finite"):
        load_detector(network, saved(tmp_path / "broken.pth", broken))
    with pytest.raises(InputError, match="missing in the file"):
        load_detector(network, saved(tmp_path / "part.pth", {n: t for n, t in before.items() if "fc6" not in n}))
    with pytest.raises(InputError, match="missing in the file"):
        load_detector(network, saved(tmp_path / "classifier.pth", {"features.0.0.weight": torch.zeros(32, 3, 3, 3)}))
    require_same(network, before)
