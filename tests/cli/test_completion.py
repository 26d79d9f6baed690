"""Tab in a shell: commands, groups, options, keys and values."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lshfm.config import completion
from lshfm.config.completion import SCRIPTS, candidates, script
from lshfm.config.schema import COMMANDS
from lshfm.errors import InputError
from tests.cli.conftest import here

LSHFM = Path(sys.executable).with_name("lshfm")
ASK = 'COMP_LINE="$1"; COMP_POINT=${#1}; _lshfm; printf "%s\\n" "${COMPREPLY[@]}"'


def completed(line: str) -> list[str]:
    """What bash is told at the end of a line, by the script that the command prints."""
    written = subprocess.run([LSHFM, "completion", "bash"], capture_output=True, text=True, check=True).stdout
    path = {"PATH": f"{LSHFM.parent}:{os.environ['PATH']}"}
    command = ["bash", "--norc", "-c", f"{written}\n{ASK}", "bash", line]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | path)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("lshfm tr", ["train"]),
        ("lshfm train dat", candidates(["train", "dat"], [])),
        ("lshfm train dataset=co", ["coco", "coco2014", "coco_detection"]),
        ("lshfm mimic teacher=resnet8,resnet8", ["resnet8,resnet8", "resnet8,resnet8x4"]),
        ("lshfm train nothing=", []),
    ],
)
def test_bash_completes(line: str, found: list[str]) -> None:
    assert completed(line) == found


@pytest.mark.skipif(shutil.which("fish") is None, reason="no fish")
@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("lshfm train dataset=co", ["dataset=coco", "dataset=coco2014", "dataset=coco_detection"]),
        ("lshfm train dataset.root=pict", ["dataset.root=pictures/"]),
        ("lshfm eval pict", ["pictures/"]),
    ],
)
def test_fish_completes_words_and_paths(tmp_path: Path, line: str, found: list[str]) -> None:
    (tmp_path / "pictures").mkdir()
    command = ["fish", "--no-config", "-c", f"{SCRIPTS['fish']}\ncomplete -C '{line}'"]
    path = {"PATH": f"{LSHFM.parent}:{os.environ['PATH']}"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | path, cwd=tmp_path)
    assert done.stdout.split() == found


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([], [*COMMANDS, "help", "completion", "--help", "--version"]),
        (["ev"], ["eval"]),
        (["help", "tr"], ["train"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
        (["train", "schedule="], ["schedule=cosine", "schedule=onecycle"]),
        (["eval", "thresholds="], ["thresholds=tune", "thresholds=none"]),
        (["nothing", ""], []),
        (["train", "optimizer="], ["optimizer=sgd", "optimizer=adam", "optimizer=adamw"]),
        (["train", "sync_bn=t"], ["sync_bn=true"]),
        (["train", "dataset.cache=o"], ["dataset.cache=on", "dataset.cache=off"]),
        (["train", "lr="], []),
        (
            ["train", "schedule."],
            [
                f"schedule.{key}="
                for key in ("cosine_epochs", "steps", "warmup", "warmup_steps", "initial_lr", "policy")
            ],
        ),
        (["train", "dataset=manifest", "dataset.un"], ["dataset.unlabelled="]),
        (["train", "dataset=nothing", "dataset.un"], []),
        (["mimic", "student.i"], ["student.init="]),
        (["mimic", "stage="], ["stage=1", "stage=2", "stage=both"]),
        (["mimic", "loss=ls"], ["loss=lsh", "loss=lsh_s", "loss=lshl2", "loss=lshl2_s"]),
        (["train", "loss="], ["loss=asl", "loss=bce", "loss=ce", "loss=detector"]),
        (["mimic", "experiment=voc2007_r"], ["experiment=voc2007_resnet18_mimic", "experiment=voc2007_resnet50_mimic"]),
        (["eval", "check"], ["checkpoint=", "checkpoint_dir="]),
        (["check", "-"], ["--help", "-m", "--cfg", "--config-dir"]),
        (["train", "sett"], ["settings="]),
        (["check", "sett"], []),
    ],
)
def test_what_a_word_can_become(words: list[str], found: list[str]) -> None:
    assert sorted(candidates(words, list(COMMANDS))) == sorted(found)


def test_keys_that_nobody_types_are_left_out() -> None:
    keys = candidates(["mimic", "dataset=shapes", ""], [])
    assert len(keys) == len(set(keys))
    assert not {"recipe=", "published=", "stage1=", "dataset.preset=", "dataset._target_="} & set(keys)
    assert {"teacher=", "loss.beta=", "loss.hash_num=", "dataset.num_train=", "augment.flip="} <= set(keys)


def test_every_shell_asks_the_command(tmp_path: Path) -> None:
    for shell in SCRIPTS:
        assert "--complete" in script([shell])
        assert here(tmp_path, "completion", shell) == completion.SCRIPTS[shell]
    assert "lshfm completion fish >" in here(tmp_path, "completion", "--help")
    for words in ([], ["tcsh"], ["bash", "zsh"]):
        with pytest.raises(InputError, match="lshfm completion takes one of bash, zsh, fish, and got"):
            script(words)
    assert here(tmp_path, "--complete", "train", "dataset=voc2") == "dataset=voc2007\n"
