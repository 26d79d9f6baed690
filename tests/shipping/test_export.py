"""lshfm export: files that other programs read, each the same network as its checkpoint."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

import lshfm
from lshfm.datasets.holdout import holdout
from lshfm.datasets.loader import Batch
from lshfm.datasets.shapes import CLASSES, Shapes
from lshfm.errors import InputError
from lshfm.files.read import digest
from lshfm.models.backbones import torchvision_classifier
from lshfm.runs.thresholds import Thresholds
from lshfm.shipping import formats
from lshfm.shipping.description import KEY, Description
from lshfm.shipping.predictor import TorchPredictor
from tests.cli.conftest import here
from tests.jobs import network, save_trained

pytest.importorskip("onnxruntime")
safetensors = pytest.importorskip("safetensors")

ON = ("dataset.cache=off", "workers=0")
DESCRIBED: dict[str, Any] = {
    "lshfm": "0", "title": "resnet8", "network": {"option": "resnet8", "values": {}}, "task": "multilabel",
    "activation": "sigmoid", "classes": ["a", "b"], "size": 16, "mean": [0.5] * 3, "std": [0.2] * 3,
    "outputs": ["logits"], "weights_sha256": "", "licence": "",
}  # fmt: skip


@pytest.fixture
def picture() -> np.ndarray:
    return Shapes(num_train=1, num_eval=3).split("test").images.pixels(1, 40)


def save_student(projection: int | None = None, **settings: Any) -> nn.Module:
    """checkpoints/s.ckpt: a network with BatchNorm statistics of its own."""
    model = network(3, projection=projection, **settings)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(generator=torch.Generator().manual_seed(1))  # type: ignore[union-attr]
    save_trained("s", model=model, **settings)
    return model


def test_onnx_takes_pixels_and_gives_probabilities(hydra: None, tmp_path: Path, picture: np.ndarray) -> None:
    """Normalisation, temperature and activation lie in the graph; classes and thresholds in the file; any batch."""
    model = save_student()
    limits = dict.fromkeys(CLASSES, 1.0) | {CLASSES[2]: 0.0}
    Thresholds(
        weights=digest(model.state_dict()), thresholds=limits, goal="f1", temperature=2.0, chosen_on="here", figures={}
    ).write(Path("checkpoints/s.ckpt"))
    said = here(tmp_path, "export", "checkpoint=s", "format=onnx", "uint8=true", "feature=true", *ON)
    assert "12 images: probabilities differ by at most" in said
    assert "mAP" in said
    import onnxruntime

    session = onnxruntime.InferenceSession("exports/s.onnx")
    assert [(each.name, each.shape[1:], each.type) for each in session.get_inputs()] == [
        ("images", [16, 16, 3], "tensor(uint8)")
    ]
    checkpoint, file = lshfm.load("s", "cpu"), lshfm.load("exports/s.onnx")
    pixels = checkpoint.transform.pixels(picture)
    probabilities, feature = session.run(None, {"images": np.stack([pixels] * 5)})
    (expected,) = checkpoint.predict(picture)
    assert np.allclose(probabilities, np.tile(expected.probabilities, (5, 1)), atol=1e-5)
    assert np.allclose(feature, checkpoint.features([picture] * 5), atol=1e-4)
    (found,) = file.predict(picture)
    assert (list(found.labels), found.logits, file.classes) == ([CLASSES[2]], None, CLASSES)
    assert np.allclose(file.features(picture), feature[:1], atol=1e-5)
    with pytest.raises(InputError, match="gives predict alone"):
        file.model  # type: ignore[attr-defined]  # noqa: B018
    figures = json.loads(Path("exports/s.onnx.json").read_text())
    assert figures["parity"]["equal_decisions"] == 100
    told = json.loads(session.get_modelmeta().custom_metadata_map[KEY])
    assert told == figures["description"]
    assert (told["parity"], told["classes"], told["size"]) == (figures["parity"], list(CLASSES), 16)
    assert (told["thresholds"], told["temperature"]) == (list(limits.values()), 2.0)
    assert figures["description"]["opset"] == 18
    assert f"SHA-256 {figures['sha256']}" in Path("exports/s.onnx.md").read_text()
    assert "is there already" in here(tmp_path, "export", "checkpoint=s", "format=onnx", *ON, code=2)


@pytest.mark.parametrize("projection", [None, 24])
def test_safetensors_load_back(hydra: None, tmp_path: Path, picture: np.ndarray, projection: int | None) -> None:
    """The projection is folded in, or kept with feature=true."""
    save_student(projection)
    whole = lshfm.load("s", "cpu")
    for words, same in (
        (["file=a.safetensors"], projection is None),
        (["feature=true", "file=b.safetensors"], True),
    ):
        said = here(tmp_path, "export", "checkpoint=s", "format=safetensors", *words, *ON)
        assert "100.00 % of decisions are equal" in said
        back = lshfm.load(words[-1].removeprefix("file="), "cpu")
        with safetensors.safe_open(words[-1].removeprefix("file="), "pt") as file:
            assert json.loads(file.metadata()[KEY])["parity"]["equal_decisions"] == 100
        assert isinstance(back, TorchPredictor)
        assert np.allclose(back.predict(picture)[0].logits, whole.predict(picture)[0].logits, atol=1e-5)
        assert (back.features(picture).shape == whole.features(picture).shape) is same


def test_pt2_is_written_and_not_read(hydra: None, tmp_path: Path, picture: np.ndarray) -> None:
    save_student()
    here(tmp_path, "export", "checkpoint=s", "format=pt2", "file=s.pt2", "precision=fp16", *ON)
    extra = {KEY: ""}
    program = torch.export.load("s.pt2", extra_files=extra).module()  # this test's own file
    whole = lshfm.load("s", "cpu")
    images = torch.stack([whole.transform(picture)] * 3)
    assert np.allclose(program(images).detach().numpy(), whole.predict([picture] * 3)[0].logits, atol=2e-2)
    told = json.loads(extra[KEY])
    assert (told["classes"], told["precision"], told["parity"]["images"]) == (list(CLASSES), "fp16", 12)
    with pytest.raises(InputError, match="can run code"):
        lshfm.load("s.pt2")


@pytest.mark.slow
def test_state_dicts_of_other_libraries(hydra: None, tmp_path: Path, picture: np.ndarray) -> None:
    """They load strictly into torchvision's and timm's own networks, and the published layout goes both ways."""
    model = torchvision_classifier("resnet18", len(CLASSES), pool="GMP", projection=8)
    save_trained("s", model=model, arch="resnet18", pool="GMP")
    assert "pools by the mean alone, this one by GMP" in here(
        tmp_path, "export", "checkpoint=s", "format=torchvision", *ON, code=2
    )
    save_trained("s", model=torchvision_classifier("resnet18", len(CLASSES)), arch="resnet18")
    expected = lshfm.load("s", "cpu").predict(picture)[0].logits
    for name in ("torchvision", "timm", "published", "safetensors"):
        here(tmp_path, "export", "checkpoint=s", f"format={name}", *ON)
    theirs = torchvision.models.get_model("resnet18", num_classes=len(CLASSES))
    theirs.load_state_dict(torch.load("exports/s_torchvision.pth", weights_only=True))
    images = lshfm.load("s", "cpu").transform(picture)[None]
    with torch.no_grad():
        assert np.allclose(theirs.eval()(images)[0], expected, atol=1e-5)
    from safetensors.torch import load_file

    theirs.load_state_dict(load_file("exports/s.safetensors"))  # two lines without lshfm
    published = lshfm.load("exports/s_published.pth", "cpu")  # with its own classes and size, which its kind lacks
    assert (published.classes, published.transform.size) == (CLASSES, 16)
    assert np.allclose(published.predict(picture)[0].logits, expected, atol=1e-5)
    save_student()
    said = here(tmp_path, "export", "checkpoint=s", "format=timm", "file=small.pth", *ON, code=2)
    assert "timm has no network like resnet8" in said


def test_nothing_is_kept_of_a_network_that_is_not_the_same(hydra: None, tmp_path: Path) -> None:
    save_student(24)
    said = here(tmp_path, "export", "checkpoint=s", "format=safetensors", "tolerance=1e-12", *ON, code=1)
    assert "the exported network is not the same, and is not kept" in said
    assert list(Path("exports").iterdir()) == []


@pytest.mark.slow
def test_int8_is_kept_by_its_score(hydra: None, tmp_path: Path, picture: np.ndarray) -> None:
    save_student()
    words = ("export", "checkpoint=s", "format=onnx", "precision=int8", "calibration_images=16", *ON)
    here(tmp_path, *words, "max_drop=100")
    assert lshfm.load("exports/s_int8.onnx").predict(picture)[0].probabilities is not None
    Path("exports/s_int8.onnx").unlink()
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:
        patch.setattr("lshfm.shipping.parity.Parity.drop", 1.5)
        assert "int8 lowers voc2010 mAP by 1.50, more than max_drop=1.0" in here(tmp_path, *words, code=1)
    assert not Path("exports/s_int8.onnx").exists()


@pytest.mark.parametrize(("share", "others"), [(0.5, False), (0.0, False), (0.5, True)], ids=str)
def test_int8_is_calibrated_on_what_training_learnt_from(
    hydra: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float, others: bool
) -> None:
    """Not on held-out images, whose score decides whether it is kept; of other data, on all of the training split."""
    save_trained("s", model=network(3), dataset={"holdout": share})
    seen: list[int] = []

    def quantise(source: Path, batches: Iterable[Batch], description: Description) -> NoReturn:
        seen.extend(int(index) for batch in batches for index in batch.index)
        raise InputError("enough")

    monkeypatch.setattr("lshfm.commands.export.quantise", quantise)
    seed = ("dataset.seed=5",) if others else ()
    assert "enough" in here(tmp_path, "export", "checkpoint=s", "format=onnx", "precision=int8", *ON, *seed, code=2)
    split = Shapes(num_train=24, num_eval=12).split("train")
    learnt = np.arange(24) if others else holdout(24, share, split.labels > 0)[0]
    assert sorted(seen) == learnt.tolist()


class Unheard(nn.Module):
    """A network with an operation that ONNX does not have."""

    num_features = 2

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        feature = torch.special.bessel_j0(images.mean((2, 3))[:, :2])
        return feature, feature


def test_an_operation_without_counterpart_is_named(tmp_path: Path) -> None:
    described = Description(**DESCRIBED, opset=18)
    with pytest.raises(InputError, match=r"resnet8 cannot be exported to onnx: the operation .*bessel_j0"):
        formats.make_onnx(Unheard(), described)
    assert not (tmp_path / "a.onnx").exists()


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["format=tflite"], "format=tflite: must be one of onnx, pt2"),
        ([], "not given: format. Add format=..., one of onnx, pt2, safetensors, torchvision, timm, published"),
        (["format=safetensors", "uint8=true"], "uint8=true is for format=onnx and pt2"),
        (["format=pt2", "precision=int8"], "precision=int8 is for format=onnx, not pt2"),
        (["format=onnx", "file=checkpoints"], "is a folder: name a file in it"),
        (["format=onnx", "file=checkpoints/s.ckpt"], "is there already"),
        (["format=onnx", "file=checkpoints/s.ckpt/a.onnx"], "is a file, so"),
        (["format=onnx", "images=nowhere"], "images=nowhere: no such file or folder"),
        (["format=onnx", "dataset=voc2007", "dataset.root=nowhere"], "images=FOLDER are others"),
        (["format=onnx", "checkpoint=none"], "no checkpoint in checkpoints is called so"),
    ],
)
def test_what_cannot_be_exported_is_said(hydra: None, tmp_path: Path, words: list[str], fault: str) -> None:
    save_student()
    given = words if "checkpoint=none" in words else ["checkpoint=s", *words]
    assert fault in here(tmp_path, "export", *given, code=2)
    assert not Path("exports").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"network": {"option": "../x", "values": {}}},
        {"network": {"option": "resnet8", "values": {"a": "${oc.env:HOME}"}}},
        {"activation": "none"},
        {"classes": []},
        {"size": 10**9},
        {"std": [0.0] * 3},
        {"thresholds": [0.5]},
        {"names": "theirs"},
        {"version": 99},
        {"temperature": 0.0},
    ],
)
def test_a_description_is_checked(change: dict[str, Any]) -> None:
    text = json.dumps(json.loads(Description(**DESCRIBED).text()) | change)
    with pytest.raises(InputError, match=r"f is damaged|newer lshfm"):
        Description.read({KEY: text}, "f")
    assert Description.read({KEY: Description(**DESCRIBED).text()}, "f") == Description(**DESCRIBED)


@pytest.mark.parametrize("depth", [500, 5000, 10**5])
def test_a_description_that_is_nested_too_deeply_is_refused(depth: int) -> None:
    """By the parser, or by what looks through its values."""
    deep = "[" * depth + "]" * depth
    text = Description(**DESCRIBED).text().replace('"values": {}', f'"values": {{"a": {deep}}}')
    assert deep in text
    with pytest.raises(InputError, match="is damaged: its description cannot be read"):
        Description.read({KEY: text}, "f")
