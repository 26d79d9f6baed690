"""Words of other tools are answered with ours."""

import sys

import pytest
from hydra.core.global_hydra import GlobalHydra

from lshfm import cli
from lshfm.config import slips
from lshfm.config.schema import COMMANDS
from lshfm.config.slips import all_keys, refuse_slips, synonym, timm_hint
from lshfm.errors import InputError

WORDS = [
    ("train", ["--epochs", "3"], "--epochs: write epochs=3"),
    ("train", ["--epochs=3"], "--epochs=3: write epochs=3"),
    ("train", ["--batch-size", "8"], "--batch-size: write batch_size=8"),
    ("train", ["--lr"], "--lr: write lr=VALUE"),
    ("train", ["--learning-rate", "1"], "--learning-rate: no such flag; it is lr here, without dashes."),
    ("train", ["--config", "a.yaml"], "it is settings here (settings=FILE takes the config.yaml of a run folder)"),
    ("train", ["--nonsense"], "--nonsense: no such flag"),
    ("train", ["model.weights="], "model.weights= has no value: imagenet, none (random weights) or a file"),
    ("mimic", ["student.init=''"], "student.init= has no value: imagenet, none (random weights) or a file"),
    ("train", ["lr="], "lr= has no value: write lr=VALUE, or leave it out for its default"),
    ("train", ["dataset=/a/b"], "dataset=/a/b: takes an option's name, no path. Images of your own are "
     "dataset=manifest dataset.root=/a/b; others dataset=NAME dataset.root=/a/b, NAME of boxes, cifar10, cifar100, "),
    ("mimic", ["model=resnet8"], "model=resnet8: mimic has two networks, teacher=... and student=...: "
     "write student=resnet8"),
    ("mimic", ["model.pool=GMP"], "write student.pool=GMP"),
    ("check", ["model=resnet8"], "model=resnet8: lshfm check needs no network"),
]  # fmt: skip


@pytest.mark.parametrize(("command", "words", "message"), WORDS)
def test_slips_are_answered(command: str, words: list[str], message: str) -> None:
    with pytest.raises(InputError) as caught:
        refuse_slips(command, words)
    assert message in str(caught.value)


def test_what_hydra_takes_is_no_slip() -> None:
    refuse_slips(
        "train", ["-m", "--cfg", "job", "--config-dir", "a=b", "--multi", "--cfg=job", "lr=1", "dataset=voc2007"]
    )
    refuse_slips("eval", ["model=resnet8", "checkpoint=a/b", "name=a="])


KEYS = [
    ("train", "device", "it is gpus here (gpus=[0] is the first GPU, gpus=[] the CPU)"),
    ("train", "amp", "it is precision=bf16 here"),
    ("train", "pretrained", "it is model.weights=imagenet here"),
    ("mimic", "pretrained", "it is student.weights=imagenet here"),
    ("eval", "weights", "it is checkpoint here"),
    ("train", "weights", "it is model.weights here (imagenet, none or a file)"),
    ("train", "BS", "it is batch_size here"),
    ("eval", "batch-size", None),
    ("eval", "bs", "it is eval_batch_size here"),
    ("mimic", "arch", "it is student here (student=..., and teacher=... for the teacher)"),
    ("check", "num_workers", "it is workers here"),
    ("check", "lr0", None),
    ("train", "conf", "eval reports precision and recall at 0.5, or at its threshold="),
    ("eval", "conf", "it is threshold here"),
    ("train", "wholly_new", None),
]


@pytest.mark.parametrize(("command", "name", "clause"), KEYS)
def test_keys_of_other_tools(command: str, name: str, clause: str | None) -> None:
    assert synonym(command, name) == clause


def test_every_answer_is_a_key_of_some_command() -> None:
    known = set().union(*map(all_keys, COMMANDS))
    for name, answers in slips.SYNONYMS.items():
        assert name not in known
        for answer in answers:
            assert answer.partition(": ")[0].partition("=")[0] in known | {slips._NONE}, name


def test_a_network_of_timms(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("timm")
    hint = " timm's networks are student=timm student.arch=efficientnet_b0."
    assert timm_hint("mimic", "student", "efficientnet_b0") == hint
    assert timm_hint("train", "model", "resnet43") == ""
    assert timm_hint("train", "dataset", "efficientnet_b0") == ""
    monkeypatch.setattr(slips, "_timm_names", lambda: iter(()))  # not installed
    assert timm_hint("mimic", "student", "efficientnet_b0") == hint
    assert timm_hint("train", "model", "resnet43") == ""


LINES = [
    (["test"], "no such command: test; it is lshfm eval checkpoint=FILE (lshfm --help)"),
    (["distill"], "no such command: distill; it is lshfm mimic (lshfm --help)"),
    (["resume"], "no such command: resume; the same command again continues an unfinished run (lshfm --help)"),
    (["infer"], "it is lshfm predict checkpoint=FILE input=FOLDER (lshfm --help)"),
    (["train", "device=cuda"], "device: no such key or group; it is gpus here (gpus=[0] is the first GPU, gpus=[] the "
     "CPU). See lshfm train --help"),
    (["train", "model=efficientnet_b0"], "model=efficientnet_b0: no such model"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "message"), LINES)
def test_the_command_line_says_so(
    words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["lshfm", *words])
    GlobalHydra.instance().clear()
    assert cli.main() == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("words", [["help", "recipes"], ["recipes", "help"], ["check", "help"], ["help", "check"]])
def test_help_before_or_after_the_command(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["lshfm", *words])
    GlobalHydra.instance().clear()
    assert cli.main() == 0
    assert f"usage: lshfm {(set(words) - {'help'}).pop()}" in capsys.readouterr().out
