"""Detectors through the real command on real images: trained, stopped and gone on with, mimicked, evaluated."""

import json
import os
import signal
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from PIL import Image

from lshfm.engine.state import State
from lshfm.models.detection.build import detector
from lshfm.objectives import detection as objectives
from tests.cli.conftest import Run, here

DATA = ("dataset=voc07", "dataset.root=.", "dataset.size=64", "gpus=[]", "workers=0")
SMALL = ("epochs=1", "batch_size=2", "eval_batch_size=2", "log_every=1")
NETWORK = {"weights": "none", "norm": "batch", "width": "0.25", "fpn_channels": "16"}
FASTER, RETINA = "fasterrcnn_mobilenet_v2_fpn", "retinanet_mobilenet_v2_fpn"


def network(role: str, name: str) -> tuple[str, ...]:
    return (f"{role}={name}", *(f"{role}.{key}={value}" for key, value in NETWORK.items()))


TRAIN = ("train", *DATA, *SMALL, *network("model", FASTER))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, test_data: Path) -> Path:
    """A folder with the first real images in VOCdevkit, and a detector trained on them for three steps."""
    folder = tmp_path_factory.mktemp("voc")
    real, own = test_data / "VOCdevkit/VOC2007", folder / "VOCdevkit/VOC2007"
    (own / "ImageSets/Main").mkdir(parents=True)
    for part in ("JPEGImages", "Annotations"):
        (own / part).symlink_to(real / part)
    for split, number in (("trainval", 6), ("test", 3)):
        names = (real / f"ImageSets/Main/{split}.txt").read_text().split()[:number]
        (own / f"ImageSets/Main/{split}.txt").write_text("\n".join(names))
    said = here(folder, *TRAIN, "name=whole")
    assert "train on trainval: 6 of 6 images, 20 classes" in said
    return folder


def weights(folder: Path, name: str) -> Any:
    return torch.load(folder / f"checkpoints/{name}.ckpt")["model"]


def steps(folder: Path) -> list[dict[str, Any]]:
    """The recorded lines of steps: losses by name, among others."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == "step"]


def predictions(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "predictions.npz") as file:
        return dict(file)


def results(folder: Path) -> Any:
    return json.loads((folder / "results.json").read_text())


def test_a_run_leaves_every_figure_with_its_definition_and_its_detections(folder: Path) -> None:
    report = results(folder / "outputs/train/whole")["report"]
    assert {"coco_ap50", "voc2007", "voc_area", "coco_ap"} < report.keys()
    assert results(folder / "outputs/train/whole")["metric"] == "coco_ap50 (difficult removed)"
    assert len(report["ap"]) == 20
    assert report["images"] == 3
    arrays = predictions(folder / "outputs/train/whole")
    assert len(arrays["ids"]) == len(arrays["boxes"]) == len(arrays["scores"]) == len(arrays["objects"]) == 3
    first = steps(folder / "outputs/train/whole")[0]
    assert {name for name in first if "loss" in name} == {
        "loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg",
    }  # fmt: skip


def test_a_run_that_is_stopped_within_an_epoch_ends_where_the_whole_one_does(folder: Path) -> None:
    """The pictures' order, sizes and mirroring, and what the detector samples, are the same to the bit."""
    stop_and_go_on(folder, *TRAIN, "name=stopped")
    whole, ours = weights(folder, "whole"), weights(folder, "stopped")
    assert [name for name in whole if not torch.equal(whole[name], ours[name])] == []


def stop_and_go_on(folder: Path, *words: str) -> None:
    """A run that SIGTERM ends after its second step, and the same command again."""
    advance, calls = State.advance, iter(range(10))

    def stopped(state: State) -> None:
        advance(state)
        if next(calls) == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    with patch.object(State, "advance", stopped):
        here(folder, *words, code=143)
    here(folder, *words)


def test_a_student_mimics_a_detector(folder: Path) -> None:
    """Losses of the features beside the detector's own; teacher and student compared; files of detections."""
    words = ("teacher=checkpoints/whole.ckpt", *network("student", FASTER), "loss=lshl2", "loss.hash_num=32")
    said = here(folder, "mimic", *DATA, *SMALL, *words, "loss.positions=matched", "loss.beta_warmup=1", "name=pupil")
    assert "hash functions: 32 drawn with deviation" in said
    run = folder / "outputs/mimic/pupil_stage2"
    losses = steps(run)
    assert set(losses[0]) > {"l2", "lsh", "loss_classifier"}
    assert losses[0]["lsh"] == 0 < losses[1]["lsh"] < losses[2]["lsh"]  # beta rises over the epoch
    assert 0 < results(run)["report"]["mimicry"]["angle"] < 90
    said = here(folder, "eval", "checkpoint=checkpoints/pupil_stage2.ckpt", "gpus=[]", "workers=0", "name=again")
    again = folder / "outputs/eval/again"
    assert results(again)["report"]["coco_ap50"] == results(run)["report"]["coco_ap50"]
    assert "COCOeval's AP at an overlap of 0.5" in said
    assert (again / "devkit/comp3_det_test_person.txt").is_file()
    assert isinstance(json.loads((again / "detections.json").read_text()), list)


@pytest.mark.slow
def test_a_report_shows_test_images_with_their_objects(folder: Path) -> None:
    pytest.importorskip("matplotlib")
    here(folder, "report", "outputs/train/whole", "out=r.html")
    page = (folder / "r.html").read_text()
    for heading in ("Precision and recall by class", "Errors", "Detections and objects"):
        assert f">{heading}</h2>" in page
    assert page.count('<image id="scene-') == 3  # of three test images
    assert "picture missing" not in page


@pytest.mark.slow
def test_retinanet_mimics_windows(folder: Path) -> None:
    """Exactly, and with speed=fast, whose products in bf16 are asked for on this CPU."""
    here(folder, "train", *DATA, *SMALL, *network("model", RETINA), "lr=0.005", "name=windows")
    words = ("teacher=checkpoints/windows.ckpt", *network("student", RETINA), "loss=lshl2", "loss.hash_num=32")
    here(folder, "mimic", *DATA, *SMALL, *words, "name=windows")
    said = here(folder, "mimic", *DATA, *SMALL, *words, "name=fast", "speed=fast", "precision=bf16")
    assert "hashes of windows: products in bf16; of bits in bf16 99." in said
    exact, fast = (steps(folder / f"outputs/mimic/{name}_stage2") for name in ("windows", "fast"))
    for losses in exact + fast:
        assert all(0 < losses[name] < 1e6 for name in ("classification", "bbox_regression", "l2", "lsh"))
    assert fast[0]["lsh"] == pytest.approx(exact[0]["lsh"], rel=0.02)
    stop_and_go_on(folder, "mimic", *DATA, *SMALL, *words, "name=broken")
    whole, ours = weights(folder, "windows_stage2"), weights(folder, "broken_stage2")
    assert [name for name in whole if not torch.equal(whole[name], ours[name])] == []


def test_fast_says_what_it_is_here(folder: Path) -> None:
    said = here(folder, *TRAIN, "speed=fast", "name=fast")
    assert "speed=fast on the CPU: " in said
    assert "fused optimiser" in said
    assert "it goes operation by operation" in said
    assert results(folder / "outputs/train/fast")["hardware"]["arithmetic"] in ("fp32", "bf16")


def test_a_loss_that_is_not_finite_is_named_and_the_last_checkpoint_stays(folder: Path) -> None:
    """In the second epoch; the same command goes on from the end of the first."""
    calls, own = iter(range(100)), objectives.own_losses

    def broken(seen: Any) -> dict[str, torch.Tensor]:
        losses = own(seen)
        return losses | ({"loss_box_reg": losses["loss_box_reg"] * torch.nan} if next(calls) == 4 else {})

    with patch.object(objectives, "own_losses", broken):
        said = here(folder, *TRAIN, "epochs=2", "name=broken", code=1)
    assert "the loss is not finite: loss_box_reg = nan at epoch 2, step 2" in said
    assert "earlier checkpoints are intact" in said
    last = torch.load(folder / "outputs/train/broken/last.ckpt")
    assert last["state"]["epoch"] == 1
    assert all(torch.isfinite(each).all() for each in last["state"]["model"].values())


def test_teachers_that_do_not_fit_are_refused(folder: Path, tmp_path: Path) -> None:
    """Of other classes, of another feature width: one message, and no run."""
    own = {"arch": FASTER, "fpn_channels": 16, "width": 0.25, "norm": "batch"}
    torch.save(detector(**own, num_classes=91, size=64).state_dict(), tmp_path / "coco.pth")
    windows = {**own, "arch": RETINA}
    torch.save(detector(**windows, num_classes=21, size=64).state_dict(), tmp_path / "windows.pth")
    before = sorted(folder.rglob("*"))
    student = ("mimic", *DATA, *SMALL, *network("student", FASTER), "loss=l2")

    frozen = detector(**{**own, "norm": "frozen"}, num_classes=21, size=64, frozen_eps=0.0)
    torch.save(frozen.state_dict(), tmp_path / "fasterrcnn_resnet50_fpn_coco-1.pth")

    def taught(name: str, file: str, *more: str) -> str:
        keys = (f"teacher.{key}={value}" for key, value in NETWORK.items() if key != "weights")
        return here(folder, *student, f"teacher={name}", f"teacher.path={tmp_path / file}", *keys, *more, code=2)

    said = taught(FASTER, "fasterrcnn_resnet50_fpn_coco-1.pth", "teacher.norm=frozen")
    assert "have eps 0, as torchvision's once had: add teacher.frozen_eps=0" in said

    said = taught(FASTER, "coco.pth")
    assert "cannot teach 20 classes of voc07" in said
    assert "the layers for its 90 classes" in said
    assert f"{FASTER}'s feature is 1024 wide, the teacher's 144: they must be equally wide" in taught(
        RETINA, "windows.pth"
    )
    assert sorted(folder.rglob("*")) == before


@pytest.mark.slow
def test_two_ranks_evaluate_as_one_does(folder: Path, run: Run, tmp_path: Path) -> None:
    words = (f"checkpoint={folder}/checkpoints/whole.ckpt", f"dataset.root={folder}", "gpus=[]", "workers=0")
    run("eval", *words, "ranks=2", "name=two", "eval_batch_size=1")
    two, one = tmp_path / "outputs/eval/two", folder / "outputs/train/whole"
    ours, theirs = predictions(two), predictions(one)
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
    assert results(two)["report"] == results(one)["report"]


@pytest.mark.slow
def test_two_ranks_learn_as_one_does(run: Run, tmp_path: Path) -> None:
    """What chance decides of an image, its size and what is sampled of it, hangs on its number alone.

    All are padded alike, to 64, and as many proposals are sampled of each as are asked for: ranks average by both.
    """
    rng = np.random.default_rng(0)
    lines = ["path,label,xmin,ymin,xmax,ymax"]
    for number in range(8):
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,{'cat' if number % 2 else 'dog'},{number},4,{number + 40},50")
    for split in ("train", "test"):
        (tmp_path / f"{split}.csv").write_text("\n".join(lines))
    words = ("train", "dataset=boxes", "dataset.root=.", "dataset.size=64", "dataset.train_sizes=[40,48,64]",
             "epochs=1", "batch_size=4", "eval_batch_size=2", "workers=0", "gpus=[]", "lr=0.005", f"model={FASTER}",
             "model.weights=none", "model.fpn_channels=16", "model.width=0.25", "model.proposals=16")  # fmt: skip
    for ranks in ("1", "2"):
        run(*words, f"ranks={ranks}", f"name=of{ranks}")
    one, two = weights(tmp_path, "of1"), weights(tmp_path, "of2")
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-4, atol=1e-6)


REFUSED = {
    "loss=bce": (*TRAIN, "loss=bce"),
    "model=resnet18 is no detector": ("train", *DATA, *SMALL, "model=resnet18", "model.weights=none"),
    "augment.contrast=0.5: the task detection mirrors pictures": (*TRAIN, "augment.contrast=0.5"),
    "dataset.size=31: must be at least 32 to train a detector": (*TRAIN, "dataset.size=31"),
    "dataset.train_sizes=[640]: must be numbers up to 106": (*TRAIN, "dataset.train_sizes=[640]"),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_detectors_do_not_have_is_refused(message: str, folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    assert message in here(folder, *REFUSED[message], "name=refused", code=2)
    assert sorted(folder.rglob("*")) == before


@pytest.mark.slow
def test_losses_that_detectors_do_not_have_are_refused(folder: Path) -> None:
    words = ("mimic", *DATA, *SMALL, "teacher=checkpoints/whole.ckpt", *network("student", FASTER))
    before = sorted(folder.rglob("*"))
    assert "detectors mimic features: l1, l2, lsh or lshl2" in here(folder, *words, "loss=kl", code=2)
    assert "teacher_tape=off" in here(folder, *words, "loss=l2", "teacher_tape=record", code=2)
    assert "loss.bias=zero" in here(folder, *words, "loss.bias=median", code=2)
    assert sorted(folder.rglob("*")) == before
