"""lshfm check through the command line: what it says, prints and ends with."""

import json
from pathlib import Path

from PIL import Image

from tests.cli.conftest import here


def manifest(folder: Path, *, broken: bool = False) -> list[str]:
    for name in ("a", "b"):
        Image.new("RGB", (8, 6), (ord(name), 0, 0)).save(folder / f"{name}.png")
    if broken:
        (folder / "b.png").write_bytes(b"no picture")
    (folder / "train.csv").write_text("path,labels\na.png,dog;cat\n" + "gone.png,dog\n" * broken)
    (folder / "test.csv").write_text("path,labels\nb.png,dog\n")
    return ["check", "dataset=manifest", f"dataset.root={folder}"]


def test_a_good_set(tmp_path: Path) -> None:
    said = here(tmp_path, *manifest(tmp_path))
    assert "manifest: no faults; 2 images in" in said
    assert "images/s" in said
    assert not (tmp_path / "outputs").exists()


def test_faults_are_listed_and_give_exit_code_1(tmp_path: Path) -> None:
    said = here(tmp_path, *manifest(tmp_path, broken=True), code=1)
    assert f"train: missing image: 1\n  {tmp_path}/gone.png: cannot be read" in said
    assert f"test: broken image: 1\n  {tmp_path}/b.png: is not an image that Pillow reads" in said
    assert "2 faults" in said
    assert "error" not in said


def test_json_is_all_that_is_printed(tmp_path: Path) -> None:
    found = json.loads(here(tmp_path, *manifest(tmp_path, broken=True), "format=json", code=1))
    assert found["num_faults"] == 2
    assert found["splits"]["train"]["classes"]["dog"] == {"present": 2, "difficult": 0}
    assert [fault["kind"] for fault in found["splits"]["test"]["faults"]] == ["broken image"]
    assert (found["images"], found["dataset"]) == (3, "manifest")


def test_wrong_input_is_exit_code_2(tmp_path: Path) -> None:
    words = manifest(tmp_path)
    assert "No split 'val'" in here(tmp_path, *words, "dataset.eval_split=val", code=2)
    assert "format=xml: must be one of table, json" in here(tmp_path, *words, "format=xml", code=2)
    assert "gpus: no such key" in here(tmp_path, *words, "gpus=[]", code=2)
    assert "dataset.root" in here(tmp_path, "check", "dataset=manifest", code=2)


def test_help_names_its_keys(tmp_path: Path) -> None:
    said = here(tmp_path, "check", "--help")
    assert "format" in said
    assert "gpus" not in said
