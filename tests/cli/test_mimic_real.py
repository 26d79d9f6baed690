"""mimic on the real VOC2007 piece, on a user's own images, and with a teacher of the published code."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lshfm.models.backbones import torchvision_classifier
from tests.cli.conftest import here

IMAGES = 48
SMALL = ("dataset.size=32", "epochs=1", "batch_size=16", "lr=0.01", "workers=0", "gpus=[]")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, test_data: Path) -> Path:
    """A folder with the first real images in VOCdevkit, and a resnet8 trained on them."""
    folder = tmp_path_factory.mktemp("voc")
    real, here_ = test_data / "VOCdevkit/VOC2007", folder / "VOCdevkit/VOC2007"
    (here_ / "ImageSets/Main").mkdir(parents=True)
    for part in ("JPEGImages", "Annotations"):
        (here_ / part).symlink_to(real / part)
    for split in ("trainval", "test"):
        names = (real / f"ImageSets/Main/{split}.txt").read_text().split()[:IMAGES]
        (here_ / f"ImageSets/Main/{split}.txt").write_text("\n".join(names))
    here(folder, "train", *VOC, "model=resnet8", "model.weights=none", "name=voc_teacher")
    return folder


VOC = ("dataset=voc2007", "dataset.root=.", *SMALL)
STUDENT = ("student=resnet8", "student.weights=none")


def results(folder: Path) -> Any:
    return json.loads((folder / "results.json").read_text())


def test_both_stages_on_voc(folder: Path) -> None:
    said = here(folder, "mimic", *VOC, "teacher=resnet8", *STUDENT, "loss.hash_num=16", "name=both")
    assert "teacher resnet8 from checkpoints/voc_teacher.ckpt" in said
    report = results(folder / "outputs/mimic/both_stage2")["report"]
    assert report["images"] == IMAGES
    assert report["mimicry"]["teacher_mAP"] == results(folder / "outputs/train/voc_teacher")["score"]
    assert 0 < results(folder / "outputs/mimic/both_stage1")["report"]["mimicry"]["angle"] < 90


@pytest.mark.slow
def test_a_teacher_of_the_published_code(folder: Path) -> None:
    torch.manual_seed(0)
    model = torchvision_classifier("mobilenet_v2", 20, pool="GMP", projection=24)
    names = {"backbone": "", "projection": "feat_fc.", "classifier": "classifier."}
    split = {name: name.partition(".") for name in model.state_dict()}
    state = {f"module.{names[split[n][0]]}{split[n][2]}": tensor for n, tensor in model.state_dict().items()}
    content = {"state_dict": state, "arch": "mobilenet_v2_GMP", "epoch": 60, "global_step": 9}
    torch.save(content | {"best_prec1": np.float64(91.25)}, folder / "it's theirs (60).ckpt")
    words = ["teacher=it's theirs (60).ckpt", *STUDENT, "stage=1", "loss=l2", "name=theirs"]
    said = here(folder, "mimic", *VOC, *words)
    assert "it's theirs (60).ckpt names no data set: it is taken to be of voc2007, for its 20 classes" in said
    assert "teacher mobilenet_v2_GMP from it's theirs (60).ckpt, feature width 24" in said
    aligned = torch.load(folder / "checkpoints/theirs_stage1.ckpt")
    assert aligned["model"]["projection.weight"].shape == (24, 64)


def test_a_users_images_have_no_teacher_of_voc(folder: Path) -> None:
    (image, *_) = sorted((folder / "VOCdevkit/VOC2007/JPEGImages").iterdir())
    entries = ({"path": str(image), "labels": ["cat" if i % 2 else "dog"], "id": str(i)} for i in range(16))
    lines = "\n".join(map(json.dumps, entries))
    for split in ("train", "test"):
        (folder / f"{split}.jsonl").write_text(lines)
    before = sorted(folder.rglob("*"))
    mine = ("dataset=manifest", "dataset.root=.", *SMALL)
    message = here(folder, "mimic", *mine, "teacher=voc_teacher", *STUDENT, code=2)
    assert "checkpoints/voc_teacher.ckpt was trained on voc2007, but this is manifest" in message
    assert sorted(folder.rglob("*")) == before
