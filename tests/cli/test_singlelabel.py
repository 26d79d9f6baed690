"""One label an image through the real commands, on real pictures in CIFAR's layout."""

import csv
import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import lshfm
from tests.arrays import arrays
from tests.cli.conftest import Refuse, Run, Start, here
from tests.cli.killing import STEP, Trap

RECORD = 3074
CPU = ("gpus=[]", "workers=0")


@pytest.fixture
def data(tmp_path: Path, test_data: Path) -> Path:
    """34 training and 20 test records, and the classes."""
    source, folder = test_data / "cifar100_like", tmp_path / "data"
    folder.mkdir()
    for name, count in (("train.bin", 34), ("test.bin", 20)):
        (folder / name).write_bytes((source / name).read_bytes()[: count * RECORD])
    (folder / "fine_label_names.txt").write_bytes((source / "fine_label_names.txt").read_bytes())
    return folder


TRAIN = ("train", "dataset=cifar100", "dataset.root=data", "model=resnet8", "epochs=1", "batch_size=16", "name=teacher")
MIMIC = (
    "mimic", "dataset=cifar100", "dataset.root=data", "teacher=teacher", "student=wrn_16_2", "loss.hash_num=64",
    "epochs=2", "batch_size=16", "average=2", "schedule.steps=[1]", "checkpoint_minutes=0.0001",
)  # fmt: skip


@pytest.mark.slow
def test_a_student_whose_mean_of_weights_is_that_of_an_undisturbed_run(
    run: Run, start: Start, data: Path, tmp_path: Path
) -> None:
    """Killed in the last epoch, within the mean; then evaluated, used and exported."""
    run(*TRAIN, *CPU)
    maps = ("dataset=cifar100", "dataset.root=data", "batch_size=16", "teacher=teacher", "student=vgg8", "loss=at")
    assert "the student has 4 stages and the teacher 3" in here(tmp_path, "mimic", *maps, *CPU, code=2)
    assert not (tmp_path / "outputs/mimic").exists()
    whole = run(*MIMIC, *CPU, "name=whole")
    assert "wrn_16_2: 0.71 M parameters, feature width 64; weights: random" in whole.stdout  # 128 raw, projected
    assert "train on train: 34 of 34 images, 100 classes" in whole.stdout
    assert all(f"  {name} " in whole.stdout for name in ("ce", "l2", "lsh"))
    trap = Trap(STEP, 5)  # of 2 epochs of 3 steps: 16, 16 and the last two images
    assert start(*MIMIC, *CPU, "name=killed", trap=trap).wait() == -signal.SIGKILL
    run(*MIMIC, *CPU, "name=killed")
    folders = [tmp_path / "outputs/mimic" / f"{name}_stage2" for name in ("whole", "killed")]
    states = [torch.load(folder / "average.ckpt", weights_only=True) for folder in folders]
    assert all(torch.equal(tensor, states[1]["model"][name]) for name, tensor in states[0]["model"].items())
    records = [json.loads((folder / "results.json").read_text()) for folder in folders]
    assert [record["average"]["epochs"] for record in records] == [2, 2]
    assert records[0]["average"]["score"] == records[1]["average"]["score"]
    last = [torch.load(folder / "last.ckpt", weights_only=True)["state"] for folder in folders]
    assert [state["average"]["added"] for state in last] == [[1, 2]] * 2
    assert not torch.equal(states[0]["model"]["classifier.weight"], last[0]["model"]["classifier.weight"])
    check_results(folders[0], records[0])
    check_use(tmp_path)
    check_mean(tmp_path, records[0]["average"]["score"])


def check_results(folder: Path, record: dict) -> None:
    """The run's report and confusion.csv agree with its predictions."""
    kept = arrays(folder / "predictions.npz")
    best = kept["logits"].argmax(1)
    report = record["report"]
    assert record["metric"] == "top1 accuracy"
    assert record["score"] == report["top1"] == pytest.approx(100 * (best == kept["targets"]).mean())
    with (folder / "confusion.csv").open() as file:
        head, *rows = csv.reader(file)
    matrix = np.array([row[1:] for row in rows], int)
    assert head[1:] == [row[0] for row in rows] == list(kept["classes"])
    assert matrix.sum() == 20
    assert all(matrix[label, told] for label, told in zip(kept["targets"], best, strict=True))


def check_use(folder: Path) -> None:
    """eval, predict, export and lshfm.load take the student."""
    said = here(folder, "eval", "checkpoint=whole_stage2", *CPU, "teacher=teacher")
    assert "top1 accuracy of whole_stage2.ckpt on test" in said
    assert "ECE" in said
    assert (folder / "outputs/eval/whole_stage2_teacher-teacher/confusion.csv").is_file()
    picture = folder / "picture.png"
    record = (folder / "data" / "test.bin").read_bytes()[2:RECORD]
    Image.fromarray(np.frombuffer(record, np.uint8).reshape(3, 32, 32).transpose(1, 2, 0)).save(picture)
    said = here(folder, "predict", "checkpoint=whole_stage2", "input=picture.png", *CPU)
    assert said.count(",") == 4  # the five likeliest
    (prediction,) = lshfm.load(folder / "checkpoints/whole_stage2.ckpt", device="cpu").predict(str(picture))
    kept = arrays(folder / "outputs/mimic/whole_stage2/predictions.npz")
    assert np.allclose(prediction.logits, kept["logits"][0], atol=1e-4)
    assert prediction.probabilities.sum() == pytest.approx(1)
    assert list(prediction.labels.values()) == sorted(prediction.probabilities, reverse=True)[:5]
    said = here(folder, "export", "checkpoint=whole_stage2", "format=safetensors", "workers=0")
    assert "top1 accuracy" in said
    said = here(folder, "export", "checkpoint=whole_stage2", "format=pt2", "images=picture.png", "workers=0")
    assert "1 images: logits differ by at most" in said
    card = (folder / "exports/whole_stage2.safetensors.md").read_text()
    assert "share of images whose label has the largest logit" in card
    assert "none: the likeliest classes" in card
    (again,) = lshfm.load(folder / "exports/whole_stage2.safetensors", device="cpu").predict(str(picture))
    assert list(again.labels) == list(prediction.labels)


def check_mean(folder: Path, score: float) -> None:
    """The mean of the weights is a checkpoint as any other: eval, predict, a teacher."""
    mean = "outputs/mimic/whole_stage2/average.ckpt"
    here(folder, "eval", mean, *CPU)
    found = json.loads((folder / "outputs/eval/whole_stage2_average/results.json").read_text())
    assert found["score"] == score
    assert here(folder, "predict", mean, "input=picture.png", *CPU)
    words = ("mimic", "dataset=cifar100", "dataset.root=data", f"teacher={mean}", "student=resnet8", "epochs=1")
    assert f"teacher wrn_16_2 from {mean}" in here(folder, *words, "batch_size=16", "name=second", *CPU)


@pytest.mark.slow
def test_mixed_and_changed_pictures_are_the_same_on_two_ranks_and_after_a_kill(
    run: Run, start: Start, data: Path, tmp_path: Path
) -> None:
    """Mixup, cutmix and RandAugment together; BatchNorm over groups of 8, which are a rank's images."""
    words = (
        "train", "dataset=cifar100", "dataset.root=data", "model=resnet8", "epochs=2", "batch_size=16", "gpus=[]",
        "augment.mixup=0.4", "augment.cutmix=1", "augment.randaugment=2", "bn_group_size=8", "workers=0",
        "checkpoint_minutes=0.0001", "drop_last=true",
    )  # fmt: skip
    run(*words, "name=one")
    run(*words, "ranks=2", "name=two")
    assert start(*words, "name=killed", trap=Trap(STEP, 3)).wait() == -signal.SIGKILL
    run(*words, "name=killed")
    folders = [tmp_path / "outputs/train" / name for name in ("one", "two", "killed")]
    one, two, killed = (torch.load(each / "last.ckpt", weights_only=True)["state"]["model"] for each in folders)
    assert all(torch.equal(tensor, killed[name]) for name, tensor in one.items())
    for name, tensor in one.items():
        if "running" not in name:  # the running statistics are rank 0's
            torch.testing.assert_close(two[name], tensor, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_an_exported_graph_gives_softmax(run: Run, data: Path, tmp_path: Path) -> None:
    run(*TRAIN, *CPU)
    here(tmp_path, "export", "checkpoint=teacher", "format=onnx", "uint8=true", "workers=0")
    (prediction,) = lshfm.load(tmp_path / "exports/teacher.onnx").predict([np.full((32, 32, 3), 90, np.uint8)])
    (own,) = lshfm.load(tmp_path / "checkpoints/teacher.ckpt").predict([np.full((32, 32, 3), 90, np.uint8)])
    assert np.allclose(prediction.probabilities, own.probabilities, atol=1e-5)
    assert prediction.probabilities.sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
def test_what_does_not_go_with_one_label_is_refused(refuse: Refuse, data: Path, tmp_path: Path) -> None:
    cifar = ("dataset=cifar100", "dataset.root=data", "batch_size=16", *CPU)
    assert "dataset.metric=voc2010: must be one of top1, top5" in refuse("train", *cifar, "dataset.metric=voc2010")
    assert "dataset.devkit=true: the VOC devkit has no files" in refuse("train", *cifar, "dataset.devkit=true")
    assert refuse("train", *cifar, "loss=asl").startswith("loss=asl takes labels of another kind")
    assert refuse("train", *cifar, "loss=bce").startswith("loss=bce takes labels of another kind")
    assert refuse("train", "loss=ce").startswith("loss=ce takes labels of another kind")
    said = refuse("train", *cifar, "loss=ce", "loss.class_weights=[1,2]")
    assert "loss.class_weights has 2 numbers and the data set 100 classes" in said
    torch.save({"x": torch.zeros(1)}, tmp_path / "any.pth")
    said = refuse("mimic", "loss=lshl2_s", "stage=2", "teacher=any.pth", "gpus=[]")
    assert "loss=lshl2_s is for one label an image" in said
    said = refuse("mimic", *cifar, "teacher=any.pth", "accumulate=2")
    assert "accumulate=2: loss=lshl2_s is a mean over the images of a whole batch" in said
    said = refuse("train", "dataset=cifar100", "dataset.root=nowhere")
    assert "No CIFAR-100 at dataset.root=" in said
    assert "dataset.download=true fetches https" in said


def test_check_reads_the_new_data_sets(data: Path, tmp_path: Path, test_data: Path) -> None:
    said = here(tmp_path, "check", "dataset=cifar100", "dataset.root=data", "workers=0")
    assert "no faults" in said
    assert "class with too few images" in said
    for split, name in (("train", "a"), ("val", "a")):
        (tmp_path / "tree" / split / name).mkdir(parents=True)
        Image.new("RGB", (8, 8), len(split)).save(tmp_path / "tree" / split / name / "x.png")
    (tmp_path / "tree/val/a/y.jpg").write_bytes(b"no picture")
    said = here(tmp_path, "check", "dataset=imagefolder", "dataset.root=tree", "workers=0", code=1)
    assert "val: broken image: 1" in said
    assert "train: one class: 1" in said
    words = ("train", "dataset=imagefolder", "dataset.root=tree", "dataset.cache=off", *CPU)
    assert "imagefolder has one class, a: with one label an image" in here(tmp_path, *words, code=2)


def test_a_manifest_with_one_label_an_image(tmp_path: Path) -> None:
    for split, rows in (("train", "ababab"), ("test", "ab")):
        for number, name in enumerate(rows):
            Image.new("RGB", (8, 8), (200 * (name == "a"), number, 0)).save(tmp_path / f"{split}{number}.png")
        lines = [f"{split}{number}.png,{name}" for number, name in enumerate(rows)]
        (tmp_path / f"{split}.csv").write_text("path,label\n" + "\n".join(lines) + "\n")
    words = ("train", "dataset=manifest", "dataset.root=.", "model=resnet8", "epochs=1", "batch_size=2",
             "dataset.size=16", "dataset.cache=off", "log_every=1", *CPU)  # fmt: skip
    assert "top1 accuracy" in here(tmp_path, *words)
    (tmp_path / "test.csv").write_text("path,label\ntest0.png,a;b\n")
    said = here(tmp_path, *words, "name=other", code=2)
    (tmp_path / "train.csv").write_text("path,label\ntrain0.png,a\ntrain2.png,a\n")
    assert "train: one class: 1" in here(tmp_path, "check", *words[1:3], "dataset.holdout=0.5", "workers=0", code=1)
    assert "1 of 1 images of split 'test' of manifest have not one label: test0.png (the first has 2)" in said


@pytest.mark.slow
def test_a_report_shows_what_one_label_an_image_has(data: Path, tmp_path: Path) -> None:
    """Numbers are those of results.json; with pictures of the images that tell two runs apart."""
    here(tmp_path, *TRAIN[:-1], *CPU, "name=plain")
    here(tmp_path, *TRAIN[:-1], *CPU, "name=averaged", "average=1", "lr=0.01")
    here(tmp_path, "report", "plain", "averaged", "out=r.html")
    page = (tmp_path / "r.html").read_text()
    for heading in ("Accuracy and calibration", "Accuracy by class", "Confusion", "Examples"):
        assert f">{heading}</h2>" in page
    assert page.count('<img src="data:image/jpeg;base64,') >= 2
    assert 'href="data:image/png;base64,' in page  # the matrix of 100 classes
    records = [
        json.loads((tmp_path / f"outputs/train/{name}/results.json").read_text()) for name in ("plain", "averaged")
    ]
    assert all(f">{record['report']['nll']:.3f}</td>" in page for record in records)
    told = json.loads(here(tmp_path, "report", "plain", "averaged", "format=json"))
    assert [arm["averaged"] for arm in told["arms"]] == [None, records[1]["average"]["score"]]
    assert "share of images whose label has the largest logit" in here(tmp_path, "report", "plain", "format=md")
