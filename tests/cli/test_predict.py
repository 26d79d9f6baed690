"""lshfm predict on mixed folders of real pictures."""

import csv
import json
import shutil
import signal
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import lshfm
from lshfm.shipping import answers
from tests.cli.conftest import Refuse, Run, Start, here
from tests.cli.killing import Trap

MIXED = ("predict", "checkpoint=a", "input=photos", "batch_size=3", "gpus=[]", "workers=0")


@pytest.fixture
def photos(tmp_path: Path, test_data: Path) -> Path:
    """Real pictures, a broken one, one cut short, text, and a picture whose name would steer a terminal."""
    folder = tmp_path / "photos"
    (folder / "inner").mkdir(parents=True)
    real = sorted((test_data / "VOCdevkit/VOC2007/JPEGImages").glob("*.jpg"))[:7]
    for index, path in enumerate(real):
        shutil.copyfile(path, folder / ("inner" if index > 4 else ".") / path.name)
    (folder / "cut.jpg").write_bytes(real[0].read_bytes()[:3000])
    (folder / "empty.png").touch()
    (folder / "notes.txt").write_text("no picture")
    Image.new("RGB", (5, 3)).save(folder / "z\x1b[31m.png")
    return folder


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def numbers(entries: Iterable[dict[str, object]]) -> np.ndarray:
    return np.array([entry["logits"] for entry in entries if "logits" in entry])


@pytest.mark.slow
@pytest.mark.usefixtures("has_run")
def test_a_killed_command_goes_on_where_it_was(run: Run, start: Start, photos: Path, tmp_path: Path) -> None:
    """All others are done though two are broken; the files are those of an undisturbed command, byte for byte."""
    words = (*MIXED, "features=true", "pictures=true", "sheet=true")
    ended = run(*words, "name=whole", code=1)
    first, cut, empty = ended.stderr.splitlines()
    assert first == "lshfm: error: 2 of 10 pictures cannot be read; all others are done:"
    assert cut.startswith("  photos/cut.jpg cannot be read: image file is truncated")
    assert empty == "  photos/empty.png is empty"
    whole, killed = (tmp_path / "outputs/predict" / name for name in ("whole", "killed"))
    trap = Trap("lshfm.shipping.writing:append_line", 2, "half")  # in the middle of the second batch's lines
    assert start(*words, "name=killed", trap=trap).wait() == -signal.SIGKILL
    again = run(*words, "name=killed", code=1)
    assert "3 of 10 pictures are done already" in again.stdout
    for name in ("predictions.jsonl", "features.npy", "ids.npy", "sheet.jpg"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
    assert {path.name for path in killed.iterdir()} == {path.name for path in whole.iterdir()} == {
        ".lock", "identity.json", "results.json", "predictions.jsonl", "features.npy", "ids.npy", "sheet.jpg",
        "pictures",
    }  # fmt: skip
    entries = lines(whole / "predictions.jsonl")
    names = [str(Path(str(entry["path"])).relative_to("photos")) for entry in entries]
    assert names == sorted(names)
    assert len(names) == 10  # the text is no picture
    assert [Path(str(e["path"])).name for e in entries if "error" in e] == ["cut.jpg", "empty.png"]
    good = [str(entry["path"]) for entry in entries if "error" not in entry]
    assert np.load(whole / "ids.npy").tolist() == good
    assert len(list((whole / "pictures").iterdir())) == len(good) == 8
    model = lshfm.load(tmp_path / "checkpoints/a.ckpt", "cpu")
    assert np.allclose(np.load(whole / "features.npy"), model.features([tmp_path / name for name in good]), atol=1e-5)
    assert np.allclose(
        numbers(entries), [each.logits for each in model.predict([tmp_path / n for n in good])], atol=1e-5
    )
    assert "is finished" in run(*words, "name=whole", code=1).stdout  # and says again what is broken


@pytest.mark.usefixtures("has_run")
def test_a_few_are_shown_and_many_written(photos: Path, tmp_path: Path) -> None:
    few = here(tmp_path, "predict", "checkpoint=a", "input=photos/inner/*", "top=2", "gpus=[]").splitlines()
    assert [line.partition(": ")[0] for line in few] == sorted(
        f"photos/inner/{p.name}" for p in (photos / "inner").iterdir()
    )
    assert all(len(line.split(", ")) == 2 for line in few)
    assert not (tmp_path / "outputs/predict").exists()
    named = here(tmp_path, "predict", "checkpoint=a", "input=photos/z\x1b[31m.png", "threshold=1", "gpus=[]")
    assert named == "photos/z\\x1b[31m.png: no label passes its threshold\n"
    chosen = sorted(photos.glob("0*.jpg"), reverse=True)
    (tmp_path / "list.txt").write_text("\n".join(f"photos/{path.name}" for path in chosen) + "\nphotos/gone.jpg")
    said = here(tmp_path, "predict", "checkpoint=a", "input=list.txt", "format=csv", "top=1", "gpus=[]", code=1)
    assert "photos/gone.jpg cannot be read: No such file or directory" in said
    (folder,) = (tmp_path / "outputs/predict").iterdir()
    assert folder.name == "a_list.txt"
    rows = list(csv.DictReader((folder / "predictions.csv").read_text().splitlines()))
    assert [row["path"] for row in rows] == [f"photos/{path.name}" for path in chosen] + ["photos/gone.jpg"]
    assert all(len(row["labels"].split(";")) == 1 for row in rows)
    other = here(tmp_path, "predict", "checkpoint=a", "input=list.txt", "format=csv", "top=2", "gpus=[]", code=2)
    assert "holds a run with other settings" in other


@pytest.mark.usefixtures("has_run")
def test_a_name_alone_is_the_checkpoint_and_no_cell_is_a_formula(tmp_path: Path) -> None:
    """A path that a spreadsheet would compute gets ./ before it; JSON lines have it as it is."""
    Image.new("RGB", (4, 4)).save(tmp_path / "=1+1.png")
    (tmp_path / "list.txt").write_text("gone.png\n")
    said = here(tmp_path, "predict", "a", "input=list.txt", "gpus=[]", code=1)
    assert said == "lshfm: error: the picture cannot be read:\n  gone.png cannot be read: No such file or directory\n"
    for kind in ("csv", "jsonl"):
        here(tmp_path, "predict", "a", "input==1+1.png", f"format={kind}", "threshold=0", "gpus=[]", f"name={kind}")
    (row,) = csv.DictReader((tmp_path / "outputs/predict/csv/predictions.csv").read_text().splitlines())
    assert row["path"] == "./=1+1.png"
    assert float(row[f"logits: {lshfm.load(tmp_path / 'checkpoints/a.ckpt', 'cpu').classes[0]}"])
    assert lines(tmp_path / "outputs/predict/jsonl/predictions.jsonl")[0]["path"] == "=1+1.png"
    assert answers.cell("=SUM(A1)") == "'=SUM(A1)"
    assert answers.cell("dog 0.9;\x1b[31m") == "dog 0.9;\\x1b[31m"


@pytest.mark.usefixtures("has_run")
@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["input=nowhere"], "input=nowhere: no such file or folder"),
        (["input=*.gif"], "*.gif: nothing is called so"),
        (["input=checkpoints"], "checkpoints holds no pictures"),
        ([], "not given: input. Add input=..."),
        (["input=photo.jpg", "threshold=2"], "threshold=2.0: must be at most 1"),
        (["input=photo.jpg", "conf=0.3"], "conf: no such key or group; it is threshold here"),
        (["source=photo.jpg"], "it is input here"),
        (["input=photo.jpg", "checkpoint=b"], "no checkpoint in checkpoints is called so"),
        (["input=photo.jpg", "checkpoint=photo.jpg"], "photo.jpg: not a checkpoint, or a truncated one"),
        (["input=photo.jpg", "checkpoint=x.pt2"], "reading a pt2 file can run code in it"),
        (["input=photo.jpg", "format=csv", "output_dir=photo.jpg"], "is a file, so photo.jpg/predict"),
        (["input=photo.jpg", "gpus=[0,1]"], "this machine has no CUDA device"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said(tmp_path: Path, refuse: Refuse, words: list[str], fault: str) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "photo.jpg")
    (tmp_path / "x.pt2").touch()
    given = words if any(word.startswith("checkpoint=") for word in words) else ["checkpoint=a", *words]
    assert fault in refuse("predict", *given)
