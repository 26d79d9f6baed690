"""metrics.jsonl and metrics.csv of real runs: undisturbed, stopped and resumed, begun by an older version."""

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from lshfm.engine.state import State
from tests.cli.conftest import here
from tests.cli.test_older_versions import NARROW, kept
from tests.jobs import after_step, interrupt

__all__ = ["kept"]  # a fixture

TRAIN = (
    "train", "model=resnet8", "dataset.num_train=64", "dataset.num_eval=32", "batch_size=16", "epochs=3", "log_every=3",
    "gpus=[]", "workers=0", "dataset.cache=off",
)  # fmt: skip
MEASURED = {"time", "seconds", "images_per_second"}


def lines(folder: Path, run: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"outputs/train/{run}/metrics.jsonl").read_text().splitlines()]


def rows(folder: Path, run: str) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / f"outputs/train/{run}/metrics.csv").read_text().splitlines()))


def unmeasured(entries: Any) -> list[dict[str, Any]]:
    return [{name: value for name, value in entry.items() if name not in MEASURED} for entry in entries]


def test_a_stopped_run_leaves_what_an_undisturbed_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here(tmp_path, *TRAIN, "name=whole")
    with monkeypatch.context() as patch:
        patch.setattr(State, "update", after_step((1, 2), interrupt))
        here(tmp_path, *TRAIN, "name=parts", code=130)
    assert [row["epoch"] for row in rows(tmp_path, "parts")] == ["1"]
    here(tmp_path, *TRAIN, "name=parts")
    assert unmeasured(lines(tmp_path, "parts")) == unmeasured(lines(tmp_path, "whole"))
    assert unmeasured(rows(tmp_path, "parts")) == unmeasured(rows(tmp_path, "whole"))

    found = lines(tmp_path, "whole")
    assert [entry["kind"] for entry in found] == ["step", "step", "epoch"] * 3
    assert all(entry["version"] == 2 for entry in found)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", entry["time"]) for entry in found)
    seconds = [entry["seconds"] for entry in found if entry["kind"] == "epoch"]
    assert 0 < seconds[0] < seconds[1] < seconds[2]
    table = rows(tmp_path, "whole")
    for row, (three, last, end) in zip(table, (found[i : i + 3] for i in (0, 3, 6)), strict=True):
        assert float(row["bce"]) == pytest.approx((3 * three["bce"] + last["bce"]) / 4, rel=1e-12)
        assert float(row["lr"]) == last["lr"]
        assert (row["epoch"], float(row["voc2010 mAP"])) == (str(end["epoch"]), end["score"])
        assert float(row["seconds"]) == end["seconds"]
        assert float(row["images_per_second"]) > 0


def test_a_run_of_an_older_version_goes_on_with_new_lines(kept: Path) -> None:
    run = kept / "outputs/train/unfinished"
    before = (run / "metrics.jsonl").read_text()
    here(kept, *NARROW, "model.width=6", "epochs=2", "name=unfinished")
    found = lines(kept, "unfinished")
    assert (run / "metrics.jsonl").read_text().startswith(before)
    num_old = len(before.splitlines())
    assert [entry.get("version", 1) for entry in found] == [1] * num_old + [2] * (len(found) - num_old)
    old, new = rows(kept, "unfinished")
    assert (old["epoch"], new["epoch"]) == ("1", "2")
    assert (old["seconds"], float(new["seconds"]) > 0) == ("", True)
    assert float(old["voc2010 mAP"]) == found[num_old - 1]["score"]


def test_a_run_trained_anew_has_a_table_of_its_own(tmp_path: Path) -> None:
    here(tmp_path, *TRAIN, "name=a")
    here(tmp_path, *TRAIN, "name=a", "lr=0.01", "epochs=1", "overwrite=true")
    assert [row["epoch"] for row in rows(tmp_path, "a")] == ["1"]
    shutil.rmtree(tmp_path / "outputs")
