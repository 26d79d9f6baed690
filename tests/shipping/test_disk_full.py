"""predict and export where a disk is full or may not be written to: one message, nothing half-written, no work lost."""

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lshfm.datasets.shapes import CLASSES, Shapes
from lshfm.models.backbones import torchvision_classifier
from tests.cli.conftest import here
from tests.disks import small_disk
from tests.jobs import network, save_trained

ON = ("dataset.cache=off", "workers=0")
PREDICT = ("predict", "s", "input=photos", "batch_size=4", "gpus=[]", "workers=0")


@pytest.fixture
def photos(hydra: None, tmp_path: Path) -> Path:
    """A folder of 20 pictures, beside the checkpoint s."""
    folder = tmp_path / "photos"
    folder.mkdir()
    images = Shapes(num_train=1, num_eval=20).split("test").images
    for index in range(20):
        Image.fromarray(images.pixels(index, 24)).save(folder / f"{index:02}.png")
    save_trained("s", model=network(3))
    return folder


@pytest.fixture(name="small_disk")
def _small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 128 KiB."""
    with small_disk(tmp_path, "128k") as disk:
        yield disk


def test_predictions_go_on_when_there_is_room_again(photos: Path, small_disk: Path, tmp_path: Path) -> None:
    """What is written by then counts; files with their final names are whole or not there."""
    filler = small_disk / "filler"
    filler.write_bytes(bytes(45_000))
    words = (*PREDICT, f"output_dir={small_disk}", "name=a", "pictures=true", "features=true")
    said = here(tmp_path, *words, code=1)
    assert said.count("lshfm: error:") == 1
    assert "the disk is full: cannot write" in said
    folder = small_disk / "predict/a"
    assert not {"predictions.jsonl", "features.npy", "ids.npy", "results.json"} & {p.name for p in folder.iterdir()}
    for picture in (folder / "pictures").glob("*"):
        Image.open(picture).load()
    filler.unlink()
    subprocess.run(["mount", "-o", "remount,size=1m", small_disk], check=True)
    assert "pictures are done already" in here(tmp_path, *words)
    here(tmp_path, *PREDICT, "name=b", "features=true")
    whole = tmp_path / "outputs/predict/b"
    for name in ("predictions.jsonl", "features.npy", "ids.npy"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()
    assert len(list((folder / "pictures").iterdir())) == 20


@pytest.mark.slow
@pytest.mark.parametrize("name", ["onnx", "pt2", "safetensors", "torchvision", "timm", "published"])
def test_nothing_is_kept_of_an_export_without_room(photos: Path, small_disk: Path, tmp_path: Path, name: str) -> None:
    if name in ("torchvision", "timm", "published"):
        save_trained("s", model=torchvision_classifier("resnet18", len(CLASSES)), arch="resnet18")
    said = here(tmp_path, "export", "s", f"format={name}", f"file={small_disk}/x", *ON, code=1)
    assert said.count("lshfm: error:") == 1
    assert f"the disk is full: cannot write {small_disk}/x (nothing was written there)" in said
    assert list(small_disk.iterdir()) == []


def test_where_nothing_may_be_written_is_said_before_any_work(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/proc lets even root make nothing; elsewhere what the disk answers to a trial counts, not the rights alone."""
    monkeypatch.setattr("lshfm.commands.predict.open_predictor", lambda *_a, **_k: pytest.fail("a network was opened"))
    assert "output_dir: /proc cannot be written to" in here(tmp_path, *PREDICT, "output_dir=/proc/x", code=2)
    said = here(tmp_path, "export", "s", "format=safetensors", "file=/proc/x/a", *ON, code=2)
    assert "file: /proc cannot be written to" in said

    def denied(**_keywords: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", denied)
    said = here(tmp_path, *PREDICT, code=2)
    assert f"output_dir: {tmp_path} cannot be written to (Permission denied); choose another output_dir=" in said
    assert not (tmp_path / "outputs").exists()


def test_rights_that_go_while_it_runs(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One message, and what stood there before still does."""
    exports = tmp_path / "exports"
    exports.mkdir()
    (exports / "s.safetensors").write_text("before")

    def denied(path: Path, *_a: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "write_bytes", denied)
    said = here(tmp_path, "export", "s", "format=safetensors", "overwrite=true", *ON, code=1)
    assert said.count("lshfm: error:") == 1
    assert "Permission denied" in said
    assert [path.name for path in exports.iterdir()] == ["s.safetensors"]
    assert (exports / "s.safetensors").read_text() == "before"
