"""The teacher that a command names: a network, a finished checkpoint's name, or any file."""

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lshfm.config.compose import compose
from lshfm.config.schema import Train
from lshfm.config.stages import plan
from lshfm.config.words import rewrite
from lshfm.datasets.shapes import CLASSES
from lshfm.errors import InputError
from lshfm.files.read import digest
from lshfm.models.backbones import torchvision_classifier
from lshfm.runs.checkpoint import checkpoints
from tests.jobs import CPU, changed_job, find, job, network, save_aligned, save_trained, split_of

pytestmark = pytest.mark.usefixtures("hydra")


def refused(*found: Any) -> str:
    with pytest.raises(InputError) as caught:
        find(*found)
    return str(caught.value)


def test_the_one_trained_network_of_the_name() -> None:
    path = save_trained("mine", model=network(3))
    save_trained("max_pooled", pool="GMP")
    save_trained("deeper", arch="resnet14")
    save_trained("other_data", dataset={"name": "triangles"})
    save_trained("other_classes", classes=CLASSES[::-1])
    save_aligned("aligned")
    save_trained("mimicked", command="mimic", stage="2", loss="l2", teacher={})
    Path("checkpoints/broken.ckpt").write_bytes(b"half")
    teacher = find(job())
    assert (teacher.path, teacher.name, teacher.normalisation) == (path, "resnet8", None)
    assert teacher.identity == digest(network(3).state_dict())
    assert teacher.data == split_of(job()).fingerprint()
    assert teacher.record() == {"name": "resnet8", "checkpoint": str(path), "identity": teacher.identity}


@pytest.mark.parametrize("by_suffix", [True, False])
def test_the_pooling_belongs_to_the_network(by_suffix: bool) -> None:
    save_trained("averaged")
    path = save_trained("max_pooled", pool="GMP")
    option = "resnet8_GMP" if by_suffix else "resnet8"
    teacher = find(changed_job(job(), {"teacher.pool": "GMP", "teacher.option": option}))
    assert (teacher.path, teacher.name) == (path, "resnet8_GMP")
    assert type(teacher.network.pool).__name__ == "GMP"


def test_of_several_data_sets_of_one_name_that_of_these_images_is_taken() -> None:
    save_trained("a", identity={"data.train": "others"})
    path = save_trained("b")
    assert find(job()).path == path


def test_several_are_listed() -> None:
    for name in ("a", "b"):
        save_trained(name)
    message = refused(job())
    assert "several finished resnet8 on shapes are in checkpoints; choose one:" in message
    assert message.splitlines()[1:] == ["  teacher=a", "  teacher=b"]


@pytest.mark.parametrize("words", [["teacher=resnet8_GMP"], ["teacher=resnet8", "teacher.pool=GWP"]])
def test_the_command_for_a_missing_one_makes_it(words: list[str]) -> None:
    chosen = job(
        "stage=2", *words, "dataset.cache_dir=my pictures (2)", "dataset.size=24", "dataset.mean=[0.5,0.5,0.4]"
    )
    message = refused(chosen)
    assert "no finished resnet8_G" in message
    assert "is in checkpoints. Train one:\n  lshfm train" in message
    program, command, *typed = shlex.split(message.splitlines()[1])
    assert (program, command) == ("lshfm", "train")
    trained = compose(Train, rewrite("train", typed)).settings
    model, teacher = trained.model.plain(), chosen.settings.teacher.plain()
    assert model
    assert teacher
    assert model == {key: teacher[key] for key in model}
    assert trained.dataset == chosen.settings.dataset
    save_trained("made", pool=str(trained.model.pool))
    assert find(chosen).path == Path("checkpoints/made.ckpt")


def test_a_network_of_a_library_is_missing_like_any_other() -> None:
    chosen = job("stage=2", "teacher=timm", "teacher.arch=resnet26d", "student=resnet8")
    assert refused(chosen).splitlines()[1].endswith(" model=timm model.arch=resnet26d")


@pytest.mark.parametrize("given", ["mine", "checkpoints/mine.ckpt"])
def test_a_name_and_a_path(given: str) -> None:
    save_trained("mine", arch="resnet14", pool="GWP")
    save_trained("other", arch="resnet14", pool="GWP")
    teacher = find(job(), given)
    assert (teacher.path, teacher.name) == (Path("checkpoints/mine.ckpt"), "resnet14_GWP")


def test_nothing_of_that_name() -> None:
    save_trained("a_fine_teacher")
    message = refused(job(), "a_fine_taecher")
    assert "teacher=a_fine_taecher: no network, no file and no checkpoint in checkpoints is called so" in message
    assert "(did you mean 'a_fine_teacher'?)" in message
    assert "(did you mean 'resnet8'?)" in refused(job(), "resnet_8")


def test_a_mimicked_student_teaches_when_asked_and_an_aligned_one_never() -> None:
    student = network(5, projection=32)
    save_trained("mimicked", model=student, command="mimic", stage="2", loss="l2", teacher={})
    content = torch.load("checkpoints/mimicked.ckpt", weights_only=True)
    content["network"]["values"]["projection"] = 32
    torch.save(content, "checkpoints/mimicked.ckpt")
    assert find(job(), "mimicked").network.num_features == 32
    save_aligned("aligned")
    assert "is of a stage 1: its classifier is untrained, so it is no teacher" in refused(job(), "aligned")


def test_a_teacher_of_other_data_or_classes_is_refused_naming_both() -> None:
    save_trained("other_data", dataset={"name": "triangles"})
    message = refused(job(), "other_data")
    assert "was trained on triangles, but this is shapes; their classes are the same: dataset.name=triangles" in message
    save_trained("other_classes", model=network(classes=2), classes=["red circle", "dog"])
    message = refused(job(), "other_classes")
    assert f"trained on 2 classes, shapes has {len(CLASSES)}" in message
    assert message.endswith("the first that differs: dog there, red square here; train a teacher of these classes")


def test_the_way_to_a_teachers_data_and_to_its_classes(tmp_path: Path) -> None:
    """A class that no image shows may be listed all the same."""
    (tmp_path / "train.csv").write_text("path,labels\na.jpg,dog\nb.jpg,person\n")
    words = ("dataset=manifest", f"dataset.root={tmp_path}", "dataset.eval_split=none", "dataset.holdout=0.5")
    ours, wider = (
        plan(rewrite("mimic", ["stage=2", "teacher=resnet8", "student=resnet8", "gpus=[]", *words, *more]))[0][-1]
        for more in ([], ['dataset.classes=["tabby cat",dog,person]'])
    )
    path = save_trained("mine", model=network(classes=3), classes=["tabby cat", "dog", "person"])
    content = torch.load(path, weights_only=True)
    content["dataset"] = {"option": "manifest", "values": ours.settings.dataset.without_code()}
    torch.save(content, path)
    way = f"but this is shapes; its own data is dataset=manifest dataset.root={tmp_path}"
    assert refused(job(), "mine").endswith(way)
    way = """; 'dataset.classes=["tabby cat",dog,person]' gives these images the teacher's classes, in its order"""
    assert refused(ours, "mine").endswith(way)
    assert find(wider, "mine").name == "resnet8"


def test_weights_that_are_not_the_networks() -> None:
    save_trained("mine", model=network(classes=3))
    assert "mine.ckpt: the weights are not those of its network" in refused(job())


def test_another_size_is_said(said: list[str]) -> None:
    save_trained("mine", dataset={"size": 48})
    find(job())
    assert said == ["the teacher was trained at 48 pixels and now sees 16"]


def test_a_teacher_of_another_normalisation_sees_its_own_pixels() -> None:
    path = save_trained("mine", dataset={"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3]})
    chosen = job()
    teacher = find(chosen, path).placed(CPU, precision="fp32", channels_last=True)
    pixels = torch.rand(2, 3, 16, 16)
    mean_s, std_s, mean_t, std_t = (
        torch.tensor(values).view(3, 1, 1)
        for values in (
            [0.485, 0.456, 0.406],
            [0.229, 0.224, 0.225],
            [0.5, 0.4, 0.3],
            [0.2, 0.25, 0.3],
        )
    )
    with torch.no_grad():
        expected, _ = network().eval()((pixels - mean_t) / std_t)
    feature, _ = teacher.embed((pixels - mean_s) / std_s)
    torch.testing.assert_close(feature, expected, rtol=1e-4, atol=1e-5)


# A checkpoint of the published code

PUBLISHED = {"backbone": "", "projection": "feat_fc.", "classifier": "classifier."}


def save_published(name: str, model: nn.Module, arch: str) -> Path:
    """As the published code writes it: other names, a numpy scalar, and no word on the data set."""
    state = {}
    for key, tensor in model.state_dict().items():
        part, _, rest = key.partition(".")
        state[f"module.{PUBLISHED[part]}{rest}"] = tensor
    content = {"state_dict": state, "arch": arch, "epoch": 60, "global_step": 9, "best_prec1": np.float64(91.25)}
    torch.save(content, name)
    return Path(name)


def mobilenet(pool: str, projection: int | None, classes: int = len(CLASSES)) -> nn.Module:
    return torchvision_classifier("mobilenet_v2", classes, pool=pool, projection=projection)


@pytest.mark.parametrize(("pool", "projection"), [("GAP", None), pytest.param("GWP", 40, marks=pytest.mark.slow)])
def test_a_published_checkpoint_is_the_teacher_that_ours_is(pool: str, projection: int | None, said: list[str]) -> None:
    model, chosen = mobilenet(pool, projection), changed_job(job(), {"dataset.size": 32})
    name = "mobilenet_v2" + {"GAP": "", "GWP": "_GWP"}[pool]
    teacher = find(chosen, save_published("theirs.ckpt", model, name))
    assert said[0] == "theirs.ckpt names no data set: it is taken to be of shapes, for its 12 classes in this order"
    assert (teacher.name, teacher.network.num_features) == (name, projection or 1280)
    assert (teacher.data, teacher.normalisation) == (None, None)
    save_trained("ours", model=model, arch="mobilenet_v2", pool=pool)
    content = torch.load("checkpoints/ours.ckpt", weights_only=True)
    content["network"]["values"]["projection"] = projection
    torch.save(content, "checkpoints/ours.ckpt")
    assert find(chosen, "ours").identity == teacher.identity
    nn.init.ones_(model.classifier.bias)
    assert find(chosen, save_published("other.ckpt", model, name)).identity != teacher.identity


def test_a_published_checkpoint_of_other_classes() -> None:
    path = save_published("theirs.ckpt", mobilenet("GAP", None, 20), "mobilenet_v2")
    message = refused(changed_job(job(), {"dataset.size": 32}), path)
    assert message.startswith(f"theirs.ckpt cannot teach {len(CLASSES)} classes of shapes: ")
    assert "dropped classifier (20 classes)" in message


def test_a_file_that_names_no_network_needs_one() -> None:
    torch.save(network(4).state_dict(), "plain.pth")
    assert "add it, as teacher=NETWORK teacher.path=plain.pth" in refused(job(), "plain.pth")
    assert find(changed_job(job(), {"teacher.path": "plain.pth"})).identity == digest(network(4).state_dict())


def test_unreadable_files_are_left_aside_and_said(said: list[str]) -> None:
    path = save_trained("good")
    Path("checkpoints/bad.ckpt").write_bytes(path.read_bytes()[:100])
    assert [found for found, _ in checkpoints(Path("checkpoints"))] == [path]
    assert "left aside: checkpoints/bad.ckpt: not a checkpoint" in said[0]
    assert list(checkpoints(Path("nowhere"))) == []
