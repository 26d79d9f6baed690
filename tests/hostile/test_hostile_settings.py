"""Overrides and YAML files that are wrong or meant ill: one message, nothing written, and nothing in a file runs.

What is named on the command line, or as `_target_` in a folder given by --config-dir, is the user's own choice of
code. A YAML tag is none, nor is anything in a checkpoint or a data set.
"""

from pathlib import Path

import pytest

from tests.cli.conftest import Refuse

pytestmark = pytest.mark.timeout(120)

SMALL = ("dataset.num_train=40", "dataset.num_eval=8", "dataset.size=16", "model=resnet8")

OVERRIDES = {
    "model._target_=os.system": "os.system does not take these settings",
    "model._target_=builtins.eval": "builtins.eval does not take these settings",
    "dataset._target_=os.getcwd": "os.getcwd does not take these settings",
    "loss._target_=nowhere.Loss": "cannot import nowhere.Loss",
    "model._target_=[1]": "cannot import [1]",
    "model._target_=..": "cannot import ..",
    "+hydra.callbacks.x._target_=os.system": "os.system",
    "lr=${nothing}": "nothing",
    "lr=${lr}": "Recursive interpolation",
    "lr=${python:os.system}": "python",
    "lr=${oc.env:HOME}": "lr=/",
    "lr=${a": "cannot read",
    "lr=" + "[" * 3000 + "]" * 3000: "3000 brackets within each other",
    "lr=" + "{a:" * 500 + "1" + "}" * 500: "500 brackets within each other",
    "lr=\x00": "lr=",
    "epochs=" + "9" * 5000: "epochs",
    "name=\x1b[31m": "letters, digits",
    "name=../../x": "letters, digits",
    "output_dir=~nosuchuser/x": "output_dir=~nosuchuser/x: this machine knows no home",
    "dataset.cache_dir=~nosuchuser/x": "dataset.cache_dir=~nosuchuser/x: this machine knows no home",
    "model.weights=~nosuchuser/x": "model.weights=~nosuchuser/x: this machine knows no home",
    "dataset.num_train=abc": "dataset.num_train=abc must be a whole number",
    "dataset.num_train=1000000000000": "must be at most 1000000",
    "dataset.seed=abc": "dataset.seed=abc must be a whole number",
    "model.projection=1000000000000": "no room in memory",
    "experiment=../../etc/passwd": "no such experiment",
    "dataset=/etc/passwd": "takes an option's name, no path",
    "model=../dataset/shapes": "does not take these settings",
    "model=[1,2]": "a list of options holds their names",
    "model=[[resnet8]]": "a list of options holds their names",
    "loss=[bce,bce]": "an option is there twice",
    "loss=[]": "loss=[]: takes an option's name",
    "model={pool:GMP}": "takes an option's name; keys are set as model.KEY=...",
    "~epochs": "~epochs: groups and keys can be set, not left out",
    "epochs=99999999999999999999": "at most 1000000",
    "experiment=[voc2007_resnet34_baseline,b]": "experiment=b: no such experiment",
    "dataset.preset=1": "dataset.preset: must be keys",
    "model.weights=/dev/zero": "is not a file",
    "hydra/launcher=[null]": "a list of options holds their names",
}

OTHER_COMMANDS = [
    (["eval", "checkpoint=~nosuchuser/x"], "checkpoint=~nosuchuser/x: this machine knows no home"),
    (["eval", "checkpoint=/dev/zero"], "is not a regular file"),
    (["eval", "checkpoint=/etc"], "is a folder"),
    (["eval", "checkpoint=/etc/passwd"], "not a checkpoint"),
    (["mimic", "teacher=~nosuchuser/x"], "this machine knows no home"),
    (["mimic", "published=3"], "published=3: must be keys"),
    (["mimic", "loss.lshl2=3"], "a loss's name takes keys"),
    (["mimic", "loss.lshl2.terms=3"], "a loss's name takes keys"),
    (["mimic", "stage1.loss=[l2,1]"], "loss=[l2,1]: a list of options holds their names"),
    (["train", "-m", "model=[1],[2]"], "a list of options holds their names"),
    (["train", "-m", "seed=range(1000000000)"], "would be 1000000000 jobs"),
    (["train", "-m", "seed=range(0,1e300)"], "are the most"),
    (["train", "-m", "seed=range(200)", "lr=range(0,1,0.01)"], "would be 20000 jobs"),
    (["train", "dataset=voc2007", "dataset.root=~nosuchuser/x"], "dataset.root=~nosuchuser/x"),
    (["train", "dataset=coco", "dataset.root=.", "dataset.annotations=5"], "dataset.annotations=5 must be a text"),
    (["train", "dataset=manifest", "dataset.root=null"], "dataset.root=None must be a text"),
]


@pytest.mark.parametrize("word", OVERRIDES, ids=lambda word: word[:40])
def test_overrides(refuse: Refuse, word: str) -> None:
    assert OVERRIDES[word] in refuse("train", *SMALL, word)


@pytest.mark.parametrize(("words", "message"), OTHER_COMMANDS, ids=lambda value: " ".join(value)[:50])
def test_other_commands(refuse: Refuse, words: list[str], message: str) -> None:
    assert message in refuse(*words)


TAGS = {
    "apply": "width: !!python/object/apply:os.mkdir [hacked]",
    "new": "width: !!python/object/new:os.mkdir [hacked]",
    "apply as a dictionary": "width: !!python/object/apply:os.mkdir {args: [hacked]}",
    "of a key": "? !!python/object/apply:os.mkdir [hacked]\n: 1",
    "object": "width: !!python/object:pathlib.Path {}",
    "name": "width: !!python/name:os.system ''",
    "module": "width: !!python/module:os ''",
    "tuple": "width: !!python/tuple [1, 2]",
    "own": "width: !mine 3",
    "at the top": "--- !!python/object/apply:os.mkdir [hacked]",
}


@pytest.mark.parametrize("kind", TAGS)
def test_tags_that_name_code_do_not_run(refuse: Refuse, tmp_path: Path, kind: str) -> None:
    (tmp_path / "own/model").mkdir(parents=True)
    (tmp_path / "own/model/mine.yaml").write_text(f"_target_: lshfm.models.cifar.cifar_classifier\n{TAGS[kind]}\n")
    said = refuse("train", "--config-dir", "own", "model=mine")
    assert ("must hold keys" if kind == "of a key" else "a YAML file cannot be read") in said
    assert not (tmp_path / "hacked").exists()


BROKEN = {
    "tabs": "\tarch: resnet8",
    "unclosed": "arch: [resnet8",
    "nul": "arch: \0",
    "not utf-8": b"arch: \xff",
    "two documents": "arch: resnet8\n---\narch: resnet14",
    "unknown alias": "arch: *nothing",
    "twice": "arch: resnet8\narch: resnet14",
    "a list": "- resnet8",
    "a text": "resnet8",
    "nested too deep": "arch: " + "[" * 2000 + "]" * 2000,
    "nine to the ninth": "\n".join(
        [f"a0: &a0 {[0] * 9}"] + [f"a{i}: &a{i} [{f'*a{i - 1},' * 9}]" for i in range(1, 9)]
    ),
    "a list in itself": "arch: &a [*a]",
}


NO_KEYS = {
    "a number": b"3",
    "a list": b"- resnet8",
    "no key": b"null: 3",
    "a list as a key": b"[1]: 3",
    "UTF-16": b"\xff\xfe\0",
}


@pytest.mark.parametrize("kind", NO_KEYS)
def test_files_without_keys_are_named(refuse: Refuse, tmp_path: Path, kind: str) -> None:
    (tmp_path / "own/model").mkdir(parents=True)
    (tmp_path / "own/model/mine.yaml").write_bytes(NO_KEYS[kind])
    assert "own/model/mine.yaml: " in refuse("train", "--config-dir", "own", "model=mine")


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_yaml(refuse: Refuse, tmp_path: Path, kind: str) -> None:
    (tmp_path / "own/model").mkdir(parents=True)
    text = BROKEN[kind]
    (tmp_path / "own/model/mine.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert refuse("train", "--config-dir", "own", "model=mine")
