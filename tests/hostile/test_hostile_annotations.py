"""Annotations, lists, manifests, links and names that are wrong or meant ill: a message, or the right labels."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lshfm.datasets.coco import COCO
from lshfm.datasets.manifest import Manifest
from lshfm.datasets.split import Split
from lshfm.datasets.voc import VOC
from lshfm.errors import InputError

pytestmark = pytest.mark.timeout(60)

SECRET = "a secret of the user's"


def shown(split: Split) -> list[set[str]]:
    """The classes that each image shows."""
    return [{split.classes[i] for i, label in enumerate(row) if label == 1} for row in split.labels]


def refused(read: Callable[[], Split]) -> str:
    """The one message; nothing of a file outside the data set is in it."""
    with pytest.raises(InputError) as caught:
        read()
    said = str(caught.value)
    assert SECRET not in said
    assert len(said) < 10_000
    return said


def voc(root: Path, xml: str | bytes = "", ids: str | bytes = "a\n") -> Split:
    """A devkit of one annotation, a.xml, read."""
    for part in ("ImageSets/Main", "Annotations", "JPEGImages"):
        (root / part).mkdir(parents=True, exist_ok=True)
    (root / "ImageSets/Main/train.txt").write_bytes(ids.encode() if isinstance(ids, str) else ids)
    (root / "Annotations/a.xml").write_bytes(xml.encode() if isinstance(xml, str) else xml)
    return VOC(root).split("train")


def cat(name: str = "cat", rest: str = "") -> str:
    return f"<annotation><object><name>{name}</name>{rest}</object></annotation>"


ENTITIES = "".join(f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(9))

BAD_XML: dict[str, tuple[str | bytes, str]] = {
    "ten to the ninth": (f'<!DOCTYPE l [<!ENTITY a "lol">{ENTITIES}]>{cat("&j;")}', "document type (l) is not allowed"),
    "one large entity": (f'<!DOCTYPE l [<!ENTITY a "{"x" * 10**5}">]>{cat("&a;" * 10**4)}', "is not allowed"),
    "outside file": ('<!DOCTYPE a [<!ENTITY x SYSTEM "file:///SECRET">]>' + cat("&x;"), "is not allowed"),
    "parameter entity": ('<!DOCTYPE a [<!ENTITY % x SYSTEM "file:///SECRET"> %x;]>' + cat(), "is not allowed"),
    "outside document type": ('<!DOCTYPE a SYSTEM "http://127.0.0.1:9/x.dtd">' + cat(), "is not allowed"),
    "public document type": ('<!DOCTYPE a PUBLIC "-//x" "http://127.0.0.1:9/x.dtd">' + cat(), "is not allowed"),
    "unknown entity": (cat("&x;"), "undefined entity"),
    "empty": ("", "broken XML: no element found"),
    "cut off": (cat()[:30], "broken XML"),
    "nul": (b"<annotation>\0</annotation>", "broken XML"),
    "not text": (bytes(range(256)), "broken XML"),
    "html": ("<html/>", "starts with <html>, not <annotation>"),
    "encoding zip": (f"<?xml version='1.0' encoding='zip'?>{cat()}", "cannot be used"),
    "encoding utf-7": (f"<?xml version='1.0' encoding='utf-7'?>{cat()}", "cannot be used"),
    "encoding undefined": (f"<?xml version='1.0' encoding='undefined'?>{cat()}", "cannot be used"),
    "encoding idna": (f"<?xml version='1.0' encoding='idna'?>{cat()}", "cannot be used"),
    "control character": (cat("\x1b[31m"), "broken XML"),
    "escaped control character": (cat("&#155;31m"), r"unknown class '\x9b31m'"),
    "difficult of control characters": (cat("cat", "<difficult>&#155;</difficult>"), r"<difficult> is '\x9b'"),
    "endless name": (cat("x" * 10**6), "(1000000 characters)"),
    "endless root": (f"<{'a' * 10**5}/>", "(100000 characters)"),
    "200000 elements deep": ("<annotation>" + "<a>" * 200_000 + "</a>" * 200_000 + "</annotation>", "have no label"),
}


@pytest.mark.parametrize("kind", BAD_XML)
def test_xml_that_is_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / "secret").write_text(SECRET)
    text, message = BAD_XML[kind]
    text = text.replace("/SECRET", str(tmp_path / "secret")) if isinstance(text, str) else text
    assert message in refused(lambda: voc(tmp_path, text))


GOOD_XML: dict[str, str | bytes] = {
    "utf-16": cat().encode("utf-16"),
    "latin-1": ("<?xml version='1.0' encoding='latin-1'?><!-- é -->" + cat()).encode("latin-1"),
    "byte order mark": b"\xef\xbb\xbf" + cat().encode(),
    "cdata": cat("<![CDATA[cat]]>"),
    "character reference": cat("c&#97;t"),
    "a style sheet that is not fetched": "<?xml-stylesheet href='http://127.0.0.1:9/x'?>" + cat(),
    "an inclusion that is not followed": cat().replace(
        "<object>", '<x:include xmlns:x="http://www.w3.org/2001/XInclude" href="/etc/passwd"/><object>'
    ),
    "two names": cat("cat", "<name>dog</name>"),
    "boxes that are none": cat("cat", "<bndbox><xmin>NaN</xmin><ymax>1e999</ymax></bndbox>"),
    "line ends": cat().replace("><", ">\r\n<"),
}


@pytest.mark.parametrize("kind", GOOD_XML)
def test_xml_that_is_odd_and_right(tmp_path: Path, kind: str) -> None:
    assert shown(voc(tmp_path, GOOD_XML[kind])) == [{"cat"}]


CLIMBING = ["../a", "../../etc/passwd", "/etc/passwd", "a/../../b", "..", ".", "a/b", "a\\..\\b", "a\0", "-rf", " a\tb"]


@pytest.mark.parametrize("id", [*CLIMBING, "\u200b", "~", "~root", "$HOME", "a;b", "%2e%2e", "a\u2028.."])
def test_image_ids_of_lists_are_plain_names(tmp_path: Path, id: str) -> None:
    assert "is not a plain name" in refused(lambda: voc(tmp_path, cat(), f"a\n{id}\n"))


def test_lists_of_other_encodings_and_endless_names(tmp_path: Path) -> None:
    assert "not UTF-8" in refused(lambda: voc(tmp_path, cat(), "a\n".encode("utf-16")))
    assert "lists no image" in refused(lambda: voc(tmp_path, cat(), b"\xef\xbb\xbf\n \r\n"))
    assert "has 5000 characters; 250 are the most" in refused(lambda: voc(tmp_path, cat(), "a" * 5000))


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/b", "", ".", "..", "a\0", "x\n"])
def test_split_names_are_plain(tmp_path: Path, name: str) -> None:
    voc(tmp_path, cat())
    for source in (VOC(tmp_path), COCO(tmp_path), Manifest(tmp_path)):
        assert "is not a plain name" in refused(lambda source=source: source.split(name))  # type: ignore[misc]


def coco(root: Path, data: object, **settings: str) -> Split:
    (root / "annotations").mkdir(exist_ok=True)
    (root / "val").mkdir(exist_ok=True)
    text = data if isinstance(data, str) else json.dumps(data)
    (root / "annotations/instances_val.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    return COCO(root, **settings).split("val")


def entries(**changes: dict[str, Any]) -> dict[str, Any]:
    """One image of one cat, with fields of its only entries changed."""
    data: dict[str, Any] = {
        "categories": [{"id": 9, "name": "cat"}],
        "images": [{"id": 7, "file_name": "7.jpg"}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 9}],
    }
    for key, change in changes.items():
        data[key][0].update(change)
    return data


NAN, INFINITY = float("nan"), float("inf")
OUTSIDE = "outside its folder"
BAD_COCO: dict[str, tuple[object, str]] = {
    **{
        f"image id {value!r:.20}": (entries(images={"id": value}), "images[0]: needs 'id', a whole number or a text")
        for value in (NAN, INFINITY, -INFINITY, True, " ", "7" * 5000, 7.0, None, [7], {"a": 7})
    },
    **{
        f"category {value!r:.20}": (entries(annotations={"category_id": value}), "needs 'category_id', a whole")
        for value in ("", 9.0, NAN, False, None)
    },
    **{f"file {name!r:.20}": (entries(images={"file_name": name}), OUTSIDE) for name in
       ("..", "../7.jpg", "a/../../b", "/etc/passwd", "//etc/passwd", "../val/7.jpg", "a/..", "", ".", "./")},
    "unknown image": (entries(annotations={"image_id": 10**30}), "has the unknown image_id"),
    "name of nul": (entries(images={"file_name": "a\0.jpg"}), "holds a NUL"),
    "endless name": (entries(images={"file_name": "x" * 10**6}), "has 1000000 characters; 4096 are the most"),
    "half a character": (entries(images={"file_name": "\ud800"}), "holds half a character"),
    "no name": (entries(categories={"name": " "}), "is no name"),
    "endless class": (entries(categories={"name": "x" * 10**6}), "has 1000000 characters; 200 are the most"),
    "class of escapes": (entries(categories={"name": "\x1b[31m"}), "holds a control character"),
    "class of another type": (entries(categories={"name": ["cat"]}), "needs 'name', a text"),
    "nan": ("NaN", "not in COCO's format"),
    "list": ("[]", "not in COCO's format"),
    "lists that are none": ('{"categories": {}, "images": NaN, "annotations": 5}', "expected a list 'categories'"),
    "deep lists": ('{"images": ' + "[" * 10**5, "broken JSON: brackets are nested too deeply"),
    "deep objects": ('{"a":' * 10**5, "broken JSON: brackets are nested too deeply"),
    "a number of 5000 digits": ('{"images": ' + "1" * 5000 + "}", "broken JSON: Exceeds the limit"),
    "two files in one": (json.dumps(entries()) * 2, "broken JSON: Extra data"),
    "cut off": (json.dumps(entries())[:-5], "broken JSON"),
    "comments": ("// c\n{}", "broken JSON"),
    "half a character in the file": ('{"a": "\ud800"}', "not UTF-8"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD_COCO)
def test_coco_files_that_are_refused(tmp_path: Path, kind: str) -> None:
    data, message = BAD_COCO[kind]
    assert message in refused(lambda: coco(tmp_path, data))


GOOD_COCO: dict[str, object] = {
    "boxes that are none": entries(annotations={"bbox": [NAN, "x", None], "area": -INFINITY}),
    "odd crowds and segments": entries(annotations={"iscrowd": "maybe", "segmentation": {"counts": 5}}),
    "other parts": entries() | {"info": NAN, "licenses": 5, "videos": [None]},
    "keys that come twice, of which the last counts": json.dumps(entries()).replace('"id": 7', '"id": 1, "id": 7'),
    "huge ids": entries(images={"id": 10**40}, annotations={"image_id": 10**40}),
    "negative ids": entries(images={"id": -1}, annotations={"image_id": -1}),
    "byte order mark": "\ufeff" + json.dumps(entries()),
    "a megabyte of spaces": " " * 2**20 + json.dumps(entries()),
}


@pytest.mark.parametrize("kind", GOOD_COCO)
def test_coco_files_that_are_odd_and_right(tmp_path: Path, kind: str) -> None:
    assert shown(coco(tmp_path, GOOD_COCO[kind])) == [{"cat"}]


@pytest.mark.parametrize("name", ["~/x.jpg", "$HOME/x.jpg", "%2e%2e/x.jpg", "file:x"])
def test_names_that_only_look_as_if_they_climbed_stay_inside(tmp_path: Path, name: str) -> None:
    split = coco(tmp_path, entries(images={"file_name": name}))
    assert split.images.where(0) == str(tmp_path / "val" / name)


@pytest.mark.parametrize("part", ["annotations", "images"])
def test_templates_are_the_users_own_and_may_point_anywhere(tmp_path: Path, part: str) -> None:
    coco(tmp_path, entries())
    elsewhere = {"annotations": tmp_path / "annotations/instances_{split}.json", "images": tmp_path / "val"}
    (tmp_path / "other/annotations").mkdir(parents=True)
    (tmp_path / "other/val").mkdir()
    (tmp_path / "other/annotations/instances_val.json").write_text(json.dumps(entries()))
    source = COCO(tmp_path / "other", **{part: str(elsewhere[part])})
    assert shown(source.split("val")) == [{"cat"}]
    assert source.names() == ["val"]


def manifest(root: Path, text: str | bytes, ending: str = "jsonl", **settings: Any) -> Split:
    (root / f"train.{ending}").write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    return Manifest(root, **settings).split("train")


BAD_LINES: dict[str, tuple[str, str]] = {
    "climbs": ('{"path": "../x", "labels": ["a"]}', "leads out of the root; write an absolute path"),
    "climbs within": ('{"path": "a/../../x", "labels": ["a"]}', "leads out of the root"),
    "nul": ('{"path": "a\\u0000", "labels": ["a"]}', "holds a NUL"),
    "endless path": (f'{{"path": "{"x" * 10**6}", "labels": ["a"]}}', "4096 are the most"),
    "endless label": (f'{{"path": "x", "labels": ["{"x" * 10**6}"]}}', "200 are the most"),
    "endless field": (f'{{"path": "x", "labels": [], "{"x" * 10**6}": 1}}', "(1000000 characters)"),
    "label without a name": ('{"path": "x", "labels": [""]}', "is no name"),
    "label of escapes": ('{"path": "x", "labels": ["\\u001b[31m"]}', "holds a control character"),
    "labels that are nan": ('{"path": "x", "labels": NaN}', "'labels' must be a list of texts"),
    "labels of nan": ('{"path": "x", "labels": [NaN]}', "'labels' must be a list of texts"),
    "id that is true": ('{"path": "x", "labels": ["a"], "id": true}', "'id' must be text"),
    "path that is a list": ('{"path": ["x"], "labels": ["a"]}', "'path' must be text"),
    "deep": ("[" * 10**5, "broken JSON"),
    "nan": ("NaN", "expected an object"),
    "fields of escapes": ('{"path": "x", "labels": ["a"], "\\u001b[31m": 1}', r"unknown field '\x1b[31m'"),
}


@pytest.mark.parametrize("kind", BAD_LINES)
def test_lines_that_are_refused(tmp_path: Path, kind: str) -> None:
    line, message = BAD_LINES[kind]
    assert message in refused(lambda: manifest(tmp_path, line))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": 5}, "must be a list"),
        ({"classes": {"a": 1}}, "must be a list"),
        ({"classes": [1]}, "classes: class=1 must be a text"),
        ({"classes": [None]}, "must be a text"),
        ({"classes": [["a"]]}, "must be a text"),
        ({"classes_from": None}, "No split 'None'"),
        ({"classes_from": "../x"}, "is not a plain name"),
        ({"unlabelled": ["error"]}, "is not one of error, negative"),
    ],
)
def test_settings_of_wrong_types(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    assert message in refused(lambda: manifest(tmp_path, '{"path": "x", "labels": ["a"]}', **settings))


def test_a_split_that_is_called_by_a_number(tmp_path: Path) -> None:
    """To YAML it is one, and so classes_from is given it."""
    (tmp_path / "2007.csv").write_text("path,labels\nx,a\n")
    assert Manifest(tmp_path, classes_from=2007).split("2007").classes == ("a",)  # type: ignore[arg-type]


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (10, 20, 30)).save(path, "PNG")
    return path


def test_absolute_paths_and_odd_names_are_the_users_own(tmp_path: Path) -> None:
    names = [str(picture(tmp_path / "elsewhere/a.png")), "new\nline.png", "猫.png", 'a;b,c".png']
    for name in names[1:]:
        picture(tmp_path / "root" / name)
    text = "".join(json.dumps({"path": name, "labels": ["a"]}) + "\n" for name in names)
    split = manifest(tmp_path / "root", text)
    assert split.ids == tuple(names)
    assert all((split.images.pixels(i, 2) == (10, 20, 30)).all() for i in range(len(names)))


def test_linked_folders_and_files_are_followed(tmp_path: Path) -> None:
    picture(tmp_path / "store/a.jpg")
    voc(tmp_path / "real", cat())
    (tmp_path / "real/JPEGImages").rmdir()
    (tmp_path / "real/JPEGImages").symlink_to(tmp_path / "store")
    (tmp_path / "VOC2007").symlink_to(tmp_path / "real")
    split = VOC(tmp_path).split("train")
    assert (split.images.pixels(0, 2) == (10, 20, 30)).all()
    assert shown(split) == [{"cat"}]


@pytest.mark.parametrize("loop", [".", "VOC2007", "ImageSets", "ImageSets/Main", "ImageSets/Main/train.txt"])
def test_voc_of_link_loops(tmp_path: Path, loop: str) -> None:
    (tmp_path / "root").mkdir()
    path = tmp_path / "root" / loop if loop != "." else tmp_path / "link"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(path)
    refused(lambda: VOC(path if loop == "." else tmp_path / "root").split("train"))


@pytest.mark.parametrize("loop", ["annotations", "annotations/instances_val.json", "val"])
def test_coco_of_link_loops(tmp_path: Path, loop: str) -> None:
    path = tmp_path / loop
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(path)
    assert "is not there" in refused(lambda: COCO(tmp_path).split("val"))


def test_annotations_and_manifests_of_link_loops(tmp_path: Path) -> None:
    voc(tmp_path / "voc", cat())
    (tmp_path / "voc/Annotations/a.xml").unlink()
    for path in (tmp_path / "voc/Annotations/a.xml", tmp_path / "train.csv"):
        path.symlink_to(path)
    assert "cannot be read: Too many levels" in refused(lambda: VOC(tmp_path / "voc").split("train"))
    assert "No split 'train'" in refused(lambda: Manifest(tmp_path).split("train"))


@pytest.mark.parametrize(
    ("root", "message"),
    [
        ("", "root is empty"),
        (" ", "root is empty"),
        ("~nosuchuser/x", "root=~nosuchuser/x"),
        ("x" * 300, "File name too long"),
        ("x/" * 2100, "File name too long"),
        ("/dev/null", "/dev/null"),
        ("/proc/self/mem", "/proc/self/mem"),
        (None, "root=None must be a text"),
        (5, "root=5 must be a text"),
        (["a"], "must be a text"),
    ],
)
def test_roots_that_are_none(root: Any, message: str) -> None:
    for source in (VOC, COCO, Manifest):
        assert message in refused(lambda source=source: source(root).split("train"))  # type: ignore[misc]


def test_names_in_messages_stay_on_their_line(tmp_path: Path) -> None:
    for name in ("a\nb", "\x1b[31m", os.fsdecode(b"caf\xe9")):
        (tmp_path / name).mkdir()
    said = refused(lambda: VOC(tmp_path).split("train")).splitlines()
    assert len(said) == 2
    assert all(line.isprintable() for line in said)
