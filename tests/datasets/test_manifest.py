"""Users' own manifests: what is accepted, what is refused and how it is said."""

import contextlib
import csv
import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from lshfm.datasets.annotations import Fault, Grade
from lshfm.datasets.images import refuse_missing
from lshfm.datasets.manifest import Manifest
from lshfm.datasets.split import Split
from lshfm.errors import InputError
from tests.agreement import require_agreement


def write(root: Path, **files: str | bytes) -> None:
    """`train_csv="..."` becomes train.csv, line ends as they are."""
    for name, text in files.items():
        stem, _, ending = name.rpartition("_")
        (root / f"{stem}.{ending}").write_bytes(text if isinstance(text, bytes) else text.encode())


def refused(root: Path, name: str = "train", **options: object) -> str:
    with pytest.raises(InputError) as error:
        Manifest(root, **options).split(name)
    return str(error.value)


def lines(*entries: object) -> str:
    return "".join(json.dumps(entry) + "\n" for entry in entries)


def check_example(split: Split, root: Path) -> None:
    assert split.classes == ("cat", "dog", "red kite")
    assert split.ids == ("a.jpg", "second", "/data/c.jpg")
    assert split.labels.tolist() == [[1, -1, 1], [-1, 0, 1], [1, -1, -1]]
    places = [split.images.where(i) for i in range(3)]
    assert places == [str(root / "a.jpg"), str(root / "sub/b.jpg"), "/data/c.jpg"]


CSV = (
    "path,labels,difficult,id\n"
    "a.jpg, cat ;red kite,,\n"
    '"sub/b.jpg","red kite",dog; red kite,second\n'
    "\n"
    "/data/c.jpg,cat;,cat,\n"
)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_csv(tmp_path: Path, mark: bytes, end: str) -> None:
    write(tmp_path, train_csv=mark + CSV.replace("\n", end).encode())
    check_example(Manifest(str(tmp_path)).split("train"), tmp_path)
    assert Manifest(tmp_path).split("train.csv").name == "train.csv"


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_json_lines(tmp_path: Path, mark: bytes, end: str) -> None:
    text = lines(
        {"path": "a.jpg", "labels": ["cat", "red kite"]},
        {"path": "sub/b.jpg", "labels": ["red kite"], "difficult": ["dog", "red kite"], "id": "second"},
        {"labels": ["cat"], "path": "/data/c.jpg", "difficult": ["cat"]},
    )
    write(tmp_path, train_jsonl=mark + (text + "\n").replace("\n", end).encode())
    check_example(Manifest(tmp_path).split("train"), tmp_path)


def test_json_strings_may_hold_unicode_line_ends(tmp_path: Path) -> None:
    write(tmp_path, train_jsonl='{"path": "a\u2028\x85b.jpg", "labels": ["x"]}')
    assert Manifest(tmp_path).split("train").ids == ("a\u2028\x85b.jpg",)


def test_pictures_are_read(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4), (10, 20, 30)).save(tmp_path / "a.png")
    write(tmp_path, train_csv="path,labels\na.png,x\n")
    assert Manifest(tmp_path).split("train").images.pixels(0, 2).tolist() == [[[10, 20, 30]] * 2] * 2


def test_classes_come_from_the_list_then_the_file_then_the_training_manifest(tmp_path: Path) -> None:
    write(tmp_path, train_csv="path,labels,difficult\na,dog,ant\nb,cat,\n", test_csv="path,labels\nc,dog\n")
    assert Manifest(tmp_path).split("test").classes == ("ant", "cat", "dog")
    assert Manifest(tmp_path, classes_from="test").split("test").classes == ("dog",)
    write(tmp_path, classes_txt=b"\xef\xbb\xbfdog\r\ncat\r\n\r\n ant \r\n")
    assert Manifest(tmp_path).split("test").classes == ("dog", "cat", "ant")
    assert Manifest(tmp_path, classes=["owl", "dog"]).split("test").classes == ("owl", "dog")


def test_bad_classes(tmp_path: Path) -> None:
    write(tmp_path, train_csv="path,labels\na,\n")
    assert "train.csv: names no class" in refused(tmp_path)
    assert refused(tmp_path, classes=[]) == "classes names no class"
    assert refused(tmp_path, classes=["a", "b", "a"]) == "classes: class 'a' is there twice"
    assert refused(tmp_path, classes="cat") == "classes=cat must be a list: classes=[cat]"
    assert r"classes: class 'a\tb' holds a control character" in refused(tmp_path, classes=["a\tb"])
    assert r"classes: class '\udcff' holds half" in refused(tmp_path, classes=["\udcff"])
    write(tmp_path, classes_txt="a\0b\n")
    assert r"classes.txt: class 'a\x00b' holds a control character" in refused(tmp_path)
    write(tmp_path, classes_txt="")
    assert "classes.txt: names no class" in refused(tmp_path)


def test_labels_unknown_to_the_training_split_are_named(tmp_path: Path) -> None:
    write(tmp_path, train_csv="path,labels\na,horse\n", test_csv="path,labels\nb,horse\nc,hors\n")
    assert f"{tmp_path / 'test.csv'}, line 3: unknown class 'hors' (did you mean 'horse'?)" in refused(tmp_path, "test")
    write(tmp_path, val_jsonl=lines({"path": "a", "labels": [], "difficult": ["horsee"]}))
    assert "val.jsonl, line 1: unknown class 'horsee' (did you mean 'horse'?)" in refused(tmp_path, "val")


def test_fifos_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "train.csv")
    assert "No split 'train'" in refused(tmp_path)
    write(tmp_path, test_csv=CSV)
    os.mkfifo(tmp_path / "classes.txt")
    assert "classes.txt: is not a regular file" in refused(tmp_path, "test")


def test_an_empty_root_is_refused() -> None:
    with pytest.raises(InputError, match=r"^root is empty: .* root=\. for the current one"):
        Manifest("")


def test_a_relative_root_is_shown_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert f" at root={tmp_path}.\nExpected" in refused(Path())


def test_splits_that_cannot_be_found(tmp_path: Path) -> None:
    assert "Expected train.csv or train.tsv or train.jsonl, with the columns path,labels." in refused(tmp_path)
    assert f"{tmp_path} holds nothing" in refused(tmp_path)
    assert "Expected train.csv, with the columns path,labels. " in refused(tmp_path, "train.csv")
    assert "'../train' is not a plain name" in refused(tmp_path, "../train")
    assert refused(tmp_path / "none").startswith(f"root={tmp_path / 'none'}: no such folder.\nExpected train.csv or")
    write(tmp_path, train_csv=CSV, train_jsonl="")
    assert "has train.csv and train.jsonl: name the split with its ending" in refused(tmp_path)


def test_unlabelled(tmp_path: Path) -> None:
    write(tmp_path, train_csv="path,labels\na,cat\nb,\n")
    assert "1 of 2 images of split 'train' have no label: b" in refused(tmp_path)
    split = Manifest(tmp_path, unlabelled="negative").split("train")
    assert split.labels.tolist() == [[1], [-1]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: no 'path' among no fields"),
        ("path,labels\n", "train.csv: lists no image"),
        ("path;labels\na;b\n", "line 1: no 'path' among path;labels"),
        ("labels\ncat\n", "line 1: no 'path' among labels: give each image's path in a field of that name"),
        ("path,lable\na,cat\n", "line 1: no 'labels' among path, lable: give each image's labels in a field of that"),
        ("a.jpg,path\na,cat\n", "line 1: no 'labels' among a.jpg, path: the first line must name the columns"),
        (",path,labels\n", "line 1: a column has no name: pandas writes one of row numbers, but not with index=False"),
        ("path,labels,dificult\n", "line 1: unknown field 'dificult' (did you mean 'difficult'?)"),
        ("path,labels,path\n", "line 1: field 'path' is there twice"),
        ("path,labels\na,cat\nb,cat,dog\n", "line 3: 3 fields, but the header has 2 (path,labels)"),
        ("path,labels\na\n", "line 2: 1 fields, but the header has 2"),
        ('path,labels\na,"cat\n', "broken CSV: unexpected end of data"),
        ('path,labels\n"a"b,cat\n', "line 2: broken CSV"),
        ("path,labels\n" + "a" * 200_000 + ",cat\n", "line 2: broken CSV: field larger than field limit"),
        ("path,labels\n ,cat\n", "line 2: the path is empty"),
        ("path,labels\n../a,cat\n", "line 2: '../a' leads out of the root"),
        ("path,labels\na/../../b,cat\n", "leads out of the root"),
        ("path,labels,id\na,cat,1\nb,dog,1\n", "image id '1' is there several times"),
        (b"path,labels\na,cat\nb,\xff\n", "line 3: not UTF-8"),
    ],
)
def test_bad_csv(tmp_path: Path, text: str | bytes, message: str) -> None:
    write(tmp_path, train_csv=text)
    assert message in refused(tmp_path)
    assert str(tmp_path / "train.csv") in refused(tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: broken JSON: Expecting property name"),
        ("[" * 100_000, "line 2: broken JSON"),
        ("1" * 5000, "line 2: broken JSON"),
        ("[1]", "line 2: expected an object with path, labels, difficult, id"),
        ('{"labels": []}', "line 2: no 'path' among labels"),
        ('{"path": "a", "labels": [], "lable": 1}', "line 2: unknown field 'lable' (did you mean 'label'?)"),
        ('{"path": "a", "labels": [1]}', "line 2: 'labels' must be a list of texts"),
        ('{"path": "a", "labels": [], "difficult": null}', "line 2: 'difficult' must be a list of texts"),
        ('{"path": 1, "labels": []}', "line 2: 'path' must be text"),
        ('{"path": "a", "labels": [], "id": 5}', "line 2: 'id' must be text"),
        ('{"path": "", "labels": []}', "line 2: the path is empty"),
        ('{"path": "../a", "labels": []}', "line 2: '../a' leads out of the root"),
        ('{"path": "y", "id": "z", "labels": []}', "image id 'z' is there several times"),
        ('{"path": "a\\ud800", "labels": []}', r"line 2: path 'a\ud800' holds half a character"),
        ('{"path": "a", "id": "\\udfff", "labels": []}', r"line 2: id '\udfff' holds half a character"),
        ('{"path": "a", "labels": ["\\ud800"]}', r"line 2: label '\ud800' holds half a character"),
        ('{"path": "a", "labels": [], "difficult": ["\\ud800"]}', r"line 2: label '\ud800' holds half a character"),
        ('{"path": "a", "labels": ["x\\ny"]}', r"line 2: label 'x\ny' holds a control character"),
        ('{"path": "a", "labels": ["\\u202eb"]}', r"line 2: label '\u202eb' holds a control character"),
        ('{"path": "a", "labels": ["\\u2028"]}', r"line 2: label '\u2028' holds a control character"),
    ],
)
def test_bad_json_lines(tmp_path: Path, line: str, message: str) -> None:
    write(tmp_path, train_jsonl=lines({"path": "z", "labels": ["cat"]}) + line + "\n")
    assert message in refused(tmp_path)


def test_an_empty_json_lines_file(tmp_path: Path) -> None:
    write(tmp_path, train_jsonl="\n\n")
    assert "train.jsonl: lists no image" in refused(tmp_path)


# Pieces that often make a manifest, so that the parsers are led far in before something is wrong.
WORDS = ["path,labels\n", "path", "labels", "difficult", "id", "a", "b.jpg", "../", ",", ";", '"', "[]"]
JSON = ['{"path": "a", "labels": ["x"]}', '{"path":', "{", "}", ":", "null", "\\ud800"]
SPACES = [" ", "\n", "\r\n", "\0", "\ufeff", "\u2028"]
PIECES = st.sampled_from([*WORDS, *JSON, *SPACES])
CONTENT = st.one_of(st.binary(max_size=80), st.lists(PIECES, max_size=25).map(lambda p: "".join(p).encode()))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=CONTENT, ending=st.sampled_from(["csv", "tsv", "jsonl"]), classes=st.sampled_from([None, ["x", "a"]]))
def test_any_file_is_a_split_or_refused(tmp_path: Path, content: bytes, ending: str, classes: list[str] | None) -> None:
    path = tmp_path / f"train.{ending}"
    path.write_bytes(content)
    source = Manifest(tmp_path, classes=classes, unlabelled="negative", classes_from=f"train.{ending}")
    require_agreement(source, f"train.{ending}")
    with contextlib.suppress(InputError):
        split = source.split(f"train.{ending}")
        assert len(split) > 0
        assert split.fingerprint()
        assert split.images.signature()


NAME = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"], exclude_characters=";"), min_size=1, max_size=6
).map(str.strip)
ROWS = st.lists(st.lists(NAME.filter(bool), max_size=3), min_size=1, max_size=5).filter(any)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS)
def test_csv_and_json_lines_agree(tmp_path: Path, rows: list[list[str]]) -> None:
    table = [["path", "labels"], *([f"{i}.jpg", ";".join(row)] for i, row in enumerate(rows))]
    with (tmp_path / "csv.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(table)
    text = lines(*({"path": f"{i}.jpg", "labels": row} for i, row in enumerate(rows)))
    (tmp_path / "json.jsonl").write_text(text)
    splits = [Manifest(tmp_path, classes_from=name, unlabelled="negative").split(name) for name in ("csv", "json")]
    assert splits[0].classes == splits[1].classes == tuple(sorted({name for row in rows for name in row}))
    assert splits[0].ids == splits[1].ids
    for row, labels in zip(rows, splits[0].labels, strict=True):
        assert {splits[0].classes[i] for i in range(len(labels)) if labels[i] == 1} == set(row)
    assert (splits[0].labels == splits[1].labels).all()


def shown(split: Split) -> list[set[str]]:
    return [{split.classes[column] for column, label in enumerate(row) if label == 1} for row in split.labels]


CAT_DOG = [{"cat"}, {"dog"}, {"cat", "dog"}]
TABLES = {
    "train.csv": "Image,Label\na.jpg,cat\nb.jpg,dog\nc.jpg,cat;dog\n",
    "tags.csv": "file_name,tags\n a.jpg , cat\nb.jpg\t,dog\nc.jpg,dog; cat\n",
    "rows.csv": "filename,class\na.jpg,cat\nc.jpg,cat\nb.jpg,dog\nc.jpg,dog\nc.jpg,dog\n",
    "tabs.tsv": "file\tlabels\na.jpg\tcat\nb.jpg\tdog\nc.jpg\tcat;dog\n",
    "tabs_called_csv.csv": "path\tlabels\na.jpg\tcat\nb.jpg\tdog\nc.jpg\tcat;dog\n",
    "one_hot.csv": "path,cat,dog\na.jpg,1,0\nb.jpg,0,1.0\nc.jpg,true,1\n",
    "one_hot_tabs.tsv": "image\tcat\tdog\tid\na.jpg\t1\t\ta.jpg\nb.jpg\t\t1\tb.jpg\nc.jpg\t1\t1\tc.jpg\n",
    "lines.jsonl": '{"image": "a.jpg", "label": "cat"}\n{"file": "b.jpg", "tags": ["dog"]}\n'
    '{"path": "c.jpg", "labels": "cat; dog"}\n',
}


@pytest.mark.parametrize("name", TABLES)
def test_the_usual_tables(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(TABLES[name])
    split = Manifest(tmp_path, classes_from=name).split(name)
    assert split.classes == ("cat", "dog")
    found = dict(zip(split.ids, shown(split), strict=True))
    assert found == dict(zip(("a.jpg", "b.jpg", "c.jpg"), CAT_DOG, strict=True))
    assert split.images.where(0) == str(tmp_path / "a.jpg")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,cat,dog\na,1,0\nb,2,0\n", "line 3: column 'cat' has '2', expected 0 or 1"),
        ("path,image,labels\na,b,cat\n", "line 1: both 'path' and 'image' stand for the path: leave one out"),
        ("path;labels\na;b\n", "line 1: no 'path' among path;labels: fields are separated by commas or tabs"),
    ],
)
def test_tables_that_say_too_little(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path, train_csv=text)
    assert message in refused(tmp_path)


def told(root: Path, name: str = "train", **options: object) -> list[str]:
    """The warnings that `check` lists, which are those that training logs."""
    faults: list[Fault] = []
    Manifest(root, **options).annotations(name, faults.append)
    return [fault.what for fault in faults if fault.grade is Grade.WARNS]


@pytest.mark.parametrize(
    ("separator", "name"),
    [("|", "pipe"), (", ", "comma"), (",", "comma"), (" ", "space"), ("/", "slash"), ("+", "plus")],
)
def test_several_labels_in_a_field_are_noticed_and_taken_apart(
    tmp_path: Path, separator: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    joint = f"cat{separator}dog"
    write(tmp_path, train_csv=f'path,labels\na,cat\nb,dog\nc,"{joint}"\nd,"{joint}"\n')
    says = f"2 labels such as {joint!r} look like several: label_separator={name} takes them apart"
    assert told(tmp_path) == [says]
    assert Manifest(tmp_path).split("train").classes == ("cat", joint, "dog")
    assert [record.getMessage() for record in caplog.records] == [f"{tmp_path}/train.csv: {says}"]
    for mark in (name, separator):
        assert shown(Manifest(tmp_path, label_separator=mark).split("train")) == [*CAT_DOG, {"cat", "dog"}]
        assert told(tmp_path, label_separator=mark) == []


@pytest.mark.parametrize("labels", ["red kite;red fox", "black, white;grey", "cat;Hund", "a/b;c"])
def test_names_that_only_hold_a_separator_are_left_in_peace(tmp_path: Path, labels: str) -> None:
    write(tmp_path, train_csv=f'path,labels\na,"{labels}"\n')
    assert told(tmp_path) == []


def test_a_separator_is_never_empty(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^label_separator is empty: give it as it stands, or as one of comma, "):
        Manifest(tmp_path, label_separator="")


def test_one_class_in_two_spellings_is_told_with_counts(tmp_path: Path) -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    rows = [composed, decomposed, "Dog", "dog", "dog"]
    write(tmp_path, train_csv="path,labels\n" + "".join(f"{i}.jpg,{name}\n" for i, name in enumerate(rows)))
    assert told(tmp_path) == [
        "'Dog' (1 image), 'dog' (2 images) are 2 classes: write them in one way if one is meant",
        r"'cafe\u0301' (1 image), 'caf\xe9' (1 image) are 2 classes: write them in one way if one is meant",
    ]


def test_rows_of_one_image_are_counted(tmp_path: Path) -> None:
    write(tmp_path, train_csv=TABLES["rows.csv"])
    assert told(tmp_path) == ["2 of 5 rows name an image again: its labels are taken together"]


def test_a_row_a_label_is_a_layout_and_no_fault(tmp_path: Path) -> None:
    """But for a row that is there twice."""
    rows = "a,dog\na,cat\nb,dog\n"
    write(tmp_path, train_csv=f"path,label\n{rows}")
    assert told(tmp_path) == []
    write(tmp_path, train_csv=f"path,label\n{rows}b,dog\n")
    assert told(tmp_path) == ["2 of 4 rows name an image again: its labels are taken together"]


@pytest.mark.parametrize(
    ("table", "hint"),
    [
        ("a.jpg,dog\nb.jpg,cat\n", "no 'path' among a.jpg, dog: the first line must name the columns, as path,labels"),
        ("path;labels\na.jpg;dog\n", "fields are separated by commas or tabs, and labels within one by semicolons"),
    ],
)
def test_a_table_of_another_kind_is_told_what_it_lacks(tmp_path: Path, table: str, hint: str) -> None:
    write(tmp_path, train_csv=table)
    with pytest.raises(InputError, match=re.escape(hint)):
        Manifest(tmp_path).split("train")


def test_backslashes_in_missing_paths_are_pointed_at(tmp_path: Path) -> None:
    write(tmp_path, train_csv="path,labels\nimages\\a.jpg,dog\n")
    with pytest.raises(InputError, match=r"Paths are written with /, not \\\."):
        refuse_missing(Manifest(tmp_path).split("train"))


def test_a_file_as_the_root(tmp_path: Path) -> None:
    write(tmp_path, train_csv="path,labels\na,dog\n")
    with pytest.raises(InputError, match=r"train\.csv is a file: give the folder that it lies in"):
        Manifest(tmp_path / "train.csv")


def test_where_classes_are_known_no_other_file_is_read(tmp_path: Path) -> None:
    write(tmp_path, test_csv="path,labels\na,dog\n")
    assert Manifest(tmp_path).split("test", ("cat", "dog")).labels.tolist() == [[-1, 1]]
    assert "No split 'train'" in refused(tmp_path, "test")


def test_a_table_one_folder_up(tmp_path: Path) -> None:
    """Whoever names the folder of the pictures is told where the table lies."""
    write(tmp_path, train_csv=CSV)
    (tmp_path / "images").mkdir()
    said = refused(tmp_path / "images")
    assert f"{tmp_path / 'train.csv'} lies one folder up: root={tmp_path} takes it." in said
    assert "Expected" not in said


def test_the_only_split(tmp_path: Path) -> None:
    write(tmp_path, train_csv="path,labels\na,dog\n")
    assert Manifest(tmp_path).is_alone("train", "test")
    assert "it has train, and train_split and eval_split say which to take. Without another, holdout=0.2" in refused(
        tmp_path, "test"
    )
    write(tmp_path, other_csv="path,labels\na,dog\n")
    assert not Manifest(tmp_path).is_alone("train", "test")
