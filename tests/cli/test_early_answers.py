"""What is wrong with a command line is said before torch is imported."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lshfm.runs.sweep import JobState, SweepRecord
from tests.cli.conftest import Refuse, here

# Each command in a child of its own, of a process that has no more imported than the command line itself.
SCRIPT = """
import json, os, sys
from lshfm import cli
for number, words in enumerate(json.load(sys.stdin)):
    if os.fork() == 0:
        sys.argv, sys.stderr = ["lshfm", *words], open(f"{sys.argv[1]}/{number}", "w")
        code = cli.main()
        print(json.dumps([code, *sorted({"torch", "timm", "torchvision"} & set(sys.modules))]), file=sys.stderr)
        sys.stderr.flush()
        os._exit(0)
    os.wait()
"""
COMMANDS = [
    (["train", "epochs=abc"], "epochs=abc: must be a whole number"),
    (["train", "gpus=0"], "gpus=0 could mean two things: gpus=[0] is the first GPU, gpus=[] is the CPU"),
    (["train", "dataset=voc2007", "dataset.root=nowhere"], "No VOC2007 at dataset.root="),
    (["train", "dataset=coco", "dataset.root=nowhere"], "dataset.root="),
    (["train", "model.weights=nowhere.pth"], "model.weights=nowhere.pth: no such file; give a file, imagenet or none"),
    (
        ["train", "model=timm", "model.arch=resnet18", "model.pretrained=true"],
        "model.pretrained=true: the key is model.weights=imagenet here",
    ),
    (
        ["mimic", "student=timm", "student.arch=resnet18", "student.pretrained=true"],
        "student.pretrained=true: the key is student.weights=imagenet here",
    ),
    (["train", "epochs=3", "freeze_epochs=3"], "freeze_epochs=3 must be less than epochs=3"),
    (["train", "freeze_epochs=1", "freeze=[backbone]"], "freeze=[backbone] is for all epochs, freeze_epochs=1 for"),
    (["train", "early_stop=3"], "early_stop=3 would end the run by its score on the test split"),
    (["train", "schedule=onecycle", "schedule.warmup=1"], "schedule.warmup=1.0: schedule=onecycle has its own way"),
    (["train", "loss.pos_weight=[1,-2]"], "loss.pos_weight=[1, -2] must be a list of finite numbers above 0"),
    (["train", "loss.pos_weight=[1,2]"], "loss.pos_weight has 2 numbers and the data set 12 classes: give one a class"),
    (["mimic", "label_loss.label_smoothing=1"], "label_loss.label_smoothing=1 must be a number from 0 to below 1"),
    (["mimic", "stage2.freeze_epochs=10"], "freeze_epochs=10 must be less than epochs=10"),
    (["mimic", "lr=-1"], "lr=-1.0: must be above 0"),
    (["mimic", "gpus=first"], "gpus=first: must be a list of device numbers"),
    (["mimic"], "no finished resnet20 on shapes is in checkpoints. Train one:\n  lshfm train dataset=shapes"),
    (["mimic", "teacher=a.ckpt"], "teacher=a.ckpt: no network, no file and no checkpoint in checkpoints is called so"),
    (["mimic", "stage=2", "student.init=b.ckpt"], "student.init=b.ckpt: no such file; give a file, imagenet or none"),
    (["mimic", "stage=1", "student.weights=b.pth"], "student.weights=b.pth: no such file"),
    (["eval", "checkpoint=c.ckpt"], "c.ckpt: no such file"),
    (["eval", "checkpoint=c.ckpt", "eval_batch_size=x"], "eval_batch_size=x: must be a whole number"),
    (["eval", "checkpoint=c.ckpt", "gpus=0"], "gpus=0 could mean two things"),
    (["export", "checkpoint=c.ckpt", "format=onnx"], "c.ckpt: no such file"),
    (["predict", "checkpoint=c.ckpt", "input=x.jpg"], "c.ckpt: no such file"),
    (["check", "dataset=manifest", "dataset.root=nowhere"], "dataset.root="),
    (["train", "-m", "lr=0.1,abc"], "job 2 of 2: lr=abc: lr=abc: must be a number"),
]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What each command answered, and in its last line the exit code and what it had imported."""
    home, said = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("said")
    given = json.dumps([words for words, _ in COMMANDS])
    subprocess.run([sys.executable, "-c", SCRIPT, said], cwd=home, input=given, text=True, check=True)
    assert not list(home.iterdir())
    return [(said / str(number)).read_text() for number in range(len(COMMANDS))]


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(COMMANDS)), ids=[" ".join(words) for words, _ in COMMANDS])
def test_answered_without_torch(answers: list[str], number: int) -> None:
    assert answers[number].startswith(f"lshfm: error: {COMMANDS[number][1]}")
    assert json.loads(answers[number].splitlines()[-1]) == [2]


def test_files_are_rank_0s_to_look_at(refuse: Refuse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")  # and not all else that torchrun sets, which comes before the files
    assert refuse("eval", "checkpoint=nowhere.ckpt") == "nowhere.ckpt: no such file"
    assert "RANK is set" in refuse("train", "model.weights=nowhere.pth")


def test_a_sweeps_jobs_are_checked_before_the_first_starts(refuse: Refuse) -> None:
    message = refuse("mimic", "-m", "stage=1,2", "lr=0.1,-2")
    assert message == "job 2 of 4: stage=1 lr=-2: lr=-2.0: must be above 0"


@pytest.mark.slow
def test_a_sweep_says_which_job_is_at_work_and_which_failed(tmp_path: Path) -> None:
    tiny = ("model=resnet8", "dataset.num_train=64", "dataset.num_eval=32", "dataset.size=16", "dataset.cache=off")
    words = ("gpus=[]", "workers=0", "epochs=1", "accumulate=1,3")
    said = here(tmp_path, "train", "-m", *tiny, *words, "sweep.name=a", code=1).splitlines()
    assert [line.partition(" mAP")[0] for line in said if line.startswith("job ")] == [
        "job 1 of 2 (accumulate=1) started on CPU",
        "job 1: epoch 1, voc2010",
        "job 1 of 2 (accumulate=1) finished, best voc2010",
        "job 2 of 2 (accumulate=3) started on CPU",
        "job 2 of 2 (accumulate=3) failed: accumulate=3 must divide batch_size=32",
    ]
    assert said[-2:] == [
        "lshfm: error: 1 of 2 jobs did not finish:",
        "  job 2 (accumulate=3): accumulate=3 must divide batch_size=32 (outputs/sweeps/a/002.log)",
    ]
    record = SweepRecord.read(tmp_path / "outputs/sweeps/a")
    assert [job.state for job in record.jobs] == [JobState.FINISHED, JobState.FAILED]
    assert record.run_folders(tmp_path / "outputs/sweeps/a")[:1] == list((tmp_path / "outputs/train").iterdir())
    rows = (tmp_path / "outputs/sweeps/a/summary.csv").read_text().splitlines()
    assert [row.split(",")[:2] for row in rows] == [["rank", "accumulate"], ["1", "1"], ["2", "3"]]


def test_jobs_of_a_sweep_may_leave_each_other_checkpoints(tmp_path: Path) -> None:
    """A job's file is looked for once it is its turn."""
    said = here(tmp_path, "eval", "-m", "checkpoint=a.ckpt,b.ckpt", code=2).splitlines()
    assert said[1] == "lshfm: error: a.ckpt: no such file"
    assert said[3] == "lshfm: error: b.ckpt: no such file"
