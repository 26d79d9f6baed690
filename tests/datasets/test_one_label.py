"""A manifest whose column `label` holds one label a row is of the task singlelabel, unless told otherwise."""

from pathlib import Path

import pytest

from lshfm.config.compose import compose, conf_folder
from lshfm.config.schema import Train
from lshfm.config.words import rewrite
from lshfm.datasets.manifest import Manifest
from lshfm.datasets.one_label import has_one_label
from lshfm.errors import InputError


@pytest.mark.parametrize(("name", "text", "expected"), [
    ("train.csv", "path,label\na,cat\nb,dog\n", True),
    ("train.csv", "Label\tIMAGE\ncat\ta\n", True),
    ("train.jsonl", '{"path": "a", "label": "cat"}\n{"path": "b", "label": ["dog"]}\n', True),
    ("train.csv", "path,labels\na,cat\n", False),  # any number of them
    ("train.csv", "path,label\na,cat;dog\n", False),
    ("train.csv", "path,label\na,cat\na,dog\n", False),  # a row a label
    ("train.csv", "path,label\na,\nb,cat\n", False),
    ("train.csv", "path,label,difficult\na,cat,dog\n", False),
    ("train.csv", "path,label,xmin,ymin,xmax,ymax\na,cat,1,1,2,2\n", False),
    ("train.csv", "path,cat,dog\na,1,0\n", False),
    ("train.jsonl", '{"path": "a", "label": ["cat", "dog"]}\n', False),
    ("train.csv", 'path,label\na,"cat', False),
    ("train.csv", "", False),
    ("other.csv", "path,label\na,cat\n", False),
])  # fmt: skip
def test_it_is_told_by_the_column(tmp_path: Path, name: str, text: str, expected: bool) -> None:
    (tmp_path / name).write_text(text)
    assert has_one_label(str(tmp_path), ["train", "test"], None) is expected


def test_a_separator_and_a_test_split_alone(tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text("path,label\na,cat|dog\n")
    assert has_one_label(str(tmp_path), ["train", "test"], None)
    assert not has_one_label(str(tmp_path), ["train", "test"], "pipe")
    assert not has_one_label(str(tmp_path / "nowhere"), ["train"], None)


def test_of_a_long_file_the_beginning_is_read(tmp_path: Path) -> None:
    rows = "".join(f"{i:060d},cat\n" for i in range(8000))
    (tmp_path / "train.csv").write_text(f"path,label\n{rows}last,cat;dog\n")
    assert has_one_label(str(tmp_path), ["train"], None)


def test_settings_follow_and_what_is_typed_wins(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("path,label\na,cat\nb,dog\n")
    words = ["dataset=manifest", f"dataset.root={tmp_path}"]

    def found(*typed: str) -> tuple[str, str, str | None, bool]:
        with conf_folder():
            job = compose(Train, rewrite("train", [*words, *typed]))
        dataset = job.settings.dataset
        return dataset.task, dataset.metric, job.settings.loss.option, "dataset.task" in job.changed

    assert found() == ("singlelabel", "top1", "ce", False)
    assert found("dataset.task=multilabel") == ("multilabel", "uninterpolated", "bce", True)
    (tmp_path / "train.csv").write_text("path,labels\na,cat\nb,dog\n")
    assert found() == ("multilabel", "uninterpolated", "bce", False)


def test_both_columns_are_refused(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("path,label,labels\na,cat,cat\n")
    says = r"line 1: both 'label' and 'labels': 'label' holds one label a row, 'labels' any number; leave one out"
    with pytest.raises(InputError, match=says):
        Manifest(tmp_path).split("train")
