"""eval thresholds=tune: chosen on what training did not see, stored beside the checkpoint, used by others."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import lshfm
from lshfm.datasets.holdout import holdout
from lshfm.datasets.shapes import CLASSES, Shapes
from lshfm.files.read import digest
from lshfm.metrics.thresholds import Goal, choose_thresholds, fit_temperature
from lshfm.runs.thresholds import Thresholds
from tests.cli.conftest import here
from tests.jobs import network, save_trained

ON = ("dataset.cache=off", "workers=0", "gpus=[]")
TUNE = ("eval", "checkpoint=s", "thresholds=tune", *ON)


def test_chosen_on_the_held_out_part(hydra: None, tmp_path: Path) -> None:
    """The part that training held out, to the image; later commands use what was chosen, and tell its effect."""
    model = network(3).eval()
    save_trained("s", model=model, dataset={"holdout": 0.5})
    plain = here(tmp_path, "eval", "checkpoint=s", *ON)
    assert "thresholds (" not in plain
    said = here(tmp_path, *TUNE, "calibration=temperature")
    assert "thresholds are chosen on 12 images: 0.5 of split train of shapes, held out of training" in said
    images = Shapes(num_train=24, num_eval=12).split("train")
    held = holdout(24, 0.5, images.labels > 0)[1]
    loaded = lshfm.load("s", "cpu")
    pixels = torch.cat([loaded.transform(images.images.pixels(int(i), 16))[None] for i in held])
    with torch.no_grad():
        logits, labels = model(pixels)[1].numpy(), images.labels[held]
    stored = Thresholds.of(Path("checkpoints/s.ckpt"), lambda: digest(model.state_dict()))
    assert stored is not None
    temperature = fit_temperature(logits, labels)
    assert stored.temperature == pytest.approx(temperature, rel=1e-3)
    limits = choose_thresholds(logits, labels, Goal()) / temperature
    assert np.allclose(list((stored.thresholds or {}).values()), 1 / (1 + np.exp(-limits)), atol=1e-4)
    assert loaded.decisions.thresholds == tuple((stored.thresholds or {}).values())
    results = json.loads(Path("outputs/eval/s/results.json").read_text())
    assert results["report"]["thresholds"]["tuned"]["mean_F1"] is not None
    assert "thresholds (f1) on split test: mean F1" in here(tmp_path, "eval", "checkpoint=s", *ON)
    said = here(tmp_path, *TUNE, "thresholds.goal=precision:0.9")
    assert "the thresholds chosen earlier (goal f1, on 0.5 of split train of shapes, held out of" in said
    assert f"the temperature {stored.temperature:.3f} fitted earlier stays" in said
    again = Thresholds.of(Path("checkpoints/s.ckpt"), lambda: digest(model.state_dict()))
    assert again is not None
    assert (again.goal, again.temperature) == ("precision:0.9", stored.temperature)
    assert list(again.thresholds or {}) == list(CLASSES)


def test_what_was_held_out_is_tested_where_there_is_no_other_split(hydra: None, tmp_path: Path) -> None:
    """Neither eval nor export asks a user whose data are one split for another one."""
    save_trained("s", model=network(3), dataset={"holdout": 0.5, "eval_split": "none"})
    assert "on 12 images held out of train:" in here(tmp_path, "eval", "checkpoint=s", *ON)
    results = json.loads(Path("outputs/eval/s/results.json").read_text())
    assert (results["split"], results["report"]["images"]) == ("12 images held out of train", 12)
    with np.load("outputs/eval/s/predictions.npz") as kept:
        images = Shapes(num_train=24, num_eval=12).split("train")
        assert kept["ids"].tolist() == [images.ids[i] for i in holdout(24, 0.5, images.labels > 0)[1]]


def test_what_is_tested_on_is_not_chosen_on_unless_allowed(hydra: None, tmp_path: Path) -> None:
    save_trained("s", model=network(3), dataset={"holdout": 0.5, "eval_split": "none"})
    assert "held out are all that is left to test on, and what is chosen there flatters" in here(
        tmp_path, *TUNE, code=2
    )
    assert "figures on it are flattered" in here(tmp_path, *TUNE, "allow_test=true")


def test_the_share_that_training_held_out_counts(hydra: None, tmp_path: Path) -> None:
    """Another one would let a network be tested on images that it learnt from."""
    save_trained("s", model=network(3), dataset={"holdout": 0.5, "eval_split": "none"})
    assert "on 12 images held out of train:" in here(tmp_path, "eval", "checkpoint=s", "dataset.holdout=0.75", *ON)
    save_trained("all", model=network(3))
    words = ("eval", "checkpoint=all", "dataset.eval_split=none", "dataset.holdout=0.5", *ON)
    assert "learnt from all of split train" in here(tmp_path, *words, code=2)


def test_the_test_split_is_refused_unless_allowed(hydra: None, tmp_path: Path) -> None:
    save_trained("s", model=network(3))
    said = here(tmp_path, *TUNE, code=2)
    assert "only the test split test is left that the network did not learn from" in said
    assert "the network learnt from split train" in here(tmp_path, *TUNE, "dataset.eval_split=train", code=2)
    assert not Path("checkpoints/s.thresholds.json").exists()
    said = here(tmp_path, *TUNE, "allow_test=true")
    assert "warning: thresholds are chosen on the test split itself" in said
    assert Path("checkpoints/s.thresholds.json").exists()


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["thresholds.goal=precision:0.9"], "is of thresholds=tune, which is not asked for"),
        (["thresholds=tune", "thresholds.goal=f2"], "must be f1, precision:P or recall:P"),
        (["thresholds=tuned"], "thresholds"),
        (["calibration=platt"], "calibration=platt: must be one of none, temperature"),
    ],
)
def test_what_cannot_be_chosen(hydra: None, tmp_path: Path, words: list[str], fault: str) -> None:
    assert fault in here(tmp_path, "eval", "checkpoint=s", *words, code=2)
