"""Help, versions, and the one clear message for what a user gets wrong."""

import re
from pathlib import Path

import pytest

import lshfm
from tests.cli.conftest import Refuse, Run

NEAREST = [
    (["trian"], ["no such command: trian", "train"]),
    (["train", "dataset=voc2008"], ["dataset=voc2008", "(did you mean 'voc2007'", "manifest"]),
    (["train", "model=resnet43"], ["model=resnet43", "(did you mean 'resnet4"]),
    (["train", "datset=voc2007"], ["datset", "(did you mean 'dataset'?)"]),
    (["train", "epoch=3"], ["epoch", "(did you mean 'epochs'?)"]),
    (["train", "dataset.rot=x", "dataset=voc2007"], ["(did you mean 'dataset.root'?)"]),
    (["train", "experiment=voc2007_resnet34"], ["(did you mean 'voc2007_resnet34_baseline'?)"]),
    (["train", "+nonsense=3"], ["nonsense: no such key"]),
    (["eval", "checkpoint=x.ckpt", "epochs=3"], ["epochs: no such key"]),
    (["eval", "experiment=voc2007_resnet34_baseline"], ["lshfm train experiment=voc2007_resnet34_baseline"]),
    (["train", "experiment=voc2007_resnet18_mimic"], ["lshfm mimic experiment=voc2007_resnet18_mimic"]),
    (["mimic", "experiment=voc2007_resnet18_mimci"], ["(did you mean 'voc2007_resnet18_mimic'?)"]),
    (["mimic", "student=resnet43"], ["resnet43: no such", "(did you mean 'resnet4"]),
    (["mimic", "stage=3"], ["stage=3: no such stage", "1, 2, both"]),
    (["mimic", "label_loss=bec"], ["loss=bec: no such", "(did you mean 'bce'?)"]),
    (["mimic", "loss=lsh2"], ["loss=lsh2: no such loss (did you mean 'lsh"]),
    (["mimic", "stage1.teacher=resnet8"], ["teacher: the same for both stages"]),
    (["recipes", "voc2007"], ["lshfm recipes takes nothing else, and got voc2007"]),
]

VALUES = [
    ("epochs=-1", "at least 1"),
    ("epochs=1.5", "a whole number"),
    ("lr=abc", "a number"),
    ("lr=nan", "a finite number"),
    ("lr=inf", "a finite number"),
    ("lr=0", "above 0"),
    ("lr=[", "a number"),
    ("overwrite=maybe", "true or false"),
    ("optimizer=adm", "(did you mean 'adam'?)"),
    ("clip_grad=0", "above 0"),
    ("early_stop=0", "at least 1"),
    ("head_lr=-1", "above 0"),
    ("schedule=cosin", "(did you mean 'cosine'?)"),
    ("precision=fp16", "bf16"),
    ("freeze=[bn]", "bn_stats, bn_affine, backbone"),
    ("freeze=bn_stats", "a list"),
    ("dataset.holdout=1", "below 1"),
    ("dataset.metric=voc2011", "voc2010"),
    ("dataset.cache=never", "auto, on, off, device"),
    ("dataset.mean=[0.5]", "three numbers"),
    ("augment.flip=2", "at most 1"),
    ("schedule.cosine_epochs=3", "at least epochs"),
    ("accumulate=3", "must divide batch_size=32"),
    ("batch_size=4001", "more than the 4000 images"),
    ("select=best", "allow_test=true"),
    ("gpus=0", "gpus=[0]"),
    ("gpus=0", "gpus=[]"),
    ("gpus=[0,1]", "this machine has no CUDA device"),
    ("gpus=[99]", "gpus=[] runs on the CPU"),
    ("gpus=first", "a list of device numbers"),
    ("name=../x", "letters, digits"),
    ("dataset.eval_split=tset", "did you mean 'test'"),
    ("loss=[bce]", "loss"),
    ("model.pool=GOP", "GAP"),
    ("model.projection=0", "projection"),
    ("model.weights=nowhere.pth", "no such file"),
    ("model.weights=imagenet", "no ImageNet weights"),
]


@pytest.mark.parametrize(("words", "parts"), NEAREST)
def test_unknown_names_are_answered_with_the_nearest(refuse: Refuse, words: list[str], parts: list[str]) -> None:
    message = refuse(*words)
    assert all(part in message for part in parts), message


@pytest.mark.parametrize(("word", "part"), VALUES)
def test_a_bad_value_is_named_with_what_is_allowed(refuse: Refuse, word: str, part: str) -> None:
    message = refuse("train", word)
    assert part in message
    assert word.partition("=")[0].rpartition("_")[2].rpartition(".")[2] in message


def test_help_explains_groups_and_keys(run: Run) -> None:
    assert "train" in run("--help").stdout
    assert run("--version").stdout == f"lshfm {lshfm.__version__}\n"
    page = run("train", "--help").stdout
    for word in (
        "model: ",
        "resnet34",
        "dataset: ",
        "voc2007",
        "experiment: ",
        "weight_decay",
        "[0.1]",
        "lshfm train ",
    ):
        assert word in page
    assert "dataset.root" in run("train", "dataset=coco2014", "--help").stdout
    assert "checkpoint" in run("eval", "--help").stdout
    page = " ".join(run("mimic", "--help").stdout.split())
    for word in (
        "teacher: ",
        "add _GMP or",
        "stage: 1, 2, both",
        "label_loss: asl, bce",
        "student.projection",
        "stage1.KEY",
    ):
        assert word in page


def test_recipes_are_listed_uncut_however_narrow_the_terminal(run: Run) -> None:
    page = run("recipes", COLUMNS="40").stdout
    lines = page.splitlines()
    assert "voc2007: resnet101 (GAP) -> mobilenet_v2 (GAP), teacher's mAP 93.27" in lines
    assert "coco2014: resnet101 (GMP) -> resnet101 (GAP), teacher's mAP 79.57" in lines
    rows = [re.split("  +", line.strip()) for line in lines]
    assert ["lshfm train experiment=voc2007_resnet34_baseline", "91.69", "ImageNet weights"] in rows
    command = "lshfm mimic experiment=voc2007_mobilenetv2_mimic stage=2 loss="
    assert [f"{command}lshl2", "90.14", "stage 1 with lshl2"] in rows
    assert [f"{command}kl", "-", "stage 1 with l2"] in rows
    assert page.count("\n  lshfm ") == 64 + 31 + 34
    assert page.count("; settings not published") == 5
    assert "usage: lshfm recipes" in run("recipes", "--help").stdout


def test_no_command_shows_the_overview(run: Run) -> None:
    assert "usage: lshfm" in run(code=2).stdout


def test_hydra_flags_work(run: Run, tmp_path: Path) -> None:
    shown = run("train", "dataset=voc2007", "dataset.root=~/a (b), c=d", "--cfg", "job").stdout
    assert "root: ~/a (b), c=d" in shown
    assert "model:" in shown
    assert "hydra" in run("train", "--hydra-help").stdout.lower()
    assert "see lshfm train --help" in run("train", "--nonsense", code=2).stderr
    assert not list(tmp_path.iterdir())


def test_an_image_size_too_small_for_the_network(refuse: Refuse) -> None:
    message = refuse("train", "model=vgg16_bn", "dataset.size=16")
    assert "dataset.size=16 is too small" in message
    assert "32" in message


def test_a_missing_root_is_asked_for(refuse: Refuse) -> None:
    assert "dataset.root=..." in refuse("train", "dataset=voc2007")
    assert "checkpoint=..." in refuse("eval")


def test_weights_are_a_choice_where_the_cache_has_none(refuse: Refuse, test_data: Path) -> None:
    message = refuse("train", "dataset=voc2007", f"dataset.root={test_data}")
    assert all(f"model.weights={choice}" in message for choice in ("imagenet", "PATH", "none"))


def test_help_takes_settings_and_refuses_bad_ones(run: Run, tmp_path: Path) -> None:
    (tmp_path / "conf/model").mkdir(parents=True)
    (tmp_path / "conf/model/mine.yaml").write_text("_target_: a.B\ndepth: 3\n")
    assert "model.depth  [3]" in run("train", "--help", "--config-dir", "conf", "model=mine").stdout
    assert "lr" in run("train", "--help", "dataset=voc2007", "dataset.root=~/a b(c)").stdout
    assert "no such key" in run("train", "--help", "foo=1", code=2).stderr
    assert "no such dataset" in run("train", "--help", "dataset=foo", code=2).stderr


def test_a_folder_that_cannot_be_written_to_is_named_first(refuse: Refuse, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "output_dir: " in refuse("train", "output_dir=file/x")
    assert "checkpoint_dir: " in refuse("train", "checkpoint_dir=file")
