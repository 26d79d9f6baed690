"""lshfm.load: one object for every file that holds a network."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import lshfm
from lshfm.datasets.shapes import CLASSES, Shapes
from lshfm.errors import InputError
from lshfm.files.read import digest
from lshfm.models.backbones import torchvision_classifier
from lshfm.runs.thresholds import Thresholds, beside
from lshfm.shipping.predictor import TorchPredictor
from lshfm.tasks.multilabel import MultiLabel
from tests.jobs import CPU, job, network, save_aligned, save_trained, split_of
from tests.samples.narrow import Narrow

SAMPLES = Path(__file__).resolve().parents[1] / "samples"


@pytest.fixture
def pictures() -> list[np.ndarray]:
    images = Shapes(num_train=1, num_eval=3).split("test").images
    return [images.pixels(index, 40) for index in range(3)]


@pytest.fixture
def ours(hydra: None) -> TorchPredictor:
    """A fresh network in a checkpoint, by its name."""
    save_trained("mine", model=network(3))
    loaded = lshfm.load("mine", "cpu")
    assert isinstance(loaded, TorchPredictor)
    return loaded


def test_a_checkpoint_gives_what_evaluation_sees(ours: TorchPredictor) -> None:
    """To the bit, for a picture, an array, and the network's outputs."""
    trained = job("stage=2").settings.dataset
    test = split_of(job("stage=2"))
    (batch,) = MultiLabel().evaluation_batches(
        test, trained, CPU, workers=0, batch_size=len(test), channels_last=False
    ).epoch(0)  # fmt: skip
    for index in range(3):
        picture = Image.fromarray(test.images.pixels(index, 16))
        assert torch.equal(ours.transform(picture), batch.images[index])
        assert torch.equal(ours.transform(np.asarray(picture)), batch.images[index])
    assert ours.classes == CLASSES
    assert not ours.model.training
    with torch.no_grad():
        assert torch.equal(ours.model(batch.images)[1], network(3).eval()(batch.images)[1])


def test_predictions_of_all_that_images_can_be(
    ours: TorchPredictor, pictures: list[np.ndarray], tmp_path: Path
) -> None:
    """The same picture as a file, a PIL image and an array; a folder; lists; grey and transparent ones."""
    file = tmp_path / "pictures/a.png"
    file.parent.mkdir()
    Image.fromarray(pictures[0]).save(file)
    (file.parent / "b.png").write_bytes(b"no picture")
    (one,) = ours.predict(file)
    image, array, again = ours.predict([Image.fromarray(pictures[0]), pictures[0], str(file)])
    for each in (image, array, again):
        assert np.allclose(each.logits, one.logits, atol=1e-5)
        assert list(each.labels) == list(one.labels)
    assert (one.source, image.source, array.source, again.source) == (str(file), None, None, str(file))
    assert np.allclose(one.probabilities, 1 / (1 + np.exp(-np.float64(one.logits))))
    good, bad = ours.predict(file.parent)  # a broken file is told of, the others are done
    assert (good.labels, bad.labels, bad.probabilities) == (one.labels, {}, None)
    assert bad.error == f"{file.parent / 'b.png'} is not an image that Pillow reads"
    grey, clear = Image.new("L", (9, 5)), Image.new("RGBA", (5, 9))
    assert len(ours.predict([grey, clear, np.zeros((3, 4), np.uint8)], batch_size=2)) == 3
    features = ours.features([pictures[0], pictures[1]])
    with torch.no_grad():
        expected = ours.model(torch.stack([ours.transform(each) for each in pictures[:2]]))[0]
    assert np.array_equal(features, expected.numpy())


@pytest.mark.parametrize(
    ("images", "fault"),
    [
        ("nowhere.jpg", "no such file"),
        (np.zeros((3, 4, 3), np.float32), r"must be uint8 \(h, w, 3\), RGB, or \(h, w\), and is float32"),
        (np.zeros((3, 32, 32), np.uint8), "uint8 \\(3, 32, 32\\)"),
        (Image.new("F", (4, 4)), "32-bit"),
        (5, "an array must be uint8"),
    ],
)
def test_what_is_no_picture(ours: TorchPredictor, images: Any, fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        ours.predict(images)


def test_labels_follow_the_thresholds_beside_the_checkpoint(ours: TorchPredictor, pictures: list[np.ndarray]) -> None:
    """They are used for these weights alone, and what is asked for goes first."""
    path, weights = Path("checkpoints/mine.ckpt"), digest(ours.model.state_dict())
    (before,) = ours.predict(pictures[0])
    limits = dict.fromkeys(CLASSES, 1.0) | {CLASSES[4]: 0.0}
    chosen = Thresholds(weights=weights, thresholds=limits, goal="f1", temperature=2.0, chosen_on="here", figures={})
    assert chosen.write(path) == beside(path)
    (after,) = lshfm.load("mine").predict(pictures[0])
    assert list(after.labels) == [CLASSES[4]]
    assert np.allclose(after.probabilities, 1 / (1 + np.exp(-np.float64(before.logits) / 2)))
    assert len(lshfm.load("mine").predict(pictures[0], threshold=0.0)[0].labels) == len(CLASSES)
    assert len(lshfm.load("mine").predict(pictures[0], top=2)[0].labels) == 2
    save_trained("mine", model=network(4))
    assert lshfm.load("mine").decisions.thresholds is None
    beside(path).write_text('{"version": 1}')
    with pytest.raises(InputError, match="is damaged: delete it"):
        lshfm.load("mine")


def test_a_published_checkpoint(tmp_path: Path) -> None:
    """Its classes have no names, unless they are given; its images are as large as those it was trained on."""
    model = torchvision_classifier("resnet18", 20, pool="GMP").eval()
    state = {f"module.{name.removeprefix('backbone.')}": value for name, value in model.state_dict().items()}
    state = {name.replace("classifier.", "fc."): value for name, value in state.items()}
    path = tmp_path / "theirs.pth"
    torch.save({"arch": "resnet18_GMP", "state_dict": state, "global_step": 9, "epoch": 1}, path)
    loaded = lshfm.load(path, "cpu")
    assert isinstance(loaded, TorchPredictor)
    assert (loaded.classes[:2], len(loaded.classes), loaded.transform.size) == (("class 0", "class 1"), 20, 448)
    named = lshfm.load(path, "cpu", classes=[f"c{i}" for i in range(20)], size=64)
    assert (named.classes[19], named.transform.size) == ("c19", 64)
    images = torch.zeros(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(loaded.model(images)[1], model(images)[1])


def test_a_network_of_ones_own_class(hydra: None, pictures: list[np.ndarray]) -> None:
    """The class is passed in: the file names an option, never code."""
    path = SAMPLES / "v2/checkpoints/teacher.ckpt"
    with pytest.raises(InputError, match="narrow"):
        lshfm.load(path)
    mine = lshfm.load(path, "cpu", network=Narrow)
    assert isinstance(mine, TorchPredictor)
    assert isinstance(mine.model, Narrow)
    with pytest.raises(InputError, match="does not take the settings of the file"):
        lshfm.load(path, network=lambda num_classes: Narrow(num_classes))
    by_file = lshfm.load(path, "cpu", config_dir=SAMPLES / "conf")
    assert np.array_equal(mine.predict(pictures[1])[0].logits, by_file.predict(pictures[1])[0].logits)
    bare = Path("bare.pth")
    torch.save(mine.model.state_dict(), bare)
    for classes in (None, mine.classes):
        with pytest.raises(
            InputError, match=r"does not say which network it holds, nor its classes\. Start .*ights=bare"
        ):
            lshfm.load(bare, classes=classes)
    again = lshfm.load(bare, network=lambda num_classes: Narrow(num_classes, width=8), classes=mine.classes, size=32)
    assert again.predict(pictures[1])[0].labels.keys() == mine.predict(pictures[1])[0].labels.keys()


def test_what_is_refused(hydra: None) -> None:
    save_aligned("aligned")
    with pytest.raises(InputError, match="is of a stage 1"):
        lshfm.load("aligned")
    with pytest.raises(InputError, match=r"checkpoints/nothing\.ckpt: no such file"):
        lshfm.load("nothing")
    with pytest.raises(InputError, match="can run code"):
        lshfm.load("a.pt2")
    Path("half.ckpt").write_bytes(b"PK\3\4 half of one")
    with pytest.raises(InputError, match="not a checkpoint, or a truncated one"):
        lshfm.load("half.ckpt")
    save_trained("mine")
    with pytest.raises(InputError, match="device=tpu9"):
        lshfm.load("mine", "tpu9")
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        lshfm.lod  # noqa: B018
