"""lshfm report on what real runs left."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from lshfm.report.facts import FINISHED, FOREIGN, UNFINISHED
from tests.arrays import arrays
from tests.cli.conftest import TINY, Refuse, Run


@pytest.mark.usefixtures("has_run")
def test_a_run_an_unfinished_one_and_a_foreign_folder_side_by_side(run: Run, tmp_path: Path) -> None:
    """What is there is shown, the rest is said to be missing; numbers are those of results.json."""
    left = tmp_path / "outputs/train/b"
    left.mkdir()
    for name in ("metrics.jsonl", "config.yaml", "identity.json"):
        (left / name).write_bytes((tmp_path / "outputs/train/a" / name).read_bytes())
    (tmp_path / "photos").mkdir()
    told = json.loads(run("report", "outputs", "photos", "format=json").stdout)
    states = {each["name"]: each["state"] for each in told["runs"]}
    assert states == {"a": FINISHED, "b": UNFINISHED, "photos": FOREIGN}
    score = json.loads((tmp_path / "outputs/train/a/results.json").read_text())["score"]
    assert [(arm["mean"], arm["finished"]) for arm in told["arms"]] == [(score, 1), (None, 0)]
    assert any("photos: not a run of lshfm" in note for note in told["notes"])

    said = run("report", "a", "b", "out=pages/r.html").stdout
    page = (tmp_path / "pages/r.html").read_text()
    assert re.match(r"pages/r.html: 2 runs, 0\.\d MB\n", said)
    for heading in ("Comparison", "Average precision by class", "Training curves", "Environment", "Commands"):
        assert f">{heading}</h2>" in page
    assert f"{score:.2f}" in page
    assert "area under the monotone precision" in page
    assert "lshfm train model=resnet8" in page


def test_refusals(refuse: Refuse, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    assert "lshfm report takes runs" in refuse("report")
    assert "nothing to report on:\n  photos: not a run of lshfm" in refuse("report", "photos")
    assert refuse("report", "photos", "format=pdf").startswith("format=pdf: must be one of html, md, csv, json, tex")
    assert "fromat=: no such key (did you mean 'format'?)" in refuse("report", "photos", "fromat=md")
    assert "night: no run folder, and no run in outputs is called so" in refuse("report", "night")
    (tmp_path / "outputs").mkdir()
    assert refuse("report", "output").endswith("is called so (did you mean 'outputs'?)")


def test_a_tracker_that_is_unknown_or_not_installed_is_refused_at_once(refuse: Refuse, monkeypatch: object) -> None:
    assert "track=tensorbord: must be one of csv, tensorboard, wandb, mlflow (did you mean 'tensorboard'?)" in refuse(
        "train", *TINY, "track=tensorbord"
    )
    assert isinstance(monkeypatch, pytest.MonkeyPatch)
    monkeypatch.setattr("lshfm.config.early.find_spec", lambda name: None)
    assert "track=wandb needs wandb, which is not installed: pip install 'lshfm[wandb]'" in refuse(
        "train", *TINY, "track=[csv,wandb]"
    )


@pytest.mark.slow
@pytest.mark.usefixtures("has_run")
def test_tracking_and_the_start_s_measures_change_no_bit(run: Run, tmp_path: Path) -> None:
    """A student's run has the same weights with trackers, and without its evaluation before the first step."""
    words = ("mimic", *TINY[1:], "teacher=a", "student=resnet8", "loss=l2", "epochs=1")
    run(*words, "name=plain")
    run(*words, "name=tracked", "track=[csv,tensorboard]")
    for stage in ("stage1", "stage2"):
        plain, tracked = (tmp_path / f"outputs/mimic/{name}_{stage}" for name in ("plain", "tracked"))
        before, after = arrays(plain / "before.npz"), arrays(plain / "predictions.npz")
        assert before["ids"].tolist() == after["ids"].tolist()
        assert np.isfinite(before["angle"]).all()
        same = [arrays(folder / "predictions.npz") for folder in (plain, tracked)]
        assert all(np.array_equal(same[0][name], same[1][name]) for name in same[0])
        assert (tracked / "tracked.csv").is_file()
        assert list((tracked / "tensorboard").iterdir())
    first, second = (arrays(tmp_path / f"outputs/mimic/plain_stage{i}" / name)["angle"].mean()
                     for i, name in ((1, "predictions.npz"), (2, "before.npz")))  # fmt: skip
    assert first == pytest.approx(second)  # stage 2 starts where stage 1 ended
    folders = [tmp_path / f"outputs/mimic/{name}_stage1" for name in ("plain", "tracked")]
    kept = [json.loads((folder / "identity.json").read_text()) for folder in folders]
    assert kept[0] == kept[1]
