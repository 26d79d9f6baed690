"""lshfm.train, mimic and eval as functions: the command's keys, folders, refusals and record."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

import lshfm
from lshfm.config.call import words_of
from lshfm.errors import InputError

TINY: dict[str, Any] = {
    "model": "resnet8",
    "dataset": {"num_train": 64, "num_eval": 32, "size": 16, "cache": "off"},
    "epochs": 1,
    "gpus": [],
    "workers": 0,
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LSHFM_CACHE", str(tmp_path / "stores"))
    return tmp_path


def test_what_is_called_becomes_the_commands_words() -> None:
    given = {
        "dataset.root": Path("/a b"),
        "dataset": {"option": "voc2007", "size": 32},
        "loss": ["l2", "kl_sigmoid"],
        "stage": "1",
        "name": None,
        "deterministic": True,
        "schedule": {"warmup": 0.5},
    }
    assert words_of(given) == [
        "dataset=voc2007", "loss=[l2,kl_sigmoid]", "stage='1'", "name=null", "deterministic=true",
        "dataset.root='/a b'", "dataset.size=32", "schedule.warmup=0.5",
    ]  # fmt: skip
    with pytest.raises(InputError, match="model=<object"):
        words_of({"model": object()})


def test_a_run_and_its_record(folder: Path) -> None:
    """Training, a finished run, both stages and an evaluation: each returns what results.json holds."""
    argv = list(sys.argv)
    trained = lshfm.train(**TINY, name="teacher")
    assert (trained.name, trained.command, trained.metric) == ("teacher", "train", "voc2010 mAP")
    assert json.loads((folder / "outputs/train/teacher/results.json").read_text())["score"] == trained.score
    assert trained.command_line is not None
    assert trained.command_line[:3] == ["lshfm", "train", "model=resnet8"]
    assert lshfm.train(**TINY, name="teacher") == trained  # which is finished
    student = {name: value for name, value in TINY.items() if name != "model"} | {"student": "resnet8"}
    mimicked = lshfm.mimic(**student, teacher="teacher", loss=["l2", "kl_sigmoid"], name="student")
    assert (mimicked.name, mimicked.stage, mimicked.loss) == ("student_stage2", "2", "l2-kl_sigmoid")
    evaluated = lshfm.eval(checkpoint="teacher", gpus=[], workers=0)
    assert evaluated.command == "eval"
    assert evaluated.score == trained.score
    assert sys.argv == argv
    with pytest.raises(InputError, match="holds a run with other settings"):
        lshfm.train(**TINY | {"lr": 0.3}, name="teacher")


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"epoch": 3}, r"epoch: no such key or group \(did you mean 'epochs'"),
        ({"dataset": "voc2008"}, r"dataset=voc2008: no such dataset \(did you mean 'voc2007'"),
        ({"epochs": -1}, "epochs=-1: must be at least 1"),
        ({"gpus": 0}, "gpus=0 could mean two things"),
        ({"model": {"option": "resnet8", "weights": "nowhere.pth"}}, "nowhere.pth: no such file"),
        ({"config_dir": "nowhere"}, "is no folder"),
    ],
)
def test_refusals_are_exceptions(folder: Path, settings: dict[str, Any], fault: str) -> None:
    with pytest.raises(lshfm.LshfmError, match=fault):
        lshfm.train(**settings)
    assert list(folder.iterdir()) == []


@pytest.mark.slow
def test_ranks_are_started_from_a_script(folder: Path) -> None:
    trained = lshfm.train(**TINY, ranks=2, name="two")
    assert (trained.name, (trained.hardware or {})["ranks"]) == ("two", 2)
