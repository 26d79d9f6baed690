"""settings=FILE: a run's config.yaml leads to the same settings again."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from lshfm.config.compose import Job, compose, conf_folder, to_yaml
from lshfm.config.keys import options_of, plain
from lshfm.config.repeat import with_settings
from lshfm.config.schema import COMMANDS
from lshfm.config.words import rewrite
from lshfm.errors import InputError

CASES = [
    ("train", []),
    ("train", ["model=resnet8", "epochs=3", "freeze=[bn_stats]", "loss=asl", "loss.clip=0.1", "dataset.num_train=64"]),
    ("train", ["model=timm", "model.arch=vit_tiny", "name=it's", "deterministic=true"]),
    ("train", ["dataset=manifest", "dataset.root=~/a b(c), d", "dataset.eval_split=2007", "dataset.classes=[a,b]"]),
    ("train", ["experiment=voc2007_resnet101_GMP_baseline", "dataset.root=/x", "lr=0.02"]),
    ("mimic", ["stage=2", "loss=[l2,kl_sigmoid]", "loss.kl_sigmoid.weight=0.25", "teacher=a/b.ckpt"]),
    ("mimic", ["stage=1", "teacher=resnet32x4_GMP", "student=resnet8x4", "student.projection=true", "loss.std=0.5"]),
    ("mimic", ["stage=2", "experiment=coco_resnet101_GMP_mimic", "dataset.root=/x", "loss=lsh"]),
]


def composed(command: str, words: Sequence[str]) -> Job:
    with conf_folder():
        return compose(COMMANDS[command], rewrite(command, words))


def saved(folder: Path, job: Job, *, options: bool = True) -> str:
    """The word for a file with a job's settings."""
    head = {"options": options_of(job.settings)} if options else {}
    (folder / "config.yaml").write_text(to_yaml(head | plain(job.settings)))
    return f"settings={folder}/config.yaml"


@pytest.mark.parametrize("options", [True, False], ids=["today's file", "an older file"])
@pytest.mark.parametrize(("command", "words"), CASES, ids=[" ".join([command, *words]) for command, words in CASES])
def test_the_same_settings_again(tmp_path: Path, command: str, words: list[str], options: bool) -> None:
    job = composed(command, words)
    again = composed(command, with_settings(command, [saved(tmp_path, job, options=options)]))
    there, here = plain(job.settings), plain(again.settings)
    if "student" in there:  # auto is true
        there["student"]["projection"] = here["student"]["projection"]
    assert here == there
    assert options_of(again.settings) == options_of(job.settings)
    changed = {key: str(value) for key, value in again.changed.items() if key != "student.projection"}
    assert changed == {key: str(value) for key, value in job.changed.items() if key != "student.projection"}


@pytest.mark.slow
def test_what_is_typed_wins_and_what_follows_from_it_follows(tmp_path: Path) -> None:
    word = saved(tmp_path, composed("train", ["model=resnet8", "epochs=3", "model.pool=GMP", "lr=0.3"]))
    again = composed("train", with_settings("train", ["epochs=5", word])).settings
    assert (again.epochs, again.schedule.cosine_epochs, again.lr, again.model.pool) == (5, 5, 0.3, "GMP")
    assert with_settings("train", ["epochs=5", f"settings={tmp_path}"]) == with_settings("train", ["epochs=5", word])
    other = composed("train", with_settings("train", [word, "model=resnet14"])).settings
    assert (other.epochs, other.model.option, other.model.pool) == (3, "resnet14", "GAP")
    assert with_settings("train", ["-m", word, "lr=1,2"])[-2:] == ["-m", "lr=1,2"]
    assert not [each for each in with_settings("train", ["-m", word, "lr=1,2"]) if each.startswith("lr=0")]


@pytest.mark.slow
def test_a_width_of_a_run_is_a_projection(tmp_path: Path) -> None:
    word = saved(tmp_path, composed("mimic", ["stage=2"]))
    path = tmp_path / "config.yaml"
    values = yaml.safe_load(path.read_text())
    for width, means in ((64, True), (None, False)):
        values["student"]["projection"] = width
        path.write_text(yaml.safe_dump(values))
        assert composed("mimic", with_settings("mimic", [word])).settings.student.projection is means


def test_what_no_settings_are(tmp_path: Path) -> None:
    word = saved(tmp_path, composed("train", []))
    with pytest.raises(InputError, match=r"config.yaml are of lshfm train, not of lshfm mimic$"):
        with_settings("mimic", [word])
    with pytest.raises(InputError, match="give one file, not 2"):
        with_settings("train", [word, word])
    with pytest.raises(InputError, match=r"^settings=nowhere.yaml: cannot be read: No such file or directory$"):
        with_settings("train", ["settings=nowhere.yaml"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: this folder is no run's: it holds no config.yaml$"):
        with_settings("train", [f"settings={tmp_path}/empty"])
    with pytest.raises(InputError, match=r"^settings=~no_such_user/a.yaml: cannot be read: Could not determine home"):
        with_settings("train", ["settings=~no_such_user/a.yaml"])
    for text in ("- a\n", "a: 1\n", "a: [\n"):
        (tmp_path / "config.yaml").write_text(text)
        with pytest.raises(InputError, match=r"holds no settings|cannot be read"):
            with_settings("train", [word])
